"""What the command line costs before it does anything: processor time of whole processes.

python benchmarks/startup.py            `tombola --help`, and `tombola ls` on a store with 1,000 fits
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import subprocess

from benchmarks.common import machine, row
from tombola.answers import Curve, Point, Trained
from tombola.recipes import RECIPES, to_toml
from tombola.requests import Fit
from tombola.specs import digest
from tombola.starts import Init
from tombola.store import Store

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = 5
POINTS = 50


def seconds(arguments: list[str], runs: int) -> float:
    """Median processor time (user and system) of `tombola` with these arguments; one untimed run comes first."""
    times = []
    for _ in range(runs + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "tombola", *arguments], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times[1:])


def fill(root: Path, fits: int) -> None:
    """A store with so many answered fits, in `EXPERIMENTS` experiments."""
    store, recipe = Store(root), RECIPES["digits-lenet"]
    for number in range(EXPERIMENTS):
        rows = []
        for place in range(number, fits, EXPERIMENTS):
            fit = Fit(start=Init(seed=place), mask=None, last=POINTS, order=0, noise=0)
            request = digest(fit)
            numbers = {"train_loss": 0.5, "validation_loss": 0.5, "test_loss": 0.5, "test_metric": 0.9}
            curve = Curve(tuple(Point(step=step, **numbers) for step in range(POINTS)))
            kept = {"fc1.weight": 19_200, "fc2.weight": 30_000, "output.weight": 1_000}
            answer = Trained(request=request, first=0, last=POINTS, curve=curve, kept=kept, prunable=50_200)
            store.put(request, fit, answer)
            level, replicate = divmod(place, EXPERIMENTS)
            rows.append({"replicate": replicate, "level": level, "arm": "ticket", "draw": 0, "request": request})
        content = {
            "recipe": recipe.name,
            "settings": to_toml(recipe),
            "task": digest(number),
            "metric": "accuracy",
            "begun": float(number),
            "command": "",
            "provenance": {},
            "state": "finished",
            "rows": rows,
            "failures": [],
            "ended": [],
        }
        store.put_experiment(digest([number]), content)


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description="processor time of `tombola --help` and `tombola ls`")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each command")
    parser.add_argument("--fits", type=int, default=1000, help="in the store that is listed")
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="tombola-startup-") as folder:
        store = Path(folder) / "store"
        fill(store, given.fits)
        row("tombola --help", seconds(["--help"], given.runs), 0.5, " s")
        row(f"tombola ls, {given.fits:,} fits", seconds(["ls", "--store", str(store)], given.runs), 2.0, " s")


if __name__ == "__main__":
    main()
