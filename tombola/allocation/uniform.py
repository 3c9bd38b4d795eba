"""Uniform allocations: the same density in every tensor, and the one that spares both ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from tombola.allocation.sharing import proportional
from tombola.errors import Emptied, UsageError
from tombola.masks import Mask

__all__ = ["UniformPlus", "sizes", "uniform"]


def sizes(mask: Mask) -> dict[str, int]:
    """name -> weights of the whole tensor, pruned ones included."""
    return {name: mask[name].numel() for name in mask}


def uniform(scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
    """The same density in every tensor: keep_l = d n_l, with n_l the whole tensor; where less is left, all of it.

    Gale et al. (2019, arXiv 1902.09574). The total is exact: largest remainders are rounded up.

    >>> import torch
    >>> mask = Mask({"a": torch.ones(10, 10, dtype=torch.bool), "b": torch.ones(5, 4, dtype=torch.bool)})
    >>> uniform({}, mask, 30)
    {'a': 25, 'b': 5}
    """
    return proportional(sizes(mask), mask.kept, keep)


@dataclass(frozen=True, kw_only=True, slots=True)
class UniformPlus:
    """Uniform, but the first layer stays whole if it is a 2-D convolution, and the last keeps `last` or more.

    Gale et al. (2019, arXiv 1902.09574), "uniform+": dense first convolution, at most 80 % sparsity in the last layer.

    Args:
        last: the smallest density of the last tensor, in [0, 1].

    >>> import torch
    >>> shapes = {"c": (2, 1, 3, 3), "f": (9, 9), "o": (5, 2)}
    >>> mask = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})
    >>> UniformPlus()({}, mask, 29)
    {'c': 18, 'f': 9, 'o': 2}
    """

    last: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.last <= 1:
            raise UsageError(f"last is {self.last!r}; expected a density from 0 to 1.")

    def __call__(self, scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
        """The counts; `scores` are not looked at. Raises `UsageError` where the two ends alone exceed `keep`."""
        left, whole = mask.kept, sizes(mask)
        first, last = next(iter(mask)), list(mask)[-1]
        least = {last: float(min(left[last], round(self.last * whole[last])))}
        if len(mask.shapes[first]) == 4:
            least[first] = float(left[first])
        needed = int(sum(least.values()))
        if needed > keep:
            ends = " and ".join(f"{int(count):,} weights of {name!r}" for name, count in sorted(least.items()))
            raise Emptied(
                f"uniform-plus keeps {ends}, {needed - keep:,} more than the {keep:,} weights asked for in all; keep "
                f"more, or use the uniform allocation."
            )
        return proportional(whole, left, keep, least)
