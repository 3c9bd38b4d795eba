"""Redundant units: principal filter analysis, by the eigenvalues of the correlation of what units put out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.looking import pooled
from tombola.criteria.units import FORWARD, observe, unit_scores
from tombola.errors import UsageError
from tombola.granularity.units import hidden_of
from tombola.masks import Mask

__all__ = ["CovarianceRedundancy", "covariances", "dropping_order", "units_needed"]


def units_needed(eigenvalues: Tensor, energy: float = 0.0) -> int:
    """How many units a layer needs, from the eigenvalues of its units' covariance or correlation.

    With l the eigenvalues over their sum, C of them: PFA-KL keeps ceil(C (1 - KL / log2 C)) units, where
    KL = sum l log2(C l) is the distance to the uniform distribution; PFA-En keeps the smallest k whose k largest l sum
    to `energy` or more.

    Args:
        eigenvalues: shape (C,), in any order; what rounding makes negative is taken for 0.
        energy: share of the variance to keep, in (0, 1]: PFA-En; 0: PFA-KL, which has no parameter.

    Returns:
        1 to C.

    Source: Suau et al. (2018, arXiv 1807.10585).

    >>> units_needed(torch.ones(8)), units_needed(torch.tensor([1.0, 1.0, 0.0, 0.0])), units_needed(torch.eye(4)[0])
    (8, 2, 1)
    >>> units_needed(torch.tensor([6.0, 3.0, 1.0]), energy=0.9)
    2
    """
    values = eigenvalues.double().clamp(min=0)
    count, total = len(values), float(values.sum())
    if count == 1 or total == 0:
        return 1
    shares = values / total
    slack = 1e-9  # of rounding: whole numbers must not be rounded up
    if energy:
        sums = shares.sort(descending=True).values.cumsum(0)
        return min(count, int((sums < energy - slack).sum()) + 1)
    distance = float(torch.special.xlogy(shares, count * shares).sum()) / math.log(2)
    return max(1, math.ceil(count * (1 - distance / math.log2(count)) - slack))


def dropping_order(correlation: Tensor) -> list[int]:
    """The units in the order they are dropped: each time that with the largest sum of |correlation| to the rest.

    Args:
        correlation: (C, C); the first of equals is dropped first (sums to 1e-9: the last two are always equal).

    >>> dropping_order(torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.9], [0.5, 0.9, 1.0]]))
    [2, 0, 1]
    """
    sizes = correlation.abs().double().clone().fill_diagonal_(0.0)
    sums, order = sizes.sum(1), []
    for _ in range(len(sizes)):
        at = int((sums >= sums.max() - 1e-9).nonzero()[0])
        order.append(at)
        sums = sums - sizes[at]
        sums[order] = -torch.inf
    return order


def covariances(model: nn.Module, mask: Mask, probe: Probe, name: str) -> dict[str, Tensor]:
    """Hidden weight -> covariance of its units' activations (the largest over positions), (units, units), float64.

    Args:
        name: of the criterion, for errors.
    """
    hidden = set(hidden_of(model, mask))
    counts: dict[str, int] = {}
    shifts: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}
    products: dict[str, Tensor] = {}

    def see(weight: str, layer: nn.Module, activations: Tensor, targets: Tensor) -> None:
        if weight not in hidden:
            return
        rows = pooled(layer, activations).double()
        rows = rows - shifts.setdefault(weight, rows[:1])  # a unit that never moves has exactly no variance
        counts[weight] = counts.get(weight, 0) + len(rows)
        sums[weight] = sums.get(weight, 0.0) + rows.sum(0)
        products[weight] = products.get(weight, 0.0) + rows.t() @ rows

    observe(model, mask, probe, name, see)
    means = {weight: sums[weight] / counts[weight] for weight in sums}
    return {w: products[w] / counts[w] - means[w].outer(means[w]) for w in mask if w in hidden}


@needs(data=True, labels=False, inside=True, passes=FORWARD, units=True)
@dataclass(frozen=True, kw_only=True, slots=True)
class CovarianceRedundancy:
    """Score units by when principal filter analysis drops them: those that others can stand in for go.

    In each hidden layer with C units, of which k are needed (`units_needed`): dead units first (no variance), then
    again and again the unit with the largest sum of |correlation| to the rest. The i-th dropped of the C - k redundant
    units (i = 0, ...) scores i / (C - k) in [0, 1), the i-th of the needed ones 1 + i / k in [1, 2): within a layer the
    order of dropping, and under one threshold all layers lose their redundant units before any loses a needed one. One
    forward pass over the batches, which should hold many more examples than a layer has units.

    Source: Suau et al. (2018, arXiv 1807.10585), who keep k units in each layer and have no order between layers;
    correlation as the default and dead units first are ours.

    Args:
        covariance: eigenvalues of the covariance; else of the correlation, where no unit weighs more than another.
        energy: share of the variance to keep, in (0, 1]: PFA-En; 0: PFA-KL.

    >>> net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> probe = Probe(batches=[(corners, torch.zeros(4, 1))], loss=nn.functional.mse_loss)
    >>> CovarianceRedundancy(energy=0.99).needed(net, Mask.dense(net), probe)
    {'0.weight': 2}
    >>> CovarianceRedundancy(energy=0.99)(net, Mask.dense(net), probe)["0.weight"][:, 0].tolist()
    [1.0, 0.0, 1.5]
    """

    covariance: bool = False
    energy: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.energy <= 1:
            raise UsageError(f"energy is {self.energy!r}; expected a share of the variance, above 0 to 1, or 0.")

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, in [0, 2)."""
        found = covariances(model, mask, probe, "covariance_redundancy")
        return unit_scores({weight: self._order(matrix) for weight, matrix in found.items()}, model, mask)

    def needed(self, model: nn.Module, mask: Mask, probe: Probe) -> dict[str, int]:
        """Hidden weight -> how many of its units are needed, for a budget of each layer."""
        found = covariances(model, mask, probe, "covariance_redundancy")
        return {weight: self._needed(*_correlated(matrix), matrix) for weight, matrix in found.items()}

    def _needed(self, correlation: Tensor, alive: Tensor, covariance: Tensor) -> int:
        matrix = covariance[alive][:, alive] if self.covariance else correlation
        return units_needed(torch.linalg.eigvalsh(matrix), self.energy) if len(matrix) else 1

    def _order(self, covariance: Tensor) -> Tensor:
        correlation, alive = _correlated(covariance)
        places = alive.nonzero().flatten().tolist()
        order = (~alive).nonzero().flatten().tolist() + [places[at] for at in dropping_order(correlation)]
        count, needed = len(order), self._needed(correlation, alive, covariance)
        redundant = count - needed
        ranks = [i / redundant if i < redundant else 1 + (i - redundant) / needed for i in range(count)]
        scores = torch.empty_like(covariance[0])
        scores[order] = torch.tensor(ranks, dtype=scores.dtype, device=scores.device)
        return scores


def _correlated(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """The correlation of the units that vary at all, and which those are."""
    variance = covariance.diagonal()
    alive = variance > 1e-12 * variance.max()
    deviation = variance[alive].sqrt()
    return covariance[alive][:, alive] / deviation.outer(deviation), alive
