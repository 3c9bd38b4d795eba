"""Smart ratios: densities that fall with depth, chosen before anything is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from tombola.allocation.sharing import rounded
from tombola.allocation.uniform import sizes
from tombola.errors import Emptied, UsageError
from tombola.masks import Mask

__all__ = ["SmartRatio"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SmartRatio:
    """Density in proportion to (L - l + 1)^2 + (L - l + 1) in layer l of L, the output layer counted as one of them.

    A linear output layer has a density of its own, though.

    What a layer cannot hold is pushed on to the next; the output layer is the last that gets some of it, then those
    before it, where some of their weights were gone already.

    Su et al. (2020, arXiv 2009.11094): with the criterion `random`, "random tickets"; with `magnitude` after training,
    "hybrid tickets". There for VGG the ratio is also divided by l^2, which is not done here.

    Args:
        output: density of the last tensor if that is a matrix, in (0, 1]; with one layer it has the whole budget.

    >>> import torch
    >>> mask = Mask({n: torch.ones(10, 10, dtype=torch.bool) for n in "abc"})
    >>> SmartRatio()({}, mask, 120)  # 12 : 6, and 30
    {'a': 60, 'b': 30, 'c': 30}
    >>> SmartRatio()({}, mask, 210)  # 120 : 60, of which 20 are pushed on
    {'a': 100, 'b': 80, 'c': 30}
    """

    output: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.output <= 1:
            raise UsageError(f"output is {self.output!r}; expected a density above 0 and at most 1.")

    def __call__(self, scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
        """The counts; `scores` are not looked at. Raises `UsageError` where the output layer alone exceeds `keep`."""
        left, whole, names = mask.kept, sizes(mask), list(mask)
        last = names[-1]
        own = len(names) > 1 and len(mask.shapes[last]) == 2
        fixed = float(min(left[last], round(self.output * whole[last]))) if own else 0.0
        if fixed > keep:
            raise Emptied(
                f"smart-ratio keeps {int(fixed):,} weights of {last!r}, {int(fixed) - keep:,} more than the {keep:,} "
                f"asked for in all; keep more, or lower its output density ({self.output})."
            )
        body = names[:-1] if own else names
        shares = {n: (k * k + k) * whole[n] for n, k in zip(names, range(len(names), 0, -1), strict=True) if n in body}
        total = sum(shares.values())
        wanted = {n: (keep - fixed) * share / total for n, share in shares.items()}
        return rounded(_pushed_on({**wanted, last: fixed} if own else wanted, left), left, keep)


def _pushed_on(wanted: dict[str, float], left: Mapping[str, int]) -> dict[str, float]:
    """What exceeds a layer goes to the next one; at the end, once more from the beginning."""
    found, over = dict(wanted), 0.0
    for name in [*wanted, *wanted]:
        total = found[name] + over
        found[name] = min(float(left[name]), total)
        over = total - found[name]
    return found
