"""Winning tickets in a network and data of your own, in one process and a few seconds.

Run it: python examples/own_network.py
"""

from __future__ import annotations

import tempfile

import torch
from torch import nn

import tombola
from tombola.training.optimizers import Optimizer


def spirals(seed: int, count: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """Three interleaved spirals in the plane: (count, 2) points and their arm as a label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    radius = torch.rand(count, generator=generator)
    angle = 4 * radius + labels * 2.0944 + 0.15 * torch.randn(count, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), labels


def network() -> nn.Module:
    """Any module will do; Tombola sets the random seeds around this call."""
    return nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))


def main() -> None:
    """Search, and print the ticket beside its controls."""
    data = tombola.from_arrays("spirals", *spirals(0), *spirals(1))
    with tempfile.TemporaryDirectory() as store:
        found = tombola.run(
            "digits-lenet",
            data=data,
            model=network,
            normalise="none",
            optimizer=Optimizer(lr=0.01),
            steps=400,
            eval_every=50,
            levels=3,
            rate=0.4,
            replicates=2,
            store=store,
        )
    for arm, rows in found.document["arms"].items():
        last = [row["test_accuracy"] for row in rows if row["level"] == 3]
        density = next(row["density"] for row in rows if row["level"] == 3)
        print(f"{arm:<9} at {density:.1%} of the weights: {sum(last) / len(last):.1%} test accuracy")


if __name__ == "__main__":
    main()
