"""Layerwise allocation: every tensor loses its rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from tombola.errors import UsageError, suggest
from tombola.masks import Mask
from tombola.schedules import step_down
from tombola.specs import added

__all__ = ["Layerwise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layerwise:
    """Every tensor loses `rate` of its survivors at each level, a convolution `conv`, the output layer `output` of it.

    A budget between two levels is reached by as many whole levels as fit and the needed share of the next one, so IMP
    level by level and a single cut to the same budget keep equally many weights in every tensor.

    Args:
        rate: fraction of the surviving weights that goes at each level, in (0, 1).
        output: factor of the rate for the output layer, in [0, 1]; 0.5 in Frankle and Carbin (2019, arXiv 1803.03635).
        output_name: name of the output layer's weight; empty: the last prunable tensor in module order.
        conv: rate of tensors with three or more dimensions, in [0, 1); 0: `rate`. 0.1 for Conv-2 and Conv-4, 0.15 for
            Conv-6 in Frankle and Carbin (2019).

    >>> import torch
    >>> mask = Mask({"a": torch.ones(10, 10, dtype=torch.bool), "b": torch.ones(5, 2, dtype=torch.bool)})
    >>> Layerwise(rate=0.2)({}, mask, 89)
    {'a': 80, 'b': 9}
    """

    rate: float = 0.2
    output: float = 0.5
    output_name: str = ""
    conv: float = added(0.0)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and 0 < self.rate < 1):
            raise UsageError(f"The pruning rate is {self.rate!r}; expected a fraction above 0 and below 1.")
        if not (math.isfinite(self.output) and 0 <= self.output <= 1):
            raise UsageError(f"The output layer's factor is {self.output!r}; expected a fraction from 0 to 1.")
        if not (math.isfinite(self.conv) and 0 <= self.conv < 1):
            raise UsageError(f"The rate of convolutions is {self.conv!r}; expected a fraction from 0 to below 1.")

    def rates(self, mask: Mask) -> dict[str, float]:
        """name -> rate per level; raises `UsageError` where `output_name` is no tensor of the mask."""
        names = list(mask)
        if self.output_name and self.output_name not in names:
            raise UsageError(
                f"The output layer {self.output_name!r} is not prunable. {suggest(self.output_name, names)}"
            )
        last = self.output_name or names[-1]
        # With one layer there is no output layer beside others: it carries the rate itself.
        factors = {last: self.output} if len(names) > 1 else {}
        kinds = {n: self.conv if self.conv and len(shape) > 2 else self.rate for n, shape in mask.shapes.items()}
        return {n: rate * factors.get(n, 1.0) for n, rate in kinds.items()}

    def __call__(self, scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
        """The counts; `scores` are not looked at. Raises `UsageError` when the rates never reach `keep`."""
        rates, counts = self.rates(mask), mask.kept
        while True:
            below = step_down(counts, rates)
            if sum(below.values()) < keep:
                return _part(counts, rates, keep)
            if below == counts:
                if sum(counts.values()) == keep:
                    return counts
                raise UsageError(
                    f"Rate {self.rate} stops at {sum(counts.values()):,} weights, above the {keep:,} asked for."
                )
            counts = below


def _part(counts: dict[str, int], rates: Mapping[str, float], keep: int) -> dict[str, int]:
    """Less than one level: the smallest share of the rates that leaves at most `keep`, its excess given back."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if sum(step_down(counts, rates, middle).values()) > keep:
            low = middle
        else:
            high = middle
    found, before = step_down(counts, rates, high), step_down(counts, rates, low)
    for name in reversed(found):
        back = min(keep - sum(found.values()), before[name] - found[name])
        found[name] += back
    return found
