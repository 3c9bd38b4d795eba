"""What scoring and cutting a network costs, in forward-backward passes and passes over the weights.

    python benchmarks/criteria.py            25 million weights
    python benchmarks/criteria.py --quick    2 million

A criterion is timed with the exact cut of the global allocation. The bound: 2.2 forward-backward passes for each batch
of the probe and 40 passes of `torch.sum` over the weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.common import interleaved, machine, medians, one_thread, row
from tombola.allocation import globally
from tombola.criteria import Probe, criterion_of
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.streams import seeded

CRITERIA = ("magnitude", "movement", "snip", "taylor", "wanda")
BATCH_PASSES, WEIGHT_PASSES = 2.2, 40.0


def network(width: int) -> nn.Module:
    """Six layers of width x width and a small head."""
    with seeded(0):
        layers = [part for _ in range(6) for part in (nn.Linear(width, width), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(width, 10))


def main() -> int:
    """Print a line for each criterion; 1 if one is over the bound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="2 million weights")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=2, help="of 128 examples, in the probe")
    asked = parser.parse_args()
    one_thread()
    width = 600 if asked.quick else 2048
    model = network(width)
    mask = Mask.dense(model)
    generator = torch.Generator().manual_seed(1)
    batches = [
        (torch.randn(128, width, generator=generator), torch.randint(10, (128,), generator=generator))
        for _ in range(asked.batches)
    ]
    initial = {name: value.detach() + 0.01 for name, value in model.named_parameters()}
    probe = Probe(batches=batches, loss=F.cross_entropy, initial=initial)
    weights = torch.cat([weight.detach().flatten() for weight in model.parameters() if weight.ndim > 1])

    def pass_of_a_batch() -> None:
        x, y = batches[0]
        F.cross_entropy(model(x), y).backward()
        model.zero_grad()

    def scored(name: str) -> Callable[[], object]:
        pruner = Pruner(criterion=criterion_of(name), allocation=globally)
        return lambda: pruner(model, mask, mask.total // 5, replace(probe))

    functions: dict[str, Callable[[], object]] = {"batch": pass_of_a_batch, "weights": weights.sum}
    functions |= {name: scored(name) for name in CRITERIA}
    found = medians(interleaved(functions, asked.rounds))
    bound = BATCH_PASSES * asked.batches * found["batch"] + WEIGHT_PASSES * found["weights"]
    print(machine())
    print(f"{mask.total:,} weights; a forward-backward pass of 128 examples {found['batch']:.3f} s, a pass over the")
    print(f"weights {found['weights'] * 1e3:.1f} ms; {asked.batches} batches; bound {bound:.2f} s")
    met = [row(name, found[name] / bound, 1.0) for name in CRITERIA]
    return int(not all(met))


if __name__ == "__main__":
    sys.exit(main())
