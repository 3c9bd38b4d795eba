"""Magnitude: the weights that are small after training go."""

from __future__ import annotations

from torch import nn

from tombola.criteria.base import Probe, Scores
from tombola.masks import Mask

__all__ = ["magnitude"]


def magnitude(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |w|: `large_final` of Zhou et al. (2019, arXiv 1905.01067), the lottery-ticket criterion.

    Source: Frankle and Carbin (2019, arXiv 1803.03635); Han et al. (2015, arXiv 1506.02626).

    >>> import torch
    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[-3.0, 0.5]]))
    >>> magnitude(layer, Mask.dense(layer), Probe())
    {'weight': tensor([[3.0000, 0.5000]])}
    """
    weights = dict(model.named_parameters())
    return {name: weights[name].detach().abs() for name in mask}
