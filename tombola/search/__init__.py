"""Searches: generators that ask for trainings and masks. They read like the papers' pseudo-code.

Importing this package costs nothing: names are listed without torch, and each search is loaded when it is chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily
from tombola.search.registry import CONTROLS, SEARCHES

if TYPE_CHECKING:
    from tombola.search.plan import Plan

__all__ = ["CONTROLS", "SEARCHES", "Plan"]

__getattr__ = lazily(__name__, {"Plan": "tombola.search.plan"})
