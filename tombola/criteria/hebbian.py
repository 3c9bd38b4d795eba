"""Hebbian saliency: units that fire together stay wired together."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.looking import from_matrix, layers_of, patches, reading, scoring, units_last, watching
from tombola.criteria.units import FORWARD, require_run
from tombola.masks import Mask

__all__ = ["Hebbian"]

_NUMBERS = 1 << 22
"""Numbers of a convolution's patches that are held at once."""


@needs(data=True, labels=False, inside=True, passes=FORWARD)
@dataclass(frozen=True, kw_only=True, slots=True)
class Hebbian:
    """Score a weight by how its two ends go together: |corr(a_j, a_i)| of what it reads and what its unit puts out.

    a_j is the input that the weight multiplies, a_i the activation of its unit behind the nonlinearity, over examples
    and positions; a convolution reads patches. Scores are in [0, 1], 0 where an end never moves. One forward pass over
    the batches, and sums of the weights' own size in float64.

    Source: Hebb (1949); as a saliency in the survey of Hoefler et al. (2021, arXiv 2102.00554). Where a convolution is
    pooled before its nonlinearity, a_i is what the convolution itself puts out, for patches have its positions.

    Args:
        product: the mean of a_j a_i instead, with its sign: Hebb's own rule of growth.

    >>> net = nn.Sequential(nn.Linear(2, 1, bias=False))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0, 0.0]]))
    >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> probe = Probe(batches=[(corners, torch.zeros(4, 1))], loss=nn.functional.mse_loss)
    >>> Hebbian()(net, Mask.dense(net), probe)
    {'0.weight': tensor([[1., 0.]], dtype=torch.float64)}
    """

    product: bool = False

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, float64."""
        batches, _ = probe.examples("hebbian")
        ends: dict[str, tuple[Tensor, Tensor]] = {}
        sums = {weight: _Sums() for weight in mask}
        with scoring(model, mask, probe) as copied, torch.no_grad():
            layers = layers_of(copied, mask, "hebbian")
            for x, _ in batches:
                with (
                    watching(layers) as taken,
                    reading(layers, lambda weight, given, out: ends.update({weight: (given, out)})),
                ):
                    copied(x)
                    found = taken()
                require_run(found, mask, "hebbian")
                for weight, layer in layers.items():
                    given, out = ends[weight]
                    sums[weight].add(layer, given, found[weight] if found[weight].shape == out.shape else out)
        return {
            weight: from_matrix(layers[weight], sums[weight].scores(self.product), mask.shapes[weight])
            for weight in mask
        }


def _nothing() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


@dataclass(kw_only=True, slots=True)
class _Sums:
    """Sums over rows, in float64, of what is left of inputs (groups, fan-in) and activations (groups, units) when the
    first row is taken away: what never moves then has exactly no variance."""

    n: int = 0
    origin: tuple[Tensor, Tensor] | None = None
    x: Tensor = field(default_factory=_nothing)
    xx: Tensor = field(default_factory=_nothing)
    a: Tensor = field(default_factory=_nothing)
    aa: Tensor = field(default_factory=_nothing)
    ax: Tensor = field(default_factory=_nothing)

    def add(self, layer: nn.Module, given: Tensor, out: Tensor) -> None:
        for one, other in _pieces(layer, given, out):
            x = patches(layer, one).double()  # (groups, n, fan-in)
            a = units_last(layer, other).double().reshape(x.shape[1], len(x), -1).movedim(1, 0)
            self.origin = self.origin or (x[:, :1], a[:, :1])
            x, a = x - self.origin[0], a - self.origin[1]
            self.n += x.shape[1]
            self.x, self.xx = self.x + x.sum(1), self.xx + x.square().sum(1)
            self.a, self.aa = self.a + a.sum(1), self.aa + a.square().sum(1)
            self.ax = self.ax + a.mT @ x

    def scores(self, product: bool) -> Tensor:
        """(groups, units, fan-in)."""
        assert self.origin is not None
        a, x = self.a[:, :, None] / self.n, self.x[:, None, :] / self.n  # means
        covariance = self.ax / self.n - a * x
        if product:
            return covariance + (a + self.origin[1].mT) * (x + self.origin[0])
        both = _deviation(self.aa[:, :, None] / self.n, a) * _deviation(self.xx[:, None, :] / self.n, x)
        return (covariance.abs() / both.where(both > 0, 1.0)).where(both > 0, 0.0).clamp(max=1)


def _pieces(layer: nn.Module, given: Tensor, out: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Some examples at a time, where patches of all of them would be many numbers."""
    if not isinstance(layer, nn.modules.conv._ConvNd) or given.ndim < len(layer.kernel_size) + 2:
        return [(given, out)]
    step = max(1, _NUMBERS // max(1, layer.weight[0].numel() * layer.groups * out[0, 0].numel()))
    return list(zip(given.split(step), out.split(step), strict=True))


def _deviation(squares: Tensor, means: Tensor) -> Tensor:
    """0 where the variance is no more than what rounding leaves of a constant."""
    variance = squares - means.square()
    return variance.where(variance > 1e-12 * squares, 0.0).sqrt()
