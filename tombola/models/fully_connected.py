"""Fully connected networks: any widths, and LeNet-300-100."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import nn

from tombola.errors import UsageError, suggest
from tombola.models.dropout import CounterDropout
from tombola.models.net import Net
from tombola.streams import stream

__all__ = ["ACTIVATIONS", "build_mlp", "lenet_300_100", "mlp"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "identity": nn.Identity}


def mlp(widths: Sequence[int], *, activation: str = "relu", dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    """A fully connected network: flatten, then fc1, activation, dropout, fc2, ..., output.

    Weights are drawn from a normal distribution with variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010), biases
    are 0, as in Frankle and Carbin (2019, arXiv 1803.03635), whose TensorFlow code truncates the normal at two standard
    deviations; we do not.

    Args:
        widths: inputs, hidden units, outputs: at least two numbers, each at least 1.
        activation: a name of `ACTIVATIONS`, between the layers.
        dropout: rate after each hidden activation, in [0, 1).
        seed: of the initial weights; global random state is neither read nor changed.

    Raises:
        UsageError: widths, activation or dropout are not as above.

    >>> [tuple(p.shape) for p in mlp((4, 3, 2)).parameters()]
    [(3, 4), (3,), (2, 3), (2,)]
    """
    if len(widths) < 2 or any(not isinstance(w, int) or w < 1 for w in widths):
        raise UsageError(
            f"widths={tuple(widths)}; expected inputs, hidden units and outputs, each a whole number above 0."
        )
    if activation not in ACTIVATIONS:
        raise UsageError(f"Unknown activation {activation!r}. {suggest(activation, ACTIVATIONS)}")
    if not (isinstance(dropout, int | float) and math.isfinite(dropout) and 0 <= dropout < 1):
        raise UsageError(f"dropout={dropout!r}; expected a rate from 0 to below 1.")
    generator, last = stream(seed, "init"), len(widths) - 1
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, (fan_in, fan_out) in enumerate(pairwise(widths), 1):
        name = "output" if number == last else f"fc{number}"
        layers[name] = _linear(fan_in, fan_out, generator)
        if number < last:
            layers[f"{activation}{number}"] = ACTIVATIONS[activation]()
            if dropout:
                layers[f"dropout{number}"] = CounterDropout(dropout)
    return nn.Sequential(layers)


def _linear(fan_in: int, fan_out: int, generator: torch.Generator) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
    with torch.no_grad():
        nn.init.xavier_normal_(layer.weight, generator=generator)
        layer.bias.zero_()
    return layer


def build_mlp(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """`mlp` with first and last width from the data and `net.hidden` between."""
    widths = (math.prod(input_shape), *map(net.scaled, net.hidden), outputs)
    return mlp(widths, activation=net.activation, dropout=net.dropout, seed=seed)


def lenet_300_100(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """LeNet-300-100 (LeCun et al. 1998): two hidden layers of 300 and 100 units; 266,200 weights on MNIST."""
    if net.hidden not in {(), (300, 100)}:
        raise UsageError(f"lenet-300-100 has hidden layers of 300 and 100 units, not {net.hidden}; use --model mlp.")
    return build_mlp(input_shape, outputs, replace(net, hidden=(300, 100)), seed)
