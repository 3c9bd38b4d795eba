"""The reference loop, masks and all, against the plainest dense loop that torch allows.

    python benchmarks/step.py           LeNet-300-100 on MNIST, batch 60, at densities 1, 0.2 and 0.035

The yardstick is a dense `nn.Sequential` with `torch.optim.Adam` as it comes, over batches that lie ready as floats. The
reference loop gathers its batches from uint8, masks gradients and weights, counts what it gets right and reports its
progress. Both are timed from the first step to the last; no evaluation falls between.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import clocked, machine, medians, one_thread, ratios, row
from tombola.data import Dataset, from_arrays, load
from tombola.data.files import data_folder
from tombola.data.idx import MNIST
from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.pruning import prune
from tombola.requests import Fit
from tombola.starts import Init
from tombola.streams import stream
from tombola.training.loop import silent, train
from tombola.training.optimizers import Optimizer
from tombola.training.sets import Sets, prepare
from tombola.training.settings import Training

DENSITIES = (1.0, 0.2, 0.035)
TARGET = 0.90
WIDTHS = (784, 300, 100, 10)
RATE = 1.2e-3


class Stopwatch(silent):
    """Processor seconds from before the first step to after the last one."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last, self.start, self.seconds = last, 0.0, 0.0

    def stopping(self) -> bool:
        """Asked before every step; the first time, the clock starts."""
        self.start = self.start or time.process_time()
        return False

    def progress(self, step: int) -> None:
        """Told after every step; the last time, the clock stops."""
        if step == self.last:
            self.seconds = time.process_time() - self.start


def dataset() -> Dataset:
    """MNIST where its files are there, else noise of the same shape with as many zeros, the border always black."""
    if all((data_folder() / MNIST.name / file.name).exists() for file in MNIST.files):
        return load(MNIST.name, quiet=True)
    noise = stream(0, "benchmark/step")
    x = torch.randint(0, 256, (61_000, 1, 28, 28), dtype=torch.uint8, generator=noise)
    ink = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    ink[..., 1:27, 1:27] = 1  # 108 pixels that never light up; MNIST has 67 in the training set
    x *= ink * (torch.rand(x.shape, generator=noise) < 0.22)
    y = torch.randint(0, 10, (61_000,), generator=noise)
    return from_arrays("noise", x[1000:], y[1000:], x[:1000], y[:1000], classes=10)


def reference(sets: Sets, mask: Mask | None, steps: int) -> float:
    """Seconds of `steps` steps of the reference loop."""
    training = Training(
        steps=steps, batch_size=60, eval_every=steps, normalise="pixel", optimizer=Optimizer(name="adam", lr=RATE)
    )
    model, watch = mlp(WIDTHS), Stopwatch(steps)
    fit = Fit(start=Init(seed=0), mask=mask, last=steps, order=0, noise=0)
    train(model, fit, sets=sets, training=training, prunable=Mask.dense(model), events=watch)
    return watch.seconds


def plain(batches: list[tuple[Tensor, Tensor]]) -> float:
    """Seconds of one step on each batch: the yardstick."""
    inputs, one, two, outputs = WIDTHS
    layers = (nn.Linear(inputs, one), nn.ReLU(), nn.Linear(one, two), nn.ReLU(), nn.Linear(two, outputs))
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    start = time.process_time()
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.process_time() - start


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description="the reference loop against a plain dense loop in torch")
    parser.add_argument("--rounds", type=int, default=11, help="timed runs of each loop")
    parser.add_argument("--steps", type=int, default=300, help="steps of a run")
    given = parser.parse_args()
    one_thread()
    data = dataset()
    sets = prepare(data, Training(steps=1, normalise="pixel"), torch.device("cpu"))
    flat = data.x_train[: 60 * given.steps].flatten(1).float().div(255)
    batches = list(zip(flat.split(60), data.y_train.split(60), strict=False))
    dense = Mask.dense(mlp(WIDTHS))
    masks = {d: None if d == 1 else prune(mlp(WIDTHS), dense, density=d, criterion="random") for d in DENSITIES}
    clocks: dict[str, Callable[[], float]] = {"plain": partial(plain, batches)}
    clocks |= {str(d): partial(reference, sets, mask, given.steps) for d, mask in masks.items()}
    times = clocked(clocks, given.rounds)
    print(machine())
    print(f"LeNet-300-100 on {data.name}, batch 60, {given.rounds} rounds of {given.steps} steps, processor time")
    for name, seconds in medians(times).items():
        label = "plain dense loop" if name == "plain" else f"reference loop, density {name}"
        row(label, seconds / given.steps * 1e6, unit=" us/step")
    for density in DENSITIES:
        row(f"density {density} / plain", statistics.median(ratios(times, str(density), "plain")), TARGET)


if __name__ == "__main__":
    main()
