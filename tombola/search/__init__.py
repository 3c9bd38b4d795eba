"""Searches: generators that ask for trainings and masks. They read like the papers' pseudo-code."""

from __future__ import annotations

from collections.abc import Callable

from tombola.requests import Search
from tombola.search.controls import CONTROLS
from tombola.search.imp import imp
from tombola.search.oneshot import oneshot
from tombola.search.plan import Plan, Reset

__all__ = ["CONTROLS", "SEARCHES", "Plan", "Reset", "imp", "oneshot"]

SEARCHES: dict[str, Callable[[Plan], Search]] = {"imp": imp, "oneshot": oneshot}
