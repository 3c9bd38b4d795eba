"""What tests of the named networks share."""

from __future__ import annotations

import math

import torch
from torch import nn

from tombola import Scope
from tombola.scopes import prunable

CIFAR = (3, 32, 32)


def weights(model: nn.Module, scope: Scope | None = None) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in prunable(model, scope or Scope()).items()}


def count(found: dict[str, tuple[int, ...]], kernels: bool = False) -> int:
    return sum(math.prod(shape) for shape in found.values() if len(shape) > 2 or not kernels)


def stirred(model: nn.Module) -> nn.Module:
    """In float64, with batch norms that are not as at first."""
    generator = torch.Generator().manual_seed(7)
    for layer in model.double().modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5, generator=generator)
    return model
