"""From stored examples to what a network puts out, as a training says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tombola.training.sets import Sets
from tombola.training.settings import Training

__all__ = ["laid_out", "outputs_of"]


def outputs_of(
    model: Callable[[Tensor], Tensor], x: Tensor, sets: Sets, training: Training, dtype: torch.dtype
) -> Tensor:
    """f(x) in the network's dtype, also where layers compute in bfloat16: losses and metrics are never rounded to that.

    Args:
        x: examples as they are stored, on the device of the network.
        dtype: of the network.
    """
    inputs = sets.inputs(x, dtype)
    if training.memory_format == "channels-last" and inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    if training.precision == "float32":
        outputs: Tensor = model(inputs)
        return outputs
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        outputs = model(inputs)
    return outputs.to(dtype)


def laid_out(model: nn.Module, training: Training) -> nn.Module:
    """The network with its weights in the memory format of a training, in place."""
    if training.memory_format == "channels-last":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
