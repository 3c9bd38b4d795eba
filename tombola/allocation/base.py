"""What an allocation is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from tombola.masks import Mask

__all__ = ["Allocation", "Reordering"]

Allocation = Callable[[Mapping[str, Tensor], Mask, int], dict[str, int]]
"""(scores, mask, keep) -> how many weights each tensor keeps; sums to `keep`, never above what is left."""


@runtime_checkable
class Reordering(Protocol):
    """An allocation that also says which weights must stay whatever their scores are."""

    def __call__(self, scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
        """The counts, from scores that `reordered` gave."""

    def reordered(self, scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, Tensor]:
        """Scores in which what must stay stands above all else; the others keep theirs."""
