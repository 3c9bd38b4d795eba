"""A ticket found on one data set and tried on another: digits 0 to 4 give it, on digits 5 to 9 it is trained.

Beside it: the dense network, fresh weights under the same mask, and a ticket found on the second data set itself.
Run it: python examples/transfer.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import tombola

IMAGES, LABELS = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
IMAGES, TEST = IMAGES.float() / 16, torch.arange(len(LABELS)) % 2 == 0


class Task:
    """Five of the ten digits: a `train` and an `evaluate` of your own."""

    def __init__(self, first: int) -> None:
        here = (LABELS - first).clamp(0, 4) == LABELS - first
        self.x, self.y = IMAGES[here & ~TEST], LABELS[here & ~TEST] - first
        self.test_x, self.test_y = IMAGES[here & TEST], LABELS[here & TEST] - first

    def train(self, model: nn.Module) -> None:
        """An ordinary loop."""
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
        for _ in range(150):
            batch = torch.randint(len(self.x), (32,))
            optimizer.zero_grad()
            F.cross_entropy(model(self.x[batch]), self.y[batch]).backward()
            optimizer.step()

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> float:
        """Test accuracy."""
        return float((model(self.test_x).argmax(1) == self.test_y).float().mean())


def network(seed: int) -> nn.Module:
    """The same architecture on both data sets, so that every tensor of the ticket has its place."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 5))


def main() -> None:
    """Three seeds, since one would say nothing."""
    torch.set_num_threads(1)  # a network this small gains nothing from more
    low, high, rows = Task(0), Task(5), {}
    for seed in range(3):
        dense = tombola.Mask.dense(network(seed))
        there, here = (tombola.find_ticket(network(seed), task.train, levels=4, rate=0.5) for task in (low, high))
        moved = there.transfer(network(seed))  # takes what fits the other network; here everything does
        for name, model, mask in [
            ("dense", network(seed), dense),
            ("ticket found on 0 to 4", moved.apply(network(seed)), moved.mask),
            ("its mask, fresh weights", network(seed + 100), moved.mask),
            ("ticket found on 5 to 9", here.apply(network(seed)), here.mask),
        ]:
            torch.manual_seed(seed)  # the same batches for all
            with tombola.enforce(model, None, mask):
                high.train(model)
            rows.setdefault(f"{name:<24}{mask.density:6.1%} kept", []).append(high.evaluate(model))
    for name, found in rows.items():
        accuracies = ", ".join(f"{accuracy:.1%}" for accuracy in found)
        print(f"{name}, mean test accuracy on 5 to 9: {sum(found) / 3:.1%} ({accuracies})")


if __name__ == "__main__":
    main()
