"""Depth re-weighting: layers whose scores are small for what they are get a factor before the global threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from tombola.allocation.threshold import globally
from tombola.masks import Mask

__all__ = ["Depth", "Factor"]


class Factor(Enum):
    """What the scores of a layer are multiplied by."""

    SIZE = "size"
    NORM = "norm"
    MEAN = "mean"


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """One threshold over all tensors, after the scores of each are multiplied by a factor of its own.

    size: sqrt(n), n the weights of the whole tensor; norm: 1 / (sum of |s|); mean: 1 / (mean of |s|), both over the
    survivors (with magnitudes of normal weights, mean is the normalisation by standard deviation, but for a constant).
    Local scores are biased: shallow layers have larger gradients, wide ones smaller weights (Glorot). A layer may still
    empty, which `Pruner` refuses; `lamp` never empties one.

    Args:
        by: size, norm or mean.

    >>> import torch
    >>> mask = Mask({n: torch.ones(1, 3, dtype=torch.bool) for n in "ab"})
    >>> scores = {"a": torch.tensor([[1.0, 2.0, 3.0]]), "b": torch.tensor([[10.0, 20.0, 30.0]])}
    >>> globally(scores, mask, 4), Depth(by=Factor.NORM)(scores, mask, 4)
    ({'a': 1, 'b': 3}, {'a': 2, 'b': 2})
    """

    by: Factor = Factor.SIZE

    def __call__(self, scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
        """The counts: factors do not change the order within a tensor."""
        return globally({n: scores[n].double() * self._factor(scores[n], mask[n]) for n in mask}, mask, keep)

    def _factor(self, score: Tensor, alive: Tensor) -> float:
        if self.by is Factor.SIZE:
            return math.sqrt(alive.numel())
        total = float(score.double().abs()[alive.to(score.device)].sum())
        count = int(alive.sum()) if self.by is Factor.MEAN else 1
        return count / total if total > 0 else 1.0
