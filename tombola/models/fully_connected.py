"""Fully connected networks: any widths, and LeNet-300-100."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from tombola.errors import UsageError
from tombola.models.initializers import initialise
from tombola.models.layers import ACTIVATIONS, Layers, add_dense, refuse_options
from tombola.models.net import Net

__all__ = ["ACTIVATIONS", "build_mlp", "lenet_300_100", "mlp"]


def mlp(
    widths: Sequence[int],
    *,
    activation: str = "relu",
    dropout: float = 0.0,
    initializer: str = "glorot-normal",
    seed: int = 0,
) -> nn.Sequential:
    """A fully connected network: flatten, then fc1, activation, dropout, fc2, ..., output.

    Weights are drawn from a normal distribution with variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010), biases
    are 0, as in Frankle and Carbin (2019, arXiv 1803.03635), whose TensorFlow code truncates the normal at two standard
    deviations; we do not.

    Args:
        widths: inputs, hidden units, outputs: at least two numbers, each at least 1.
        activation: a name of `ACTIVATIONS`, between the layers.
        dropout: rate after each hidden activation, in [0, 1).
        initializer: another distribution, a name of `tombola.models.INITIALIZERS` with its options.
        seed: of the initial weights; global random state is neither read nor changed.

    Raises:
        UsageError: widths, activation, dropout or initializer are not as above.

    >>> [tuple(p.shape) for p in mlp((4, 3, 2)).parameters()]
    [(3, 4), (3,), (2, 3), (2,)]
    """
    if len(widths) < 2 or any(not isinstance(w, int) or w < 1 for w in widths):
        raise UsageError(
            f"widths={tuple(widths)}; expected inputs, hidden units and outputs, each a whole number above 0."
        )
    layers = Layers(flatten=nn.Flatten())
    add_dense(layers, widths, activation=activation, dropout=dropout)
    model = nn.Sequential(layers)
    initialise(model, Net(initializer=initializer), seed, "glorot-normal")
    return model


def build_mlp(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """`mlp` with first and last width from the data and `net.hidden` between."""
    refuse_options("mlp", net, "norm_scale", *(() if net.hidden else ("dropout",)))
    return _built(input_shape, outputs, net, seed)


def lenet_300_100(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """LeNet-300-100 (LeCun et al. 1998): two hidden layers of 300 and 100 units; 266,200 weights on MNIST."""
    if net.hidden not in {(), (300, 100)}:
        raise UsageError(f"lenet-300-100 has hidden layers of 300 and 100 units, not {net.hidden}; use --model mlp.")
    refuse_options("lenet-300-100", net, "norm_scale")
    return _built(input_shape, outputs, replace(net, hidden=(300, 100)), seed)


def _built(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    widths = (math.prod(input_shape), *map(net.scaled, net.hidden), outputs)
    drawn = net.initializer or "glorot-normal"
    return mlp(widths, activation=net.activation, dropout=net.dropout, initializer=drawn, seed=seed)
