"""Batches of one example, of which batch norm cannot take a variance."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tombola.errors import UsageError
from tombola.streams import seeded

__all__ = ["check_single"]


def check_single(model: nn.Module, x: Tensor) -> None:
    """Refuse a network that cannot be trained on batches of one example.

    Args:
        model: is copied, so that its running statistics stay.
        x: one example, (1, ...).

    Raises:
        UsageError: a batch norm has one value per channel, or the forward pass in training mode fails.

    >>> check_single(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), torch.zeros(1, 1, 4, 4))  # 2 x 2 values
    >>> check_single(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), torch.zeros(1, 1, 3, 3))
    Traceback (most recent call last):
    tombola.errors.UsageError: The batch norm '1' has one value per channel in a batch of 1 example, and training ...
    """
    model = copy.deepcopy(model).train()
    names = {module: name for name, module in model.named_modules()}

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training and inputs and inputs[0].numel() == inputs[0].shape[1]:
            raise UsageError(
                f"The batch norm {names[module]!r} has one value per channel in a batch of 1 example, and training "
                f"needs two or more for a variance; use a batch size of 2 or more (in each of the parts too)."
            )

    for module in names:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(look)
    try:
        with torch.no_grad(), seeded(0):
            model(x)
    except UsageError:
        raise
    except Exception as error:  # whatever a user's forward raises
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"The model cannot train on a batch of 1 example: {reason}") from error
