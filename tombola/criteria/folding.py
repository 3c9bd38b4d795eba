"""Connections and units that hardly vary: they go, and their mean goes into the bias."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.calibration import Moments, Read, reads_of, require_called
from tombola.criteria.looking import as_matrix, from_matrix, layers_of, scoring, units_last, watching
from tombola.criteria.units import unit_scores
from tombola.masks import Mask

__all__ = ["LowVariance", "LowVarianceUnits"]


@needs(data=True, labels=False, inside=True, passes=0.34)
@dataclass(frozen=True, kw_only=True, slots=True)
class LowVariance:
    """Connections that carry a constant go, and the constant becomes bias.

        s_ij = Var_x(w_ij a_j) = w_ij^2 Var(a_j),   b_i += sum of w_ij E[a_j] over the removed j

    a_j is input j of the layer over all examples and positions, in the masked network before the cut. Where the
    variance is 0, the outputs on the probe stay exactly what they were.

    A convolution reads zeros at padded borders: the mean is that of the unfolded patches' column, borders included, and
    so is the variance; so a padded layer can be folded without error only where its inputs are 0. Without padding
    folding is exact for constant channels. A layer without bias gets none: its mean is lost, also where batch norm
    follows, whose running mean is not touched.

    Args:
        relative: divided by the variance of the unit's output: the share of its variation that is lost.

    Raises:
        UsageError: no batches, a masked weight of another kind than Linear, convolution or `Conv1D`.

    Source: Sietsma and Dow (1988), for units; Hoefler et al. (2021, arXiv 2102.00554), the survey. Details are our own.

    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 1.0]])), layer.bias.data.zero_()
    >>> probe = Probe(batches=[(torch.tensor([[2.0, 0.0], [2.0, 4.0]]), torch.zeros(2))], loss=nn.functional.mse_loss)
    >>> LowVariance()(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[0.0, 4.0]]
    >>> mask = Mask({"weight": torch.tensor([[False, True]])})
    >>> LowVariance().adjusted(layer, Mask.dense(layer), mask, probe)["bias"].tolist()
    [6.0]
    """

    relative: bool = False

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, float64; weights that are gone have 0."""
        reads, weights, found = reads_of(model, mask, probe, "low_variance"), dict(model.named_parameters()), {}
        for name, layer in layers_of(model, mask, "low_variance").items():
            value = weights[name].detach().double().where(mask[name].to(weights[name].device), 0.0)
            scores = as_matrix(layer, value).square() * reads[name].variance[:, None]
            if self.relative:
                scores = _shares(scores, reads[name])
            found[name] = from_matrix(layer, scores, mask.shapes[name])
        return found

    def adjusted(self, model: nn.Module, before: Mask, after: Mask, probe: Probe) -> dict[str, Tensor]:
        """Biases with the means of what is removed."""
        return _folded(model, before, after, probe, "low_variance")


@needs(data=True, labels=False, inside=True, units=True, passes=0.34)
@dataclass(frozen=True, kw_only=True, slots=True)
class LowVarianceUnits:
    """Units that put out a constant go, and go on putting it out from their bias.

        s_i = Var_x(a_i), at every weight that leads into unit i;   b_i += sum of w_ij E[a_j] over the removed j

    a_i is what the unit puts out behind normalisation and nonlinearity, over all examples and positions. A unit whose
    weights are all gone puts out the activation of its mean input, from its bias: what it put out before, where that
    was constant. `tombola.shrink` takes such units out of the network and folds them into the next layer.

    The output layer's weights are scored one by one (`tombola.criteria.units.unit_scores`). Biases as in `LowVariance`.

    Args:
        relative: divided by E[a_i^2]: in [0, 1], whatever the scale of the unit.

    Raises:
        UsageError: as for `LowVariance`.

    Source: Sietsma and Dow (1988). Details are our own.

    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]])), net[0].bias.data.zero_()
    >>> probe = Probe(batches=[(torch.tensor([[1.0], [3.0]]), torch.zeros(2))], loss=nn.functional.mse_loss)
    >>> LowVarianceUnits()(net, Mask.dense(net), probe)["0.weight"].tolist()
    [[1.0], [0.0]]
    """

    relative: bool = False

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, float64."""
        batches, _ = probe.examples("low_variance_units")
        seen = {name: Moments() for name in mask}
        with scoring(model, mask, probe) as network, torch.no_grad():
            layers = layers_of(network, mask, "low_variance_units")
            with watching(layers) as taken:
                for x, _ in batches:
                    if not len(x):
                        continue
                    network(x)
                    for name, activations in taken().items():
                        seen[name].add(units_last(layers[name], activations).double()[None])
        return unit_scores({name: self._units(name, seen[name]) for name in mask}, model, mask)

    def adjusted(self, model: nn.Module, before: Mask, after: Mask, probe: Probe) -> dict[str, Tensor]:
        """Biases with the means of what is removed."""
        return _folded(model, before, after, probe, "low_variance_units")

    def _units(self, name: str, seen: Moments) -> Tensor:
        require_called(bool(seen.n), name, "low_variance_units")
        return (seen.variance * (seen.n / seen.squares.clamp(min=1e-300) if self.relative else 1.0))[0]


def _shares(scores: Tensor, read: Read) -> Tensor:
    """Variances as shares of the output's; at most 1e12, where terms cancel each other to a constant."""
    least = (scores.sum(2) * 1e-12).clamp(min=1e-300)
    return scores / read.output.maximum(least)[:, :, None]


def _folded(model: nn.Module, before: Mask, after: Mask, probe: Probe, name: str) -> dict[str, Tensor]:
    """Bias -> its value with the mean contribution of the weights that `before` has and `after` has not."""
    reads, weights, found = reads_of(model, before, probe, name), dict(model.named_parameters()), {}
    for weight, layer in layers_of(model, before, name).items():
        bias = weight.removesuffix("weight") + "bias"
        if bias not in weights:
            continue
        value, gone = weights[weight].detach().double(), before[weight] & ~after[weight]
        removed = as_matrix(layer, value.where(gone.to(value.device), 0.0))
        means = (removed @ reads[weight].mean[:, :, None]).flatten()
        found[bias] = (weights[bias].detach().double() + means).to(weights[bias].dtype)
    return found
