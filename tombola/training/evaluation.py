"""Loss and metric of a network over a whole set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tombola.training.forward import outputs_of
from tombola.training.sets import Examples, Sets, loss_of
from tombola.training.settings import Training

__all__ = ["correct", "evaluate"]

_CHUNK = 2000


def correct(outputs: Tensor, y: Tensor) -> Tensor:
    """How many rows of `outputs` are largest at the label; a 0-dimensional tensor."""
    return (outputs.argmax(1) == y).sum()


@torch.no_grad()
def evaluate(
    model: nn.Module, examples: Examples, sets: Sets, training: Training, *, index: Tensor | None = None
) -> tuple[float, float]:
    """(loss, metric) in evaluation mode: means over the examples; the model's mode is put back.

    The metric is accuracy (a fraction) for class labels, else the mean squared error.

    Args:
        index: which examples; None: all.
    """
    mode = model.training
    model.eval()
    dtype = next(model.parameters()).dtype
    loss, metric, n = 0.0, 0.0, len(examples) if index is None else len(index)
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK) if index is None else index[start : start + _CHUNK]
        x, y = examples.x[part], examples.y[part]
        outputs = outputs_of(model, x, sets, training, dtype)
        loss += float(loss_of(outputs, y, training, reduction="sum"))
        metric += float(correct(outputs, y)) if sets.classes else float(loss_of(outputs, y, training, reduction="sum"))
    model.train(mode)
    return loss / n, metric / n
