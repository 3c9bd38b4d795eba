"""Exact-k selection against one pass of `torch.sum` over the same data, and its extra memory.

    python benchmarks/select.py            100 million float32
    python benchmarks/select.py --quick    5 million

The exit code is 1 only where a result is wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import statistics
import subprocess

import numpy as np
import torch

from benchmarks.common import interleaved, machine, one_thread, peak_memory, ratios, reset_peak_memory, row
from tombola.streams import stream
from tombola.tensors import Cut, cut, smallest


def wrong(count: int) -> list[str]:
    """The names of the distributions on which `cut` and `smallest` differ from np.partition or a stable sort."""
    generator = stream(0, "benchmark/verify")
    normal = torch.randn(count, generator=generator)
    cases = {
        "absolute normal": normal.abs(),
        "signed normal": normal,
        "rounded (ties)": normal.mul(4).round(),
        "all equal": torch.full((count,), 0.5),
        "few octaves": normal.abs().mul(0.01).add(1),
    }
    bad = []
    for name, values in cases.items():
        for k in (1, count // 5, count - 1):
            threshold = float(np.partition(values.numpy(), k - 1)[k - 1])
            bits = int(torch.tensor(threshold).abs().view(torch.int32))
            ties = k - int((values < threshold).sum())
            expected = torch.zeros(count, dtype=torch.bool)
            expected[torch.argsort(values, stable=True)[:k]] = True
            same = torch.equal(smallest([values], k)[0], expected)
            if not same or cut([values], k) != Cut(key=bits if threshold > 0 else -bits, ties=ties):
                bad.append(f"{name}, k = {k}")
    return bad


def data(count: int) -> list[torch.Tensor]:
    """Absolute normal values in three tensors."""
    generator = stream(0, "benchmark/select")
    sizes = (count // 2, count // 3, count - count // 2 - count // 3)
    return [torch.randn(size, generator=generator).abs_() for size in sizes]


def extra_memory(count: int) -> int:
    """Bytes by which `cut` raises the peak memory of this process; libraries are warm, the heap is not."""
    parts = data(count)
    cut([torch.ones(1000)], 10)
    reset_peak_memory()
    before = peak_memory()
    cut(parts, count // 5)
    return peak_memory() - before


def main() -> int:
    """Verifies, measures, prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="exact-k selection against torch.sum")
    parser.add_argument("--quick", action="store_true", help="5 million values instead of 100 million")
    parser.add_argument("--extra-memory", action="store_true", help="print only the extra peak memory of cut, in bytes")
    arguments = parser.parse_args()
    count = 5_000_000 if arguments.quick else 100_000_000
    one_thread()
    if arguments.extra_memory:
        print(extra_memory(count))
        return 0
    print(machine())
    bad = wrong(min(count, 1_000_000))
    for case in bad:
        print(f"WRONG: {case}")
    parts = data(count)
    keep = count // 5
    # A process of its own: memory that the checks above have freed would serve again and hide what cut needs.
    child = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--extra-memory"], check=True, capture_output=True)
    extra = int(child.stdout) / (4 * count)
    functions = {
        "sum": lambda: [part.sum() for part in parts],
        "cut": lambda: cut(parts, keep),
        "smallest": lambda: smallest(parts, keep),
    }
    times = interleaved(functions, rounds=9 if count < 50_000_000 else 7)
    print(f"{count:,} float32 in {len(parts)} tensors, the smallest 20 %")
    for name, values in times.items():
        row(f"{name}, processor time", statistics.median(values) * 1e3, unit=" ms")
    row("cut / sum", statistics.median(ratios(times, "cut", "sum")), 40.0)
    row("smallest / sum", statistics.median(ratios(times, "smallest", "sum")))
    # A few megabytes whatever the size, so that the target is one for large data.
    row("cut, extra peak memory / data", extra, None if arguments.quick else 0.1)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
