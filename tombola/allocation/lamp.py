"""Layer-adaptive global allocation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.tensors import smallest

__all__ = ["adapted", "lamp"]


def adapted(score: Tensor) -> Tensor:
    """Scores of one layer in rising order -> s_u^2 / (sum of s_v^2 over v >= u), shape (survivors,), float64.

    In (0, 1], rising, 1 for the largest and at most 1/2 for every other one, whatever the scale of the layer; 0 for
    scores of 0, but the last of a layer.

    >>> adapted(torch.tensor([1.0, 2.0, 2.0])).tolist()
    [0.1111111111111111, 0.5, 1.0]
    """
    ordered = score.double().sort().values
    squares = (ordered / ordered[-1].clamp(min=torch.finfo(torch.float64).tiny)).square()
    rest = squares.flip(0).cumsum(0).flip(0)
    found = torch.where(rest > 0, squares / rest, 0.0)
    found[-1] = 1.0  # of a layer whose scores are all 0, too
    return found


def lamp(scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
    """One threshold over all tensors on scores that each layer normalises: a layer never empties.

    score_u = s_u^2 / sum_{v >= u} s_v^2 over the survivors of the layer in rising order; the `keep` largest stay. Every
    layer's largest has the score 1 and no other weight more than 1/2, so `keep` >= layers leaves each with a weight.

    Lee et al. (2021, arXiv 2010.07611), there of magnitudes; here of any scores, which must be 0 or more.

    Raises:
        UsageError: a surviving weight has a negative score.

    >>> small, large = torch.tensor([[0.01, 0.02, 0.03, 0.04]]), torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    >>> lamp({"a": small, "b": large}, Mask({n: torch.ones(1, 4, dtype=torch.bool) for n in "ab"}), 4)
    {'a': 2, 'b': 2}
    """
    kept, found = mask.kept, []
    for name in mask:
        score = scores[name][mask[name].to(scores[name].device)]
        if len(score) and bool(score.min() < 0):
            raise UsageError(
                f"The lamp allocation squares scores, so none may be below 0, and {name!r} has "
                f"{score.min().item():.3g}; use scores such as magnitude, or the global allocation."
            )
        found.append(adapted(score).cpu() if len(score) else score.double().cpu())
    gone = smallest(found, mask.alive - keep, names=list(mask))
    return {name: kept[name] - int(places.sum()) for name, places in zip(mask, gone, strict=True)}
