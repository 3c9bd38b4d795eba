"""Executors: where requests are computed. In this process, or in a pool of worker processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily

if TYPE_CHECKING:
    from tombola.executors.inline import Inline
    from tombola.executors.pool import Pool
    from tombola.executors.stacked import Stacked

__all__ = ["Inline", "Pool", "Stacked"]

__getattr__ = lazily(
    __name__,
    {
        "Inline": "tombola.executors.inline",
        "Pool": "tombola.executors.pool",
        "Stacked": "tombola.executors.stacked",
    },
)
