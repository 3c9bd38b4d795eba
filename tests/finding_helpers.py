"""A small loop of a user's own, for the tests of `find_ticket`."""

from __future__ import annotations

import copy

import torch
from own_loops import MODULES, batches_for, built, mlp, sgd
from torch import nn
from torch.nn import functional as F

from tombola import Mask, enforce, prune, rewind

KIND = MODULES["mlp"]
BATCHES = batches_for(KIND)


def factory() -> nn.Module:
    return mlp()


def train(model: nn.Module) -> None:
    sgd(model, BATCHES, [], lambda *_: None)


def loss(model: nn.Module) -> float:
    with torch.no_grad():
        return -sum(float(F.cross_entropy(model(x), y)) for x, y in BATCHES) / len(BATCHES)


class Counted:
    """The loop, and how often it was run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, model: nn.Module) -> None:
        self.runs += 1
        train(model)


def by_hand(levels: int, rate: float, *, tune: bool = False) -> tuple[nn.Module, Mask, list[float]]:
    """Iterative magnitude pruning with nothing but the pieces."""
    model = built(KIND)
    start, mask, metrics = copy.deepcopy(model.state_dict()), Mask.dense(model), []
    keep = mask.total
    for level in range(levels + 1):
        if level:
            keep -= round(rate * keep)
            mask = prune(model, mask, density=keep / mask.total)
            rewind(model, model.state_dict() if tune else start, mask)
        with enforce(model, None, mask):
            train(model)
        metrics.append(loss(model))
    return model, mask, metrics
