"""Weight criteria in which the sign rules: weights that kept (or changed) their sign go last, whatever their size.

The `_same_sign` and `_diff_sign` forms of Zhou et al. (2019, arXiv 1905.01067): their scores are set to 0 where the
sign test fails, and ties are drawn. Here such weights are moved below all others, of all tensors, and keep their order
among themselves. That is the same cut while the failing weights are those that go; beyond it no chance is needed, and
it also holds for `magnitude_increase`, whose scores are negative for weights that shrank: above those a 0 would rank.
The sign of 0 is 0, and differs from both others.
"""

from __future__ import annotations

import torch
from torch import nn

from tombola.criteria.base import Criterion, Probe, Scores, needs
from tombola.criteria.weights import both, magnitude, magnitude_increase, movement
from tombola.masks import Mask

__all__ = [
    "large_final_different_sign",
    "large_final_same_sign",
    "magnitude_increase_different_sign",
    "magnitude_increase_same_sign",
    "movement_different_sign",
    "movement_same_sign",
]


@needs(initial=True, signed=True)
def large_final_same_sign(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |w_f| where the sign is that of w_i, below all others elsewhere: the best supermasks of Zhou et al.

    Raises:
        UsageError: the probe has no initial weights.

    >>> layer = nn.Linear(3, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[-3.0, 2.0, 1.0]]))
    >>> probe = Probe(initial={"weight": torch.tensor([[1.0, 1.0, 1.0]])})
    >>> large_final_same_sign(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[0.0, 2.0, 1.0]]
    """
    return _tested("large_final_same_sign", magnitude, model, mask, probe, same=True)


@needs(initial=True, signed=True)
def large_final_different_sign(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |w_f| where the sign is not that of w_i, below all others elsewhere (Zhou et al. 2019).

    Raises:
        UsageError: the probe has no initial weights.
    """
    return _tested("large_final_different_sign", magnitude, model, mask, probe, same=False)


@needs(initial=True, signed=True, moved=True)
def magnitude_increase_same_sign(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |w_f| - |w_i| where the sign is that of w_i, below all others elsewhere (Zhou et al. 2019).

    Raises:
        UsageError: the probe has no initial weights.
    """
    return _tested("magnitude_increase_same_sign", magnitude_increase, model, mask, probe, same=True)


@needs(initial=True, signed=True, moved=True)
def magnitude_increase_different_sign(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |w_f| - |w_i| where the sign is not that of w_i, below all others elsewhere (Zhou et al. 2019).

    Raises:
        UsageError: the probe has no initial weights.
    """
    return _tested("magnitude_increase_different_sign", magnitude_increase, model, mask, probe, same=False)


@needs(initial=True, signed=True, moved=True)
def movement_same_sign(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |w_f - w_i| where the sign is that of w_i, below all others elsewhere; after Zhou et al. (2019).

    Raises:
        UsageError: the probe has no initial weights.
    """
    return _tested("movement_same_sign", movement, model, mask, probe, same=True)


@needs(initial=True, signed=True, moved=True)
def movement_different_sign(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |w_f - w_i| where the sign is not that of w_i, below all others elsewhere; after Zhou et al. (2019).

    Raises:
        UsageError: the probe has no initial weights.
    """
    return _tested("movement_different_sign", movement, model, mask, probe, same=False)


def _tested(label: str, base: Criterion, model: nn.Module, mask: Mask, probe: Probe, *, same: bool) -> Scores:
    """The scores of `base`, in float64, with those that fail the test moved down by the span of all, and 1."""
    pairs = both(label, model, mask, probe)
    scores = {name: score.double() for name, score in base(model, mask, probe).items()}
    kept = [scores[name][mask[name].to(scores[name].device)] for name in mask if mask.kept[name]]
    below = 1.0 + float(torch.stack([s.max() for s in kept]).max() - torch.stack([s.min() for s in kept]).min())
    return {
        name: scores[name].where((first.sign() == last.sign()) == same, scores[name] - below)
        for name, (first, last) in pairs.items()
    }
