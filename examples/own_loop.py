"""The pieces by hand, in a training loop of your own: a mask, pruning, rewinding, enforcement.

Run it: python examples/own_loop.py
"""

from __future__ import annotations

import copy

import torch
from sklearn.datasets import load_digits
from torch import nn

import tombola

X, Y = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
X = X.float() / 16
TEST = torch.arange(len(Y)) % 4 == 0


def train(model: nn.Module, mask: tombola.Mask, steps: int = 200) -> float:
    """An ordinary loop; `enforce` is the only line that knows of pruning. Returns the test accuracy."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    x, y = X[~TEST], Y[~TEST]
    with tombola.enforce(model, optimizer, mask):
        for _ in range(steps):
            batch = torch.randint(len(x), (60,), generator=generator)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return float((model(X[TEST]).argmax(1) == Y[TEST]).float().mean())


def main() -> None:
    """Three levels of iterative magnitude pruning with rewinding to the initial weights."""
    torch.set_num_threads(1)  # a network this small gains nothing from more
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    start = copy.deepcopy(model.state_dict())
    mask = tombola.Mask.dense(model)
    for level in range(4):
        accuracy = train(model, mask)
        print(f"level {level}: {mask.density:6.1%} of the weights, {accuracy:.1%} test accuracy")
        mask = tombola.prune(model, mask, density=0.4 ** (level + 1))
        model.load_state_dict(start)


if __name__ == "__main__":
    main()
