"""A tiny transformer that reads digits row by row, in a loop of your own with AdamW, warmup and clipping.

Rewinding goes to the end of the warmup: `rewind_to` counts the optimizer steps within `train`.
Run it: python examples/tiny_transformer.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import tombola

ROWS, LABELS = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
ROWS = ROWS.float().view(-1, 8, 8) / 16  # eight rows of eight pixels: a sequence of eight vectors
TEST = torch.arange(len(LABELS)) % 4 == 0
STEPS, WARMUP = 100, 15


class Reader(nn.Module):
    """Two encoder layers over rows, with learned positions; the mean goes to a classifier."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.inner, self.places = nn.Linear(8, width), nn.Parameter(0.1 * torch.randn(8, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sequences (N, 8, 8) to logits (N, 10)."""
        return self.head(self.encoder(self.inner(x) + self.places).mean(1))


def train(model: Reader) -> None:
    """An ordinary loop; optimizer and scheduler are made within, so that they begin anew at every level."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01, fused=True)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP))
    x, y = ROWS[~TEST], LABELS[~TEST]
    for _ in range(STEPS):
        batch = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warmup.step()


@torch.no_grad()
def evaluate(model: Reader) -> float:
    """Test accuracy."""
    return float((model.eval()(ROWS[TEST]).argmax(1) == LABELS[TEST]).float().mean())


def main() -> None:
    """Rewinding to the initial weights, and to the end of the warmup; the head stays dense. One seed: no verdict."""
    torch.set_num_threads(1)  # a network this small gains nothing from more
    for step in (0, WARMUP):
        torch.manual_seed(0)  # the same start and the same batches for both
        found = tombola.find_ticket(
            Reader, train, evaluate, levels=2, rate=0.7, rewind_to=step, protect="head.*", controls=("reinit",)
        )
        for row in (found.history[0], *found.history[-2:]):
            name = row.arm if row.level else "dense"
            print(f"rewound to step {step:<3} {name:<7} {row.density:6.1%} kept, test accuracy {row.metric:.1%}")


if __name__ == "__main__":
    main()
