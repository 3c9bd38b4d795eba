"""The native trainer against torch on Conv-2, Conv-4 and Conv-6: a whole step under random masks.

    python benchmarks/native_conv.py                       all variants that this processor runs: about 5 minutes
    python benchmarks/native_conv.py --variant avx512 --rounds 3

Images of 3 x 32 x 32 as bytes, batch 60. The yardstick is the same network dense, in torch's channels_last format with
fused Adam, over batches gathered from float images that lie ready in that format; ours gathers bytes from the whole
set, widens them, and counts what it gets right. Both are timed in turn in one process, in processor time of one
thread. The break-even is where a line through the neighbouring densities crosses 1.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import clocked, machine, medians, one_thread, ratios, row
from tombola.compiled import VARIANTS, Compiled, load, runs
from tombola.data import from_arrays
from tombola.masks import Mask
from tombola.models.net import Net
from tombola.models.registry import MODELS
from tombola.native import Native
from tombola.requests import Fit
from tombola.starts import Init
from tombola.training.enforce import apply_mask
from tombola.training.optimizers import Optimizer
from tombola.training.sets import Sets, prepare
from tombola.training.settings import Training

BATCH, IMAGES, SHAPE = 60, 3000, (3, 32, 32)
DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
LEVELS, KEPT = (0, 5, 10, 15, 20), (0.9, 0.8)  # of a ladder, and what a level leaves of convolutions and other layers
TARGETS = {"avx512": {0.1: 0.35, 0.05: 0.25}, "avx2": {0.1: 0.50, 0.05: 0.35}, "generic": dict[float, float]()}
TRAINING = Training(
    steps=10**9, batch_size=BATCH, normalise="pixel", validation=60, optimizer=Optimizer(name="adam", lr=2e-4)
)


def network(name: str) -> nn.Module:
    """A fresh one."""
    return MODELS[name](SHAPE, 10, Net(), 0)


def random_sets() -> Sets:
    """Noise in the form of CIFAR-10: the time of a step does not depend on what the images show."""
    noise = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (IMAGES, *SHAPE), generator=noise).to(torch.uint8)
    y = torch.randint(0, 10, (IMAGES,), generator=noise)
    return prepare(from_arrays("noise", x, y, x[:60], y[:60], classes=10), TRAINING, torch.device("cpu"))


class Dense:
    """Torch's step, with its network, images and optimizer at hand."""

    def __init__(self, name: str, sets: Sets) -> None:
        self.model = network(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = sets.inputs(sets.train.x, torch.float32)
        self.x, self.y = images.contiguous(memory_format=torch.channels_last), sets.train.y
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=2e-4, fused=True)
        self.order: Tensor = sets.train_index

    def seconds(self, steps: int) -> float:
        """Of so many steps."""
        start = time.process_time()
        for index in self.order[: steps * BATCH].split(BATCH):
            x = self.x.index_select(0, index).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(self.model(x), self.y[index])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return time.process_time() - start


def engine(name: str, library: Compiled, sets: Sets, convolutions: float, others: float) -> Native:
    """The native engine under a random mask, of these densities in convolutions and in other layers."""
    model, noise = network(name), torch.Generator().manual_seed(0)
    dense = Mask.dense(model)
    kept = {
        weight: torch.rand(alive.shape, generator=noise) < (convolutions if alive.ndim == 4 else others)
        for weight, alive in dense.items()
    }
    mask = None if convolutions == others == 1 else Mask(kept)
    if mask is not None:
        apply_mask(model, mask)
    fit = Fit(start=Init(seed=0), mask=mask, last=10**6, order=0, noise=0)
    return Native(model, fit, sets, TRAINING, dense, library=library)


def native_seconds(native: Native, steps: int) -> float:
    """Of so many sparse steps."""
    with native.running():
        start = time.process_time()
        native.advance(0, steps)
        return time.process_time() - start


def break_even(found: dict[float, float]) -> str:
    """The density at which native and torch take equally long, in words."""
    rising = sorted(found.items())
    if rising[-1][1] <= 1:
        return "at no density slower than torch"
    for (low, below), (high, above) in itertools.pairwise(rising):
        if below <= 1 < above:
            return f"breaks even at density {low + (high - low) * (1 - below) / (above - below):.2f}"
    return "at no density as fast as torch"


def measure(name: str, library: Compiled, sets: Sets, densities: tuple[float, ...], rounds: int, steps: int) -> None:
    """Prints a row for each density, and the break-even where all are asked for."""
    dense = Dense(name, sets)
    engines = {str(density): engine(name, library, sets, density, density) for density in densities}
    clocks = {"torch": partial(dense.seconds, steps)}
    clocks |= {key: partial(native_seconds, native, steps) for key, native in engines.items()}
    times = clocked(clocks, rounds)
    print(f"{library.name}: {name}; torch {medians(times)['torch'] / steps * 1e3:.1f} ms a step")
    found = {density: statistics.median(ratios(times, str(density), "torch")) for density in densities}
    for density, ratio in found.items():
        goal = TARGETS[library.name].get(density) if name == "conv-2" else None
        row(f"density {density} of all layers / torch", ratio, goal)
    if len(densities) > 1:
        print(break_even(found))


def ladder(library: Compiled, sets: Sets, rounds: int, steps: int) -> None:
    """Prints the time of a whole ladder on Conv-2 over as many dense steps of torch, from some of its levels."""
    dense = Dense("conv-2", sets)
    engines = {str(level): engine("conv-2", library, sets, KEPT[0] ** level, KEPT[1] ** level) for level in LEVELS}
    clocks = {"torch": partial(dense.seconds, steps)}
    clocks |= {key: partial(native_seconds, native, steps) for key, native in engines.items()}
    times = clocked(clocks, rounds)
    found = [statistics.median(ratios(times, str(level), "torch")) for level in LEVELS]
    for level, ratio in zip(LEVELS, found, strict=True):
        row(f"level {level} / torch", ratio)
    areas = [(one + two) / 2 for one, two in itertools.pairwise(found)]  # the levels are equally far apart
    row(f"ladder of {LEVELS[-1] + 1} levels / torch", statistics.mean(areas))


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description="the native trainer against torch on convolutional networks")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="default: all that this processor runs")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each loop")
    parser.add_argument("--steps", type=int, default=2, help="steps of a run")
    given = parser.parse_args()
    one_thread()
    sets = random_sets()
    print(machine())
    print(f"noise of {SHAPE}, batch {BATCH}, {given.rounds} rounds of {given.steps} steps, processor time")
    for variant in given.variant or [v for v in VARIANTS if runs(v)]:
        measure("conv-2", load(variant), sets, DENSITIES, given.rounds, given.steps)
        for name in ("conv-4", "conv-6"):
            measure(name, load(variant), sets, (0.1,), given.rounds, given.steps)
        ladder(load(variant), sets, given.rounds, given.steps)


if __name__ == "__main__":
    main()
