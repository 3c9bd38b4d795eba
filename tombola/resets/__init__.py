"""Resets: what survivors (and pruned places) restart from. A remake is a function or a frozen dataclass.

Importing this package costs nothing: names are listed without torch, and each reset is loaded when it is chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily
from tombola.registry import chosen
from tombola.resets.registry import RESETS, RESETS_PRUNED

if TYPE_CHECKING:
    from tombola.resets.base import (
        FineTune,
        Ground,
        LrRewind,
        Remake,
        Reset,
        Restarting,
        Rewind,
        Started,
        facts_of,
        remakes,
        written,
    )

__all__ = [
    "RESETS",
    "RESETS_PRUNED",
    "FineTune",
    "Ground",
    "LrRewind",
    "Remake",
    "Reset",
    "Restarting",
    "Rewind",
    "Started",
    "facts_of",
    "remakes",
    "reset_of",
    "written",
]

_BASE = (
    "FineTune",
    "Ground",
    "LrRewind",
    "Remake",
    "Reset",
    "Restarting",
    "Rewind",
    "Started",
    "facts_of",
    "remakes",
    "written",
)

__getattr__ = lazily(__name__, dict.fromkeys(_BASE, "tombola.resets.base"))


def reset_of(choice: str | Reset) -> Reset:
    """The reset that a choice names (`NAME[:option=value,...]`), or the one that it is.

    Raises:
        UsageError: an unknown name or option.

    >>> reset_of("fine-tune")
    FineTune()
    """
    found: Reset = chosen(choice, RESETS, "reset") if isinstance(choice, str) else choice
    return found
