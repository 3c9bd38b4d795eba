"""Global allocation: one threshold over all tensors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tombola.masks import Mask
from tombola.tensors import smallest

__all__ = ["globally"]


def globally(scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
    """One threshold over all tensors: the `keep` largest scores stay, wherever they are.

    Biased towards layers with large scores; a layer may empty, which `Pruner` refuses (facts: layer collapse).

    >>> import torch
    >>> mask = Mask({"a": torch.ones(2, 2, dtype=torch.bool), "b": torch.ones(2, 2, dtype=torch.bool)})
    >>> globally({"a": torch.arange(4.0).view(2, 2), "b": 10 + torch.arange(4.0).view(2, 2)}, mask, 5)
    {'a': 1, 'b': 4}
    """
    kept, ordered = mask.kept, [scores[name] for name in mask]  # ties go by the order of the mask, not of the scores
    alive = [places.to(score.device) for places, score in zip(mask.values(), ordered, strict=True)]
    gone = smallest(ordered, mask.alive - keep, alive, names=list(mask))
    return {name: kept[name] - int(places.sum()) for name, places in zip(mask, gone, strict=True)}
