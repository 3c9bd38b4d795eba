"""Hebbian saliency: units that fire together stay wired together."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.looking import from_matrix, layers_of, patches, reading, scoring, units_last, watching
from tombola.criteria.units import FORWARD
from tombola.errors import UsageError
from tombola.masks import Mask

__all__ = ["Hebbian"]

_ROWS = 1 << 22
"""Numbers of a convolution's patches that are held at once."""


@needs(data=True, passes=FORWARD)
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
                for weight, layer in layers.items():
                    if weight not in found:
                        raise UsageError(
                            f"The criterion hebbian looks at what layers read, and the network does not run that of "
                            f"{weight!r}. Leave it out with protect=({weight!r},), or use another criterion."
                        )
                    given, out = ends[weight]
                    sums[weight].add(layer, given, found[weight] if found[weight].shape == out.shape else out)
        return {
            weight: from_matrix(layers[weight], sums[weight].scores(self.product), mask.shapes[weight])
            for weight in mask
        }


@dataclass(kw_only=True, slots=True)
class _Sums:
    """Sums over rows, in float64: of inputs (groups, fan-in), of activations (groups, units), of products."""

    n: int = 0
    x: Tensor = field(default_factory=lambda: torch.zeros(()))
    xx: Tensor = field(default_factory=lambda: torch.zeros(()))
    a: Tensor = field(default_factory=lambda: torch.zeros(()))
    aa: Tensor = field(default_factory=lambda: torch.zeros(()))
    xa: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, layer: nn.Module, given: Tensor, out: Tensor) -> None:
        if isinstance(layer, nn.modules.conv._ConvNd) and given.ndim == len(layer.kernel_size) + 2:
            fan = layer.weight[0].numel() * layer.groups
            step = max(1, _ROWS // max(1, fan * out[0, 0].numel()))
            pairs = list(zip(given.split(step), out.split(step), strict=True))
        else:
            pairs = [(given, out)]
        for one, other in pairs:
            rows = patches(layer, one).double()  # (groups, n, fan-in)
            units = units_last(layer, other).double().view(rows.shape[1], len(rows), -1).movedim(1, 0)
            self.n += rows.shape[1]
            self.x, self.xx = self.x + rows.sum(1), self.xx + rows.square().sum(1)
            self.a, self.aa = self.a + units.sum(1), self.aa + units.square().sum(1)
            self.xa = self.xa + units.mT @ rows

    def scores(self, product: bool) -> Tensor:
        """(groups, units, fan-in)."""
        means = self.xa / self.n
        if product:
            return means
        x, a = self.x / self.n, self.a / self.n
        covariance = means - a[:, :, None] * x[:, None, :]
        inputs, units = _deviation(self.xx / self.n, x), _deviation(self.aa / self.n, a)
        both = units[:, :, None] * inputs[:, None, :]
        return (covariance.abs() / both.where(both > 0, 1.0)).where(both > 0, 0.0).clamp(max=1)


def _deviation(squares: Tensor, means: Tensor) -> Tensor:
    """0 where the variance is no more than what rounding leaves of a constant."""
    variance = squares - means.square()
    return variance.where(variance > 1e-12 * squares, 0.0).sqrt()
