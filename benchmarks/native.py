"""The native trainer against the plainest dense loop that torch allows: a step, and a whole ladder of tickets.

    python benchmarks/native.py                       all variants that this processor runs: about 5 minutes
    python benchmarks/native.py --variant avx512 --rounds 5

LeNet-300-100 on MNIST, batch 60, Adam. The yardstick D is a dense `nn.Sequential` with `torch.optim.Adam` as it comes,
over float batches that lie ready; ours gathers its batches from the whole training set and counts what it gets right.
The single steps have random masks. The ladder is real iterative magnitude pruning, layer by layer, back to the initial
weights each time; its time holds pruning and laying out, and that of D as many dense loops.
"""

from __future__ import annotations

import argparse
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
from benchmarks.step import RATE, WIDTHS, dataset
from tombola.compiled import VARIANTS, Compiled, load, runs
from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.native import Native
from tombola.pruning import prune
from tombola.requests import Fit
from tombola.schedules import step_down
from tombola.starts import Init
from tombola.training.enforce import apply_mask
from tombola.training.optimizers import Optimizer
from tombola.training.sets import Sets, prepare
from tombola.training.settings import Training

BATCH, EVERY = 60, 100
STEPS: dict[str, dict[float, float]] = {
    "avx512": {1.0: 0.35, 0.51: 0.33, 0.21: 0.15, 0.107: 0.08, 0.035: 0.032, 0.014: 0.018},
    "avx2": {1.0: 0.65, 0.51: 0.45, 0.21: 0.20, 0.107: 0.11, 0.035: 0.045, 0.014: 0.025},
    "generic": {},
}
DENSITIES = tuple(STEPS["avx512"])
LADDER = {"avx512": 0.15, "avx2": 0.22, "generic": 0.45}
EVALUATED = {"avx512": 0.16, "avx2": 0.26}
TRAINING = Training(steps=10**9, batch_size=BATCH, normalise="pixel", optimizer=Optimizer(name="adam", lr=RATE))
RATES = {"fc1.weight": 0.2, "fc2.weight": 0.2, "output.weight": 0.1}
Batches = list[tuple[Tensor, Tensor]]


def network() -> nn.Sequential:
    """D's own network."""
    inputs, one, two, outputs = WIDTHS
    return nn.Sequential(nn.Linear(inputs, one), nn.ReLU(), nn.Linear(one, two), nn.ReLU(), nn.Linear(two, outputs))


def plain(batches: Batches, steps: int, evaluated: Batches | None = None) -> float:
    """Seconds of D: dense steps, and an evaluation of whole sets every 100 steps where they are given."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    start = time.process_time()
    for step in range(steps):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if evaluated and (step + 1) % EVERY == 0:
            with torch.no_grad():
                for x, y in evaluated:
                    outputs = model(x)
                    float(F.cross_entropy(outputs, y)), float((outputs.argmax(1) == y).sum())
    return time.process_time() - start


def engine(library: Compiled, sets: Sets, mask: Mask | None, steps: int) -> Native:
    """The native engine with LeNet under this mask, before its first step."""
    model = mlp(WIDTHS)
    if mask is not None:
        apply_mask(model, mask)
    fit = Fit(start=Init(seed=0), mask=mask, last=steps, order=0, noise=0)
    return Native(model, fit, sets, TRAINING, Mask.dense(model), library=library)


def advance(native: Native, steps: int, evaluate: bool) -> None:
    """Steps in calls as long as between two evaluations."""
    for first in range(0, steps, EVERY):
        native.advance(first, min(first + EVERY, steps))
        if evaluate:
            native.evaluate(native.sets.validation)
            native.evaluate(native.sets.test)


def native_steps(library: Compiled, sets: Sets, mask: Mask | None, steps: int) -> float:
    """Seconds of sparse steps."""
    native = engine(library, sets, mask, steps)
    with native.running():
        start = time.process_time()
        advance(native, steps, evaluate=False)
        return time.process_time() - start


def ladder(library: Compiled, sets: Sets, levels: int, steps: int, *, evaluate: bool) -> float:
    """Seconds of iterative magnitude pruning, everything included; ends at the density of the last level."""
    start = time.process_time()
    model = mlp(WIDTHS)
    mask = Mask.dense(model)
    for level in range(levels + 1):
        native = engine(library, sets, mask if level else None, steps)
        with native.running():
            advance(native, steps, evaluate)
        model = native.model  # its trained weights
        counts = step_down(mask.kept, RATES)
        share = sum(counts.values()) / mask.total
        mask = prune(model, mask, density=share, allocation=lambda scores, mask, keep, counts=counts: counts)
    return time.process_time() - start


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description="the native trainer against a plain dense loop in torch")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="default: all that this processor runs")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each loop")
    parser.add_argument("--steps", type=int, default=600, help="steps of a run")
    parser.add_argument("--levels", type=int, default=19, help="prunings of the ladder")
    given = parser.parse_args()
    one_thread()
    data = dataset()
    sets = prepare(data, TRAINING, torch.device("cpu"))
    index = sets.train_index[: BATCH * given.steps]
    flat = sets.inputs(sets.train.x[index], torch.float32).flatten(1)
    batches = list(zip(flat.split(BATCH), sets.train.y[index].split(BATCH), strict=True))
    evaluated = [
        (sets.inputs(s.x[at : at + 1000], torch.float32).flatten(1), s.y[at : at + 1000])
        for s in (sets.validation, sets.test)
        for at in range(0, len(s), 1000)
    ]
    dense = Mask.dense(mlp(WIDTHS))
    print(machine())
    print(f"LeNet-300-100 on {data.name}, batch {BATCH}, {given.rounds} rounds of {given.steps} steps, processor time")
    for variant in given.variant or [v for v in VARIANTS if runs(v)]:
        library = load(variant)
        masks = {
            d: None if d == 1 else prune(mlp(WIDTHS), dense, density=d, criterion="random") for d in STEPS["avx512"]
        }
        clocks = {"D": partial(plain, batches, given.steps)}
        clocks |= {str(d): partial(native_steps, library, sets, m, given.steps) for d, m in masks.items()}
        times = clocked(clocks, given.rounds)
        print(f"{variant}: one step; D {medians(times)['D'] / given.steps * 1e6:.0f} us")
        for density in masks:
            row(
                f"density {density} / D",
                statistics.median(ratios(times, str(density), "D")),
                STEPS[variant].get(density),
            )
        print(f"{variant}: {given.levels + 1} levels")
        loops = given.levels + 1
        for evaluate, targets in ((False, LADDER), (True, EVALUATED)):
            clocks = {
                "D": partial(plain, batches, loops * given.steps, evaluated if evaluate else None),
                "ladder": partial(ladder, library, sets, given.levels, given.steps, evaluate=evaluate),
            }
            times = clocked(clocks, max(1, given.rounds // 2))
            label = "ladder / D, both evaluating" if evaluate else "ladder / D"
            row(label, statistics.median(ratios(times, "ladder", "D")), targets.get(variant))


if __name__ == "__main__":
    main()
