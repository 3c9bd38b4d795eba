"""Named initialisations: how the first weights of a registered network are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tombola.errors import UsageError
from tombola.models.entries import INITIALIZERS
from tombola.models.net import Net
from tombola.registry import chosen
from tombola.streams import stream

__all__ = [
    "Gaussian",
    "Initializer",
    "glorot_normal",
    "glorot_uniform",
    "initialise",
    "kaiming_normal",
    "kaiming_uniform",
    "orthogonal",
]

Initializer = Callable[[Tensor, torch.Generator], object]
"""(weight (outputs, inputs / groups, ...), generator) -> nothing: the weight is filled in place."""


def initialise(model: nn.Module, net: Net, seed: int, default: str) -> None:
    """Draw the weights of all linear layers and convolutions, in module order; biases and shifts 0, scales as asked.

    Weights come from the stream (seed, "init"), batch-norm scales from (seed, "norm-scale"): another scale leaves the
    weights as they are. Running statistics are those of a new layer. A model on the meta device stays as it is.

    Args:
        net: `initializer` and `norm_scale` are looked at.
        default: the initialisation where `net` names none.

    Raises:
        UsageError: an option of the initialisation that it does not have, or cannot have.

    Source: batch-norm scale from U(0, 1) as in OpenLTH.

    >>> layer = nn.Linear(50, 50)
    >>> initialise(layer, Net(initializer="gaussian:sigma=0.1"), 0, "glorot-normal")
    >>> round(layer.weight.std().item(), 2), layer.bias.any().item()
    (0.1, False)
    """
    draw: Initializer = chosen(net.initializer or default, INITIALIZERS, "initializer")
    weights, scales = stream(seed, "init"), stream(seed, "norm-scale")
    if any(parameter.is_meta for parameter in model.parameters()):
        return  # shapes alone were asked for
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                draw(module.weight, weights)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()  # scale 1, shift 0, running statistics of a new layer
                if net.norm_scale == "uniform":
                    module.weight.uniform_(generator=scales)


def glorot_normal(weight: Tensor, generator: torch.Generator) -> None:
    """N(0, s^2) with s^2 = 2 / (fan_in + fan_out), a fan is channels x kernel places.

    Source: Glorot and Bengio (2010). Frankle and Carbin (2019, arXiv 1803.03635) truncate the normal at two standard
    deviations in their TensorFlow code; we do not.
    """
    nn.init.xavier_normal_(weight, generator=generator)


def glorot_uniform(weight: Tensor, generator: torch.Generator) -> None:
    """U(-a, a) with a = sqrt(6 / (fan_in + fan_out)), a fan is channels x kernel places.

    Source: Glorot and Bengio (2010).
    """
    nn.init.xavier_uniform_(weight, generator=generator)


def kaiming_normal(weight: Tensor, generator: torch.Generator) -> None:
    """N(0, s^2) with s^2 = 2 / fan_in, fan_in is input channels x kernel places.

    Source: He et al. (2015, arXiv 1502.01852), for ReLU.
    """
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


def kaiming_uniform(weight: Tensor, generator: torch.Generator) -> None:
    """U(-a, a) with a = sqrt(6 / fan_in), fan_in is input channels x kernel places.

    Source: He et al. (2015, arXiv 1502.01852), for ReLU.
    """
    nn.init.kaiming_uniform_(weight, nonlinearity="relu", generator=generator)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gaussian:
    """N(0, sigma^2) in every layer, whatever its size.

    Args:
        sigma: standard deviation, above 0.

    Source: the question of initialisation in Frankle and Carbin (2019, arXiv 1803.03635), appendix G.
    """

    sigma: float = 0.1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise UsageError(f"sigma is {self.sigma!r}; expected a standard deviation above 0.")

    def __call__(self, weight: Tensor, generator: torch.Generator) -> None:
        """Fill the weight."""
        weight.normal_(std=self.sigma, generator=generator)


def orthogonal(weight: Tensor, generator: torch.Generator) -> None:
    """Orthonormal rows of the matrix (outputs, inputs x kernel places), or columns where there are more outputs.

    Source: Saxe et al. (2014, arXiv 1312.6120); a kernel is flattened, as in torch.
    """
    nn.init.orthogonal_(weight, generator=generator)
