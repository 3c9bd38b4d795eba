"""The ladder of Frankle and Carbin (2019) on real MNIST: do tickets appear where the paper has them?

    python benchmarks/ladder.py                 15 levels, 5,000 steps, 3 replicates: about 15 minutes on two cores
    python benchmarks/ladder.py --store DIR     keeps the results there; started again, it goes on

Checks counts and densities exactly, and the accuracies of tickets against dense networks and re-initialised ones. The
exit code is 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import tombola
from benchmarks.common import machine, row
from tombola.answers import Answer, Trained
from tombola.executors.base import Job
from tombola.requests import Place
from tombola.watching import Silent

LAYERS = {"fc1.weight": (235_200, 0.2), "fc2.weight": (30_000, 0.2), "output.weight": (1_000, 0.1)}
DENSITIES = {3: 51.28, 7: 21.07, 12: 6.95, 15: 3.58}
AS_DENSE = (3, 7)
ABOVE_REINIT = 15

Rows = dict[int, list[dict[str, Any]]]


class Progress(Silent):
    """One line for each trained network."""

    def __init__(self, networks: int) -> None:
        self.networks, self.done, self.stored = networks, 0, 0

    def planned(self, place: Place, job: Job, stored: bool) -> None:
        """Count what an earlier start has left."""
        self.stored += stored

    def answered(self, place: Place, answer: Answer) -> None:
        """Say which one, and what it came to."""
        if isinstance(answer, Trained) and answer.curve.early_stop:
            self.done += 1
            accuracy = 100 * (answer.curve.early_stop.test_metric or 0.0)
            where = f"level {place.level:2}  {place.arm.name:<8}  replicate {place.replicate}"
            print(f"{self.done:4} of {self.networks}  {where}  {accuracy:.2f} %  {answer.seconds:.1f} s", flush=True)


def ladder(weights: int, rate: float, levels: int) -> list[int]:
    """How many weights of a layer are left at levels 0, 1, ...: each level takes round(rate * n) of n.

    >>> ladder(1000, 0.1, 2)
    [1000, 900, 810]
    """
    counts = [weights]
    for _ in range(levels):
        counts.append(counts[-1] - round(rate * counts[-1]))
    return counts


def by_level(document: dict[str, Any], arm: str) -> Rows:
    """level -> the rows of an arm, one for each replicate."""
    found: Rows = {}
    for one in document["arms"].get(arm, ()):
        found.setdefault(one["level"], []).append(one)
    return found


def accuracy(rows: list[dict[str, Any]]) -> float:
    """Mean test accuracy at early stop, in per cent."""
    values: list[float] = [one["test_accuracy_at_early_stop"] for one in rows]
    return 100 * statistics.mean(values)


def check(document: dict[str, Any], levels: int) -> bool:
    """Prints what came out beside its targets; True where all are met. Levels that were not run are left out."""
    ticket, reinit, shuffled = (by_level(document, arm) for arm in ("ticket", "reinit", "shuffled"))
    print("level  density   ticket   reinit  shuffled   (test accuracy at early stop, mean over replicates, per cent)")
    for level, rows in ticket.items():
        others = "  ".join(f"{accuracy(arm[level]):7.2f}" if level in arm else " " * 7 for arm in (reinit, shuffled))
        print(f"{level:5}  {100 * rows[0]['density']:6.2f}  {accuracy(rows):7.2f}  {others}")
    met = []
    for name, (weights, rate) in LAYERS.items():
        expected = ladder(weights, rate, levels)
        off = max(abs(r["kept_per_layer"][name] - expected[level]) for level, rows in ticket.items() for r in rows)
        met.append(row(f"{name}: counts off by at most (of {expected[-1]:,})", off, 5))
    for level, density in DENSITIES.items():
        if level in ticket:
            off = max(abs(100 * one["density"] - density) for one in ticket[level])
            met.append(row(f"level {level}: density off {density} % by", off, 0.01, " points"))
    for level in AS_DENSE:
        if level in ticket:
            below = accuracy(ticket[0]) - accuracy(ticket[level])
            met.append(row(f"level {level}: ticket below dense by", below, 0.2, " points"))
    if ABOVE_REINIT in ticket and ABOVE_REINIT in reinit:
        above = accuracy(ticket[ABOVE_REINIT]) - accuracy(reinit[ABOVE_REINIT])
        met.append(row(f"level {ABOVE_REINIT}: ticket above reinit by", above, 0.5, " points", least=True))
    return all(met)


def main() -> int:
    """Runs the ladder, prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="the lottery-ticket ladder on MNIST, with its controls")
    parser.add_argument("--levels", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5000, help="of each training")
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("build/ladder-store"))
    given = parser.parse_args()
    print(machine(), flush=True)
    watcher = Progress(given.replicates * (1 + 3 * given.levels))
    results = tombola.run(
        "mnist-lenet",
        levels=given.levels,
        steps=given.steps,
        replicates=given.replicates,
        workers=given.workers,
        store=given.store,
        watcher=watcher,
    )
    for failure in (*results.failures, *results.ended):
        print(f"FAILED: {failure}")
    print(f"{watcher.done} networks ({watcher.stored} requests answered from the store)")
    return 0 if check(results.document, given.levels) and not results.failures else 1


if __name__ == "__main__":
    sys.exit(main())
