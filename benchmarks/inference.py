"""A sparse network at work: `tombola.native.compile` against ONNX Runtime and torch on the dense network.

    python benchmarks/inference.py           LeNet-300-100 at 3.5 % on MNIST's test images: 20 seconds

ONNX Runtime comes with the extra `bench`; without it its rows are left out. All sides get what a program would hand
them: ours uint8 images or float32 ones, packed into tiles within the call; the others float32.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks.common import interleaved, machine, medians, one_thread, ratios, row
from benchmarks.onnx_graph import dense_session
from benchmarks.step import WIDTHS, dataset
from tombola.compiled import compiled
from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.native import compile as compile_network
from tombola.pruning import prune

DENSITY = 0.035
TARGETS = {"avx512": {1: 0.30, 256: 0.12}, "avx2": {1: 0.30, 256: 0.16}}
ROUNDS = {1: 1000, 64: 60, 256: 20, 1024: 5}


def repeated(function: Callable[[], object], times: int) -> Callable[[], None]:
    """The function, so many times in a row."""

    def run() -> None:
        for _ in range(times):
            function()

    return run


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description="sparse inference against dense")
    parser.add_argument("--rounds", type=int, default=11, help="timed rounds")
    given = parser.parse_args()
    one_thread()
    model = mlp(WIDTHS).eval()
    mask = prune(model, Mask.dense(model), density=DENSITY)
    run = compile_network(model, mask, scale=1 / 255)
    data = dataset()
    library = compiled()
    variant = library.name if library else "torch"
    print(machine())
    print(f"LeNet-300-100 at {DENSITY:.1%} on {data.name}: {run!r}, variant {variant}")
    for batch, times in ROUNDS.items():
        pixels = data.x_test[:batch].flatten(1).contiguous()
        floats = pixels.float().div(255)
        functions: dict[str, Callable[[], object]] = {
            "sparse, uint8": lambda pixels=pixels: run(pixels),
            "sparse, float32": lambda floats=floats: run(floats),
            "torch, dense": torch.no_grad()(lambda floats=floats: model(floats)),
        }
        try:
            session, array = dense_session(model, batch), floats.numpy()
            functions["ONNX Runtime, dense"] = lambda session=session, array=array: session(array)
        except ImportError as error:
            print(f"ONNX Runtime is left out ({error}): pip install -c constraints.txt -e '.[bench]'")
        clocks = {name: repeated(function, times) for name, function in functions.items()}
        taken = interleaved(clocks, given.rounds)
        print(f"batch {batch}")
        for name, seconds in medians(taken).items():
            row(name, seconds / times * 1e6, unit=" us")
        target = TARGETS.get(variant, {}).get(batch)
        for name in functions:
            if name.startswith("sparse") and "ONNX Runtime, dense" in functions:
                row(f"{name} / ONNX Runtime", statistics.median(ratios(taken, name, "ONNX Runtime, dense")), target)


if __name__ == "__main__":
    main()
