"""Allocation: how a budget of weights is shared among the tensors of a mask.

Importing this package costs nothing: names are listed without torch, and each allocation is loaded when it is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tombola.allocation.registry import ALLOCATIONS
from tombola.errors import UsageError
from tombola.lazy import lazily
from tombola.registry import chosen

if TYPE_CHECKING:
    from tombola.allocation.base import Allocation, Reordering
    from tombola.allocation.layerwise import Layerwise
    from tombola.allocation.threshold import globally

__all__ = ["ALLOCATIONS", "Allocation", "Layerwise", "Reordering", "allocation_of", "globally"]

_HOMES = {
    "Allocation": "tombola.allocation.base",
    "Layerwise": "tombola.allocation.layerwise",
    "Reordering": "tombola.allocation.base",
    "globally": "tombola.allocation.threshold",
}

__getattr__ = lazily(__name__, _HOMES)


def allocation_of(choice: str | Allocation, defaults: Mapping[str, Any] | None = None) -> Allocation:
    """The allocation that a choice names (`NAME[:option=value,...]`), or the one that it is.

    Args:
        defaults: options of the layerwise allocation where the choice says nothing of them.

    Raises:
        UsageError: an unknown name or option.

    >>> allocation_of("layerwise:rate=0.5")
    Layerwise(rate=0.5, output=0.5, output_name='', conv=0.0)
    """
    if not (isinstance(choice, str) or callable(choice)):
        raise UsageError(f"The allocation is {choice!r}; expected a name, or (scores, mask, keep) -> counts.")
    if not isinstance(choice, str):
        return choice
    layerwise = choice.partition(":")[0] == "layerwise"
    found: Allocation = chosen(choice, ALLOCATIONS, "allocation", defaults if layerwise else None)
    return found
