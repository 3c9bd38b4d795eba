"""Small tickets, and when two are the same."""

from __future__ import annotations

import math
from typing import Any

import torch
from helpers import random_mask, same_state
from torch import nn

from tombola.masks import Mask
from tombola.models.net import Net
from tombola.tickets import Level, NamedModel, Ticket
from tombola.tickets.seed import made

LENET = NamedModel(name="lenet-300-100", input_shape=(1, 28, 28), outputs=10)
SMALL = NamedModel(name="mlp", input_shape=(6,), outputs=3, net=Net(hidden=(5,)))
HISTORY = tuple(Level(level=n, density=0.8**n, kept=100 - n, metric=0.5, steps=10, seconds=1.25) for n in range(3))


def random_places(model: nn.Module, *counts: int) -> Mask:
    """Masks that keep so many random weights, which is the hardest to pack."""
    generator, kept = torch.Generator().manual_seed(0), {}
    for (name, shape), count in zip(Mask.dense(model).shapes.items(), counts, strict=True):
        kept[name] = torch.zeros(shape, dtype=torch.bool)
        kept[name].view(-1)[torch.randperm(math.prod(shape), generator=generator)[:count]] = True
    return Mask(kept)


def seeded_ticket(build: NamedModel = SMALL, seed: int = 3, **further: Any) -> Ticket:
    mask = further.pop("mask", None) or random_mask(build(0))
    return Ticket(mask=mask, weights=made(build, seed, mask), **further)


def rich_ticket() -> Ticket:
    first = seeded_ticket(history=HISTORY, metadata={"recipe": {"steps": 3}, "note": "naïve \x1b[2J"})
    trained = {name: value * 1.5 for name, value in first.weights.items()}
    return Ticket(
        mask=first.mask, weights=first.weights, trained=trained, history=first.history, metadata=first.metadata
    )


def same_ticket(a: Ticket, b: Ticket) -> bool:
    trained = a.trained is b.trained or same_state(a.trained or {}, b.trained or {})
    order = list(a.weights) == list(b.weights) and a.mask.digest == b.mask.digest
    return order and same_state(a.weights, b.weights) and trained and (a.metadata, a.history) == (b.metadata, b.history)
