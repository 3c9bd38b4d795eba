"""A convolutional network of your own, in a training loop of your own: the ticket beside its controls, then shrunk.

Run it: python examples/digits_cnn.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import tombola

IMAGES, LABELS = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
IMAGES = IMAGES.float().view(-1, 1, 8, 8) / 16
TEST = torch.arange(len(LABELS)) % 4 == 0


class Net(nn.Module):
    """Two convolutions and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 16, 3, padding=1), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, 1, 8, 8) to logits (N, 10)."""
        x = F.relu(self.norm(self.first(x)))
        return self.last(F.max_pool2d(F.relu(self.second(x)), 2).flatten(1))


def train(model: Net) -> None:
    """An ordinary loop, in which nothing knows of tickets."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = IMAGES[~TEST], LABELS[~TEST]
    for _ in range(4):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()


@torch.no_grad()
def evaluate(model: Net) -> float:
    """Test accuracy."""
    return float((model.eval()(IMAGES[TEST]).argmax(1) == LABELS[TEST]).float().mean())


def main() -> None:
    """Find tickets in three replicates, print all arms, and cut out what the last mask made superfluous."""
    torch.set_num_threads(1)  # a network this small gains nothing from more
    torch.manual_seed(0)
    found = tombola.find_ticket(Net, train, evaluate, levels=3, rate=0.5, controls=("reinit", "shuffled"), replicates=3)
    for level, arm in [(0, "ticket"), (3, "ticket"), (3, "reinit"), (3, "shuffled")]:
        rows = [row for row in found.history if (row.level, row.arm) == (level, arm)]
        name = arm if level else "dense"
        accuracies = ", ".join(f"{row.metric:.1%}" for row in rows)
        print(f"{name:<9} {rows[0].density:6.1%} of the weights, test accuracy of three replicates: {accuracies}")
    print(f"verdict: {found.metadata['verdict']['word']} ({found.metadata['verdict']['why']})")
    model = Net()
    model.load_state_dict(found.trained)
    small = tombola.shrink(model, found.mask, IMAGES[:2])
    print(f"shrunk: {small.after:,} of {small.before:,} parameters, test accuracy {evaluate(small.model):.1%}")


if __name__ == "__main__":
    main()
