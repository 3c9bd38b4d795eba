"""What the named networks are put together from, and what they ask of input and options."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from tombola.errors import UsageError, suggest
from tombola.models.dropout import CounterDropout
from tombola.models.net import Net

__all__ = [
    "ACTIVATIONS",
    "Layers",
    "activation_of",
    "add_dense",
    "conv",
    "image_shape",
    "linear",
    "norm",
    "refuse_options",
]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "identity": nn.Identity}

Layers = OrderedDict[str, nn.Module]
Layer = TypeVar("Layer", bound=nn.Module)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A fully connected layer with bias whose numbers are yet to be drawn."""
    return _placed(nn.Linear(inputs, outputs, device="meta"))


def conv(inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    """A convolution that keeps height and width at stride 1, whose numbers are yet to be drawn.

    Args:
        inputs, outputs: channels.
        size: of the kernel, odd.
        bias: none where batch norm follows, which would take it away.
    """
    padding = size // 2
    return _placed(
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=padding, groups=groups, bias=bias, device="meta")
    )


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm whose numbers are yet to be set."""
    return _placed(nn.BatchNorm2d(channels, device="meta"))


def _placed(layer: Layer) -> Layer:
    """On the CPU with room for numbers; as it is, without any, where the meta device says that shapes are enough."""
    return layer if torch.get_default_device().type == "meta" else layer.to_empty(device="cpu")


def activation_of(name: str) -> nn.Module:
    """The module of a name of `ACTIVATIONS`; raises `UsageError` for another."""
    if name not in ACTIVATIONS:
        raise UsageError(f"Unknown activation {name!r}. {suggest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def add_dense(layers: Layers, widths: Sequence[int], *, activation: str, dropout: float, number: int = 1) -> None:
    """Append fc1, activation, dropout, fc2, ..., output.

    Args:
        widths: inputs, hidden units, outputs.
        dropout: rate after each hidden activation, in [0, 1).
        number: of the first activation here.

    Raises:
        UsageError: a dropout rate or activation that cannot be.
    """
    if not (isinstance(dropout, int | float) and math.isfinite(dropout) and 0 <= dropout < 1):
        raise UsageError(f"dropout={dropout!r}; expected a rate from 0 to below 1.")
    *hidden, last = pairwise(widths)
    for place, (inputs, outputs) in enumerate(hidden):
        layers[f"fc{place + 1}"] = linear(inputs, outputs)
        layers[f"{activation}{number + place}"] = activation_of(activation)
        if dropout:
            layers[f"dropout{place + 1}"] = CounterDropout(dropout)
    layers["output"] = linear(*last)


def image_shape(name: str, input_shape: tuple[int, ...], outputs: int, *, halvings: int = 0) -> tuple[int, int, int]:
    """(channels, height, width) of an input that a network of this name can read.

    Args:
        halvings: pools of 2 x 2 without padding, each of which needs 2 places or more.

    Raises:
        UsageError: the input is no image, or one too small, or there is nothing to put out.

    >>> image_shape("conv-2", (1, 28, 28), 10, halvings=1)
    (1, 28, 28)
    """
    if len(input_shape) != 3:
        raise UsageError(
            f"{name} reads images: expected channels x height x width, got inputs of shape {tuple(input_shape)}. "
            f"Use --model mlp, or give the data that shape."
        )
    channels, height, width = input_shape
    least = 2**halvings
    if channels < 1 or min(height, width) < least:
        pools = f" has {halvings} pool{'s' * (halvings > 1)} of 2 x 2 and" if halvings else ""
        raise UsageError(
            f"{name}{pools} needs images of one channel or more and {least} x {least} places or more, got {channels} x "
            f"{height} x {width} (channels x height x width)."
        )
    if outputs < 1:
        raise UsageError(f"{name} is asked for {outputs} outputs; expected 1 or more.")
    return channels, height, width


_LACKING = {
    "hidden": "no fully connected hidden layer whose width could be set",
    "activation": "no other activation than relu",
    "dropout": "no fully connected hidden layer for dropout",
    "norm_scale": "no batch norm whose scale could be set",
}


def refuse_options(name: str, net: Net, *lacking: str) -> None:
    """Refuse options that a network does not have.

    Args:
        lacking: of hidden, activation, dropout, norm_scale.

    Raises:
        UsageError: one of them is set.
    """
    neutral = Net()
    for option in lacking:
        value, usual = getattr(net, option), getattr(neutral, option)
        if value != usual:
            said = " ".join(map(str, value)) if isinstance(value, Collection) and not isinstance(value, str) else value
            kept = f"leave it at {usual}" if usual not in ((), 0.0) else "leave it out"
            raise UsageError(f"{name} has {_LACKING[option]}, and net.{option} is {said}; {kept}.")
