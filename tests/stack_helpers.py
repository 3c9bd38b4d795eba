"""What the tests of stacked and recorded trainings share: small images, networks with everything in them, stacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from helpers import Bench, Recorder, random_mask
from torch import nn

from tombola.data import Dataset, from_arrays
from tombola.masks import Mask
from tombola.models.dropout import CounterDropout
from tombola.streams import stream
from tombola.training.loop import Measured
from tombola.training.optimizers import Optimizer
from tombola.training.settings import Training
from tombola.training.state import State, state_of
from tombola.training.together import train_many

OPTIMIZERS = {
    "sgd": Optimizer(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": Optimizer(lr=0.01, eps=1e-6),
    "adamw": Optimizer(name="adamw", lr=0.01, weight_decay=0.1),
}


def images() -> Dataset:
    """120 + 40 noisy images of three classes, 1 x 6 x 6."""
    draw = stream(0, "images")
    y = torch.randint(0, 3, (160,), generator=draw)
    x = torch.randn(160, 1, 6, 6, generator=draw) + torch.randn(3, 1, 6, 6, generator=draw)[y]
    return from_arrays("images", x[:120], y[:120], x[120:], y[120:])


def conv(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Convolution without bias (batch norm takes it away again), batch norm, pool, counter dropout, linear."""
    draw = stream(seed, "init")
    layers = (nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    model = nn.Sequential(*layers, CounterDropout(0.3), nn.Linear(36, 3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.rand(weight.shape, generator=draw) - 0.3)
    return model.to(dtype)


def training(**changes: Any) -> Training:
    """30 steps of 20 images, seen every 10 steps."""
    named: dict[str, Any] = {"steps": 30, "batch_size": 20, "eval_every": 10, "normalise": "none"}
    return Training(**{**named, **changes})


class Lanes:
    """Three fits of one network that differ in start, mask, order and noise; the last one is dense."""

    def __init__(self, dtype: torch.dtype = torch.float64, **changes: Any) -> None:
        self.bench = Bench(lambda: conv(dtype=dtype), training(**changes), images())
        self.starts: list[State] = [state_of(conv(seed, dtype)) for seed in range(3)]
        model = self.bench.fresh()
        masks = [random_mask(model, seed=1), random_mask(model, seed=2), None]
        self.fits = [self.bench.fit(mask=m, order=n, noise=10 + n, keep=(7, 20)) for n, m in enumerate(masks)]

    def stacked(
        self, events: Sequence[Recorder] | None = None, lanes: Sequence[int] = (0, 1, 2), **further: Any
    ) -> tuple[list[Measured], list[Recorder]]:
        """What the fits measure and keep as lanes of one stack."""
        told = list(events or (Recorder() for _ in lanes))
        named = {"sets": self.bench.sets, "training": self.bench.training, "events": told, **further}
        model, fits, starts = self.bench.fresh(), [self.fits[n] for n in lanes], [self.starts[n] for n in lanes]
        return train_many(model, fits, starts, prunable=Mask.dense(model), **named), told


def apart(a: State, b: State) -> float:
    """The largest difference between two states of the same names."""
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)
