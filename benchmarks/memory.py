"""Peak memory of a whole ladder of tickets, above a process that imported torch and loaded the data.

python benchmarks/memory.py           LeNet-300-100 on MNIST, 20 levels, native engine (Linux)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks.common import machine, one_thread, peak_memory, reset_peak_memory, row
from benchmarks.native import TRAINING, WIDTHS, ladder
from benchmarks.step import dataset
from tombola.compiled import compiled
from tombola.models.fully_connected import mlp
from tombola.training.sets import prepare

TARGET = 100.0  # megabytes


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="peak memory of a ladder")
    parser.add_argument("--steps", type=int, default=200, help="of a training")
    given = parser.parse_args()
    one_thread()
    library = compiled()
    if library is None:
        raise SystemExit("there are no compiled kernels to measure; see tombola.compiled.absent()")
    sets = prepare(dataset(), TRAINING, torch.device("cpu"))
    mlp(WIDTHS)(sets.inputs(sets.train.x[:60], torch.float32)).sum().backward()  # torch's own first-time buffers
    reset_peak_memory()
    before = peak_memory()
    ladder(library, sets, 19, given.steps, evaluate=True)
    print(machine())
    row("peak memory of the ladder above the data", (peak_memory() - before) / 1e6, TARGET, unit=" MB")


if __name__ == "__main__":
    main()
