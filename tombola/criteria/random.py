"""Random: the floor that every criterion must beat."""

from __future__ import annotations

import torch
from torch import nn

from tombola.criteria.base import Probe, Scores
from tombola.masks import Mask
from tombola.streams import stream

__all__ = ["random"]


def random(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score a uniform draw in [0, 1), one stream a tensor: independent of weights and data, the same on every device.

    >>> layer = nn.Linear(2, 2)
    >>> scores = [random(layer, Mask.dense(layer), Probe(seed=s))["weight"] for s in (0, 0, 1)]
    >>> torch.equal(scores[0], scores[1]), torch.equal(scores[0], scores[2])
    (True, False)
    """
    return {n: torch.rand(shape, generator=stream(probe.seed, f"random/{n}")) for n, shape in mask.shapes.items()}
