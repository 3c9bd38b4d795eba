"""A training step of convolutional networks: what a mask costs, and what memory format and bfloat16 save.

    python benchmarks/convolutions.py [--rounds N]     Conv-2, Conv-6 and ResNet-20 on images of CIFAR-10's shape

The reference loop trains each network on noise, step by step, in turn without a mask, with one of 20 %, and without one
in other forms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks.common import clocked, machine, medians, one_thread, ratios, row
from tombola import Mask, prune
from tombola.data import from_arrays
from tombola.models.net import Net
from tombola.models.registry import MODELS
from tombola.requests import Fit
from tombola.starts import Init
from tombola.training.optimizers import Optimizer
from tombola.training.reference import Reference
from tombola.training.sets import Sets, prepare
from tombola.training.settings import Training

DENSITY, TARGET = 0.2, 1.08
SGD = Optimizer(name="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4)
NETWORKS = {"conv-2": (60, Optimizer(lr=2e-4)), "conv-6": (60, Optimizer(lr=3e-4)), "resnet-20": (128, SGD)}
FORMS = {
    "channels-last": {"memory_format": "channels-last"},
    "bfloat16": {"precision": "bfloat16"},
    "flip-crop": {"augment": "flip-crop"},
}


def noise() -> Sets:
    """Images of CIFAR-10's shape."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (600, 3, 32, 32), generator=generator, dtype=torch.uint8)
    y = torch.arange(600) % 10
    return prepare(from_arrays("noise", x, y, x[:20], y[:20]), Training(steps=1), torch.device("cpu"))


class Steps:
    """One training, a step at a time.

    Args:
        masked: train under a random mask.
        changes: other settings of the training.
    """

    def __init__(self, name: str, sets: Sets, stack: ExitStack, *, masked: bool = False, **changes: str) -> None:
        size, optimizer = NETWORKS[name]
        training = Training(steps=10_000, batch_size=size, optimizer=optimizer, **changes)
        model = MODELS[name]((3, 32, 32), 10, Net(), 0)
        dense = Mask.dense(model)
        mask = prune(model, dense, density=DENSITY, criterion="random") if masked else None
        fit = Fit(start=Init(seed=0), mask=mask, last=training.steps, order=1, noise=2)
        self.engine, self.step = Reference(model, fit, sets, training, dense), 0
        stack.enter_context(self.engine.running())

    def __call__(self) -> float:
        """Processor seconds of the next step."""
        start = time.process_time()
        self.engine.advance(self.step, self.step + 1)
        self.step += 1
        return time.process_time() - start


def compare(name: str, sets: Sets, rounds: int) -> bool:
    """The rows of one network; whether the mask costs no more than it may."""
    with ExitStack() as stack:
        ways = {"plain": Steps(name, sets, stack), "masked": Steps(name, sets, stack, masked=True)}
        ways |= {form: Steps(name, sets, stack, **changes) for form, changes in FORMS.items()}
        times = clocked(ways, rounds)
    row(f"{name}, plain", medians(times)["plain"] * 1e3, unit=" ms")
    met = row("    masked, of the plain step", statistics.median(ratios(times, "masked", "plain")), TARGET)
    for form in FORMS:
        row(f"    {form}, of the plain step", statistics.median(ratios(times, form, "plain")))
    return met


def main() -> int:
    """Measures and prints the table; 1 where the target is missed."""
    parser = argparse.ArgumentParser(description="a training step of convolutional networks, masked and in other forms")
    parser.add_argument("--rounds", type=int, default=30, help="timed steps of each way")
    given = parser.parse_args()
    one_thread()
    print(machine())
    sets = noise()
    met = [compare(name, sets, given.rounds) for name in NETWORKS]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
