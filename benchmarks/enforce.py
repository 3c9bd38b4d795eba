"""What `enforce` costs in a user's own loop, against the same loop without a mask.

    python benchmarks/enforce.py           LeNet-300-100, batch 60, four optimizers; ResNet-20, batch 32, SGD

Both loops are plain torch on noise of MNIST's and CIFAR-10's shapes; the masked one differs by one `with` line, and by
the weights that are 0. Default Adam pays for its square roots of exact zeros, not for the mask: `fused=True` does not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import clocked, machine, medians, one_thread, ratios, row
from tombola import Mask, enforce, prune
from tombola.errors import Hint
from tombola.models.net import Net
from tombola.models.registry import MODELS

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "fused Adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True),
    "fused SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, fused=True),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "default Adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
}
TARGETS = {"fused Adam": 1.25, "fused SGD": 1.25, "SGD": 1.25, "default Adam": 1.90}
RESNET = 1.10


def resnet() -> nn.Module:
    """ResNet-20 for CIFAR-10."""
    return MODELS["resnet-20"]((3, 32, 32), 10, Net(), 0)


def lenet() -> nn.Module:
    """LeNet-300-100."""
    return nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def seconds(
    build: Callable[[], nn.Module], make: Make, batches: list[tuple[Tensor, Tensor]], density: float | None
) -> float:
    """Processor seconds of one user's loop over the batches; density None: without a mask."""
    torch.manual_seed(0)
    model = build()
    mask = (
        Mask.dense(model) if density is None else prune(model, Mask.dense(model), density=density, criterion="random")
    )
    optimizer = make(list(model.parameters()))
    start = 0.0
    with nullcontext() if density is None else enforce(model, None, mask):
        for number, (x, y) in enumerate(batches):
            start = time.process_time() if number == 1 else start  # the first step makes the optimizer's state
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        return time.process_time() - start


def compare(build: Callable[[], nn.Module], make: Make, shape: tuple[int, ...], density: float, rounds: int) -> float:
    """The median ratio of the masked loop to the unmasked one."""
    generator = torch.Generator().manual_seed(0)
    steps, size = (201, 60) if len(shape) == 1 else (7, 32)
    data = [(torch.rand(size, *shape, generator=generator), torch.arange(size) % 10) for _ in range(steps)]
    times = clocked({str(d): partial(seconds, build, make, data, d) for d in (None, density)}, rounds)
    for name, value in medians(times).items():
        row(f"    {'no mask' if name == 'None' else 'enforce'}", value / (steps - 1) * 1e6, unit=" us/step")
    return statistics.median(ratios(times, str(density), "None"))


def main() -> int:
    """Measures and prints the table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="enforce in a user's loop against the same loop without a mask")
    parser.add_argument("--rounds", type=int, default=9, help="timed runs of each loop")
    given = parser.parse_args()
    warnings.simplefilter("ignore", Hint)
    one_thread()
    print(machine())
    met = []
    for density in (0.2, 0.036):
        for name, make in OPTIMIZERS.items():
            found = compare(lenet, make, (784,), density, given.rounds)
            met.append(row(f"LeNet, {name}, density {density}", found, TARGETS[name]))
    found = compare(resnet, OPTIMIZERS["SGD"], (3, 32, 32), 0.2, given.rounds)
    met.append(row("ResNet-20, SGD, density 0.2", found, RESNET))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
