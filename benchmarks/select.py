"""Exact-k selection, by torch and by the compiled kernels, against one pass of `torch.sum` over the same data.

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

import os
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.common import interleaved, machine, one_thread, peak_memory, ratios, reset_peak_memory, row
from tombola import tensors
from tombola.compiled import VARIABLE, absent, compiled
from tombola.streams import stream
from tombola.tensors import Cut, cut, smallest

PASSES = {"compiled": 10.0, "torch": 40.0}
"""The two paths, and how many passes of `torch.sum` a cut may take on each."""


@contextmanager
def taking(path: str) -> Iterator[None]:
    """Within it, selection takes one of the paths."""
    with patch.object(tensors, "kernels_for", lambda *_: None) if path == "torch" else nullcontext():
        yield


def timed(path: str, function: Callable[[], object]) -> Callable[[], object]:
    """The function on one path."""

    def on_path() -> object:
        with taking(path):
            return function()

    return on_path


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
    kernels = compiled()
    paths = [path for path in PASSES if path == "torch" or kernels]
    print(machine())
    print(f"compiled kernels: {kernels.name if kernels else absent()}")
    bad = []
    for path in paths:
        with taking(path):
            bad += [f"{path}, {case}" for case in wrong(min(count, 1_000_000))]
    for case in bad:
        print(f"WRONG: {case}")
    parts = data(count)
    keep = count // 5
    functions: dict[str, Callable[[], object]] = {"sum": lambda: [part.sum() for part in parts]}
    for path in paths:
        functions[f"cut, {path}"] = timed(path, lambda: cut(parts, keep))
        functions[f"smallest, {path}"] = timed(path, lambda: smallest(parts, keep))
    # Processes of their own: memory that the checks above have freed would serve again and hide what cut needs.
    command, extra = [sys.executable, __file__, *sys.argv[1:], "--extra-memory"], {}
    for path in paths:
        environment = {**os.environ, VARIABLE: kernels.name if kernels and path == "compiled" else "off"}
        child = subprocess.run(command, check=True, capture_output=True, env=environment)
        extra[path] = int(child.stdout) / (4 * count)
    times = interleaved(functions, rounds=9 if count < 50_000_000 else 7)
    print(f"{count:,} float32 in {len(parts)} tensors, the smallest 20 %")
    for name, values in times.items():
        row(f"{name}, processor time", statistics.median(values) * 1e3, unit=" ms")
    for path in paths:
        row(f"cut, {path} / sum", statistics.median(ratios(times, f"cut, {path}", "sum")), PASSES[path])
        row(f"smallest, {path} / sum", statistics.median(ratios(times, f"smallest, {path}", "sum")))
        # A few megabytes whatever the size, so that the target is one for large data.
        row(f"cut, {path}, extra peak memory / data", extra[path], None if arguments.quick else 0.1)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
