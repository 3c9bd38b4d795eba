"""Two workers mean two replicates: how much of their time goes into fits.

    python benchmarks/workers.py                      ten replicates of digits-lenet, two workers: about two minutes
    python benchmarks/workers.py --engine torch       by the reference loop: about ten

The seconds of all fits (steps and evaluations, as each training measures them) are divided by the seconds of the run
times the workers. The other shares are what the workers do beside that (building networks, reading and writing the
store, cutting masks) and what they wait for (to be started, which is the share before the first step, or for work).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import tombola
from benchmarks.common import machine, row
from tombola.answers import Answer, Trained
from tombola.executors.base import Job
from tombola.requests import Place
from tombola.watching import Silent

TARGET = 0.90


class Clock(Silent):
    """Notes when jobs begin and end, and how long their fits say they took."""

    def __init__(self) -> None:
        self.begun: dict[str, float] = {}
        self.first: float | None = None
        self.fits, self.held, self.count = 0.0, 0.0, 0

    def started(self, job: Job) -> None:
        """A worker is given a job."""
        self.begun[job.digest] = time.perf_counter()

    def progress(self, request: str, step: int) -> None:
        """The first one ends the start."""
        self.first = self.first or time.perf_counter()

    def answered(self, place: Place, answer: Answer) -> None:
        """A worker has ended a job."""
        self.held += time.perf_counter() - self.begun[answer.request]
        if isinstance(answer, Trained):
            self.fits += answer.seconds
            self.count += 1


def main() -> int:
    """Runs the experiment in a store of its own, prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="what share of the workers' time goes into fits")
    parser.add_argument("--recipe", default="digits-lenet")
    parser.add_argument("--replicates", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--levels", type=int, default=17)
    parser.add_argument("--steps", type=int, default=3000, help="of each training")
    parser.add_argument("--engine", choices=("auto", "native", "torch"), default="auto")
    given = parser.parse_args()
    clock = Clock()
    with tempfile.TemporaryDirectory() as store:
        begun, before = time.perf_counter(), os.times()
        results = tombola.run(
            given.recipe,
            levels=given.levels,
            steps=given.steps,
            replicates=given.replicates,
            workers=given.workers,
            engine=given.engine,
            store=store,
            watcher=clock,
        )
        wall, after = time.perf_counter() - begun, os.times()
    whole = given.workers * wall
    start = given.workers * ((clock.first or begun) - begun)
    print(machine())
    print(f"{given.recipe}, {clock.count} fits of {given.steps} steps, {given.workers} workers, {wall:.1f} s")
    row("waiting to be started", start / whole)
    row("beside fits: networks, store, cuts", max(0.0, clock.held - clock.fits - start) / whole)
    row("waiting for work", (whole - max(clock.held, start)) / whole)
    row("main process, processor time / wall", (after.user + after.system - before.user - before.system) / wall)
    met = row("seconds of fits / (workers x wall)", clock.fits / whole, TARGET, least=True)
    for failure in results.failures:
        print(f"FAILED: {failure}")
    return 0 if met and not results.failures else 1


if __name__ == "__main__":
    sys.exit(main())
