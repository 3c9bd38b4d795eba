"""Both engines, the same requests: how far apart are their weights and their accuracies?

    python benchmarks/agreement.py           2 minutes; --steps 500: half of it

Weights after 50 Adam steps of LeNet-300-100, for five seeds: the largest difference between the native and the
reference engine, and beside it that between the reference engine and the same training in double precision, which is
what rounding alone does. Where a pre-activation falls within rounding of the ReLU's kink, the two part by more than
that, as torch parts from itself in double; so the target is for the median of the seeds, and the worst stands beside.
Then the test accuracies after whole trainings at 10 % density, paired by seed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from scipy import stats

from benchmarks.common import machine, one_thread, row
from benchmarks.step import RATE, WIDTHS, dataset
from tombola.compiled import VARIANTS, load, runs
from tombola.data import Dataset
from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.native import Native
from tombola.pruning import prune
from tombola.requests import Fit
from tombola.starts import Init
from tombola.training.enforce import apply_mask
from tombola.training.loop import Measured, silent, train
from tombola.training.optimizers import Optimizer
from tombola.training.reference import Reference
from tombola.training.sets import Sets, prepare
from tombola.training.settings import Training
from tombola.training.state import State, state_of

BOUNDS = {1.0: 5e-5, 0.8: 5e-5, 0.6: 1e-5, 0.2: 1e-5, 0.035: 1e-5}
SEEDS = range(5)


def trained(
    engine: Any, sets: Sets, training: Training, density: float, seed: int, *, double: bool = False
) -> tuple[State, Measured]:
    """End state and measurements of one training."""
    model = mlp(WIDTHS, seed=seed)
    dense = Mask.dense(model)
    mask = None if density == 1 else prune(model, dense, density=density)
    if mask is not None:
        apply_mask(model, mask)
    if double:
        model.double()
    fit = Fit(start=Init(seed=seed), mask=mask, last=training.steps, order=seed, noise=seed)
    given: dict[str, Any] = {"sets": sets, "training": training, "prunable": dense, "events": silent()}
    measured = train(model, fit, engine=engine, **given)
    return {name: value.double() for name, value in state_of(model).items()}, measured


def apart(one: State, two: State) -> float:
    """The largest difference of two weights."""
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def weights(data: Dataset) -> None:
    """Prints the largest differences after 50 steps."""
    training = Training(
        steps=50, eval_every=50, batch_size=60, normalise="pixel", optimizer=Optimizer(name="adam", lr=RATE)
    )
    sets = prepare(data, training, torch.device("cpu"))
    for density, bound in BOUNDS.items():
        run = partial(trained, sets=sets, training=training, density=density)
        reference = [run(Reference, seed=seed)[0] for seed in SEEDS]
        exact = [run(Reference, seed=seed, double=True)[0] for seed in SEEDS]
        alone = list(map(apart, reference, exact))
        row(f"density {density}: torch, single / double", 1e5 * statistics.median(alone), unit="e-5")
        row("    worst seed", 1e5 * max(alone), unit="e-5")
        for variant in filter(runs, VARIANTS):
            native = [run(partial(Native, library=load(variant)), seed=seed)[0] for seed in SEEDS]
            both = list(map(apart, reference, native))
            row(f"density {density}: torch / {variant}", 1e5 * statistics.median(both), 1e5 * bound, unit="e-5")
            row("    worst seed", 1e5 * max(both), unit="e-5")


def accuracies(data: Dataset, steps: int) -> None:
    """Prints test accuracies of both engines, and the p value of a paired t test that they are equal."""
    training = Training(
        steps=steps, eval_every=steps, batch_size=60, normalise="pixel", optimizer=Optimizer(name="adam", lr=RATE)
    )
    sets = prepare(data, training, torch.device("cpu"))
    found = {
        name: [trained(engine, sets, training, 0.1, seed)[1].points[-1].test_metric or 0.0 for seed in SEEDS]
        for name, engine in (("torch", Reference), ("native", Native))
    }
    for name, values in found.items():
        row(f"test accuracy, {name} (mean of {len(SEEDS)} seeds)", 100 * statistics.mean(values), unit=" %")
    difference = [one - two for one, two in zip(found["native"], found["torch"], strict=True)]
    row("native - torch", 100 * statistics.mean(difference), unit=" points")
    p = float(stats.ttest_rel(found["native"], found["torch"]).pvalue) if any(difference) else 1.0
    row("p of no difference (paired t test)", p, 0.05, least=True)


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description="agreement of the native and the reference engine")
    parser.add_argument("--steps", type=int, default=1500, help="steps of the trainings whose accuracies are compared")
    given = parser.parse_args()
    one_thread()
    data = dataset()
    print(machine())
    print(f"LeNet-300-100 on {data.name}, batch 60, Adam")
    weights(data)
    accuracies(data, given.steps)


if __name__ == "__main__":
    main()
