"""Criteria of first order: gradients of the loss, at initialisation or after training.

All score a copy in evaluation mode: batch norm goes by its running statistics and dropout is off, where the published
code of SNIP and GraSP scores in training mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.looking import scoring
from tombola.criteria.slopes import batches_of, gradients, mean_gradient, require_some, shares, weights_of
from tombola.criteria.units import unit_scores
from tombola.errors import UsageError
from tombola.granularity import Rule, by_unit, unit_dim
from tombola.masks import Mask
from tombola.starts import Moment

__all__ = ["Grasp", "Taylor", "grad", "movement_pruning", "snip", "to_sum_one"]


@needs(data=True, scored_at=Moment.INIT, passes=1)
def snip(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |g w| / sum |g w|: how much the loss feels each connection.

    g w is dL/dc of a gate c = 1 on the weight; g is the gradient of the mean loss over all examples of the probe.
    Initial weights must have the scale of their layer (He, Glorot), or the scale is what is scored.

    Returns:
        Numbers in [0, 1] that sum to 1; 0 at pruned weights.

    Raises:
        UsageError: the probe has no examples, or every gradient is 0.

    Source: Lee, Ajanthan and Torr (2019, arXiv 1810.02340).

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 2.0]]))
    >>> probe = Probe(batches=[(torch.tensor([[1.0, 1.5]]), torch.zeros(1, 1))], loss=nn.functional.mse_loss)
    >>> snip(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[0.25, 0.75]]
    """
    with scoring(model, mask, probe) as copied:
        weights = weights_of(copied, mask)
        slopes = mean_gradient(copied, weights, probe, "snip")
        scores = {name: slopes[name].mul_(weights[name].detach()).abs_() for name in mask}
    require_some(scores, mask, "snip")
    return to_sum_one(scores)


@needs(data=True, scored_at=Moment.INIT, passes=1)
def grad(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |g|: the gradient of the mean loss over all examples of the probe (Zhou et al. 2019, arXiv 1905.01067).

    Raises:
        UsageError: the probe has no examples, or every gradient is 0.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 2.0]]))
    >>> probe = Probe(batches=[(torch.tensor([[1.0, 1.5]]), torch.zeros(1, 1))], loss=nn.functional.mse_loss)
    >>> grad(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[8.0, 12.0]]
    """
    with scoring(model, mask, probe) as copied:
        slopes = mean_gradient(copied, weights_of(copied, mask), probe, "grad")
    scores = {name: slopes[name].abs_() for name in mask}
    require_some(scores, mask, "grad")
    return scores


@needs(data=True, scored_at=Moment.INIT, signed=True, passes=6)
@dataclass(frozen=True, kw_only=True, slots=True)
class Grasp:
    """Score w (H g) / sum |w (H g)|: gradient signal preservation.

    Removing w_q changes the squared gradient norm |g|^2 by -2 w_q (H g)_q to first order, so what goes first are the
    weights whose removal lets it grow most, and last those that carry it. The paper's S = -w (H g) is what is removed
    from the top; the score here is -S. g and H are the gradient and Hessian of the mean loss of logits / T over all
    examples, with respect to the surviving weights. H g costs a second backward through the first: the whole is 4
    passes for Linear layers and up to 10 for convolutions.

    Returns:
        Signed numbers whose absolute values sum to 1; 0 at pruned weights.

    Args:
        temperature: T, above 0; it divides what the network puts out. 200 in the published code.

    Raises:
        UsageError: a temperature of 0 or less, no examples, or every product is 0.

    Source: Wang, Zhang and Grosse (2020, arXiv 2002.07376), who give every class ten examples (`probe.balanced`), draw
    the last layer anew before they score and divide by the sum of the signed scores, which may be 0; neither is done.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 2.0]]))
    >>> probe = Probe(batches=[(torch.tensor([[1.0, 1.5]]), torch.zeros(1, 1))], loss=nn.functional.mse_loss)
    >>> Grasp()(layer, Mask.dense(layer), probe)["weight"].tolist()  # a minimum at 0: both carry the gradient
    [[0.25, 0.75]]
    """

    temperature: float = 200.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature!r}; expected a number above 0.")

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores."""
        with scoring(model, mask, probe) as copied, sdpa_kernel(SDPBackend.MATH):  # others have no second derivative
            weights = weights_of(copied, mask)
            first = self._sums(copied, weights, probe)
            direction = {n: g.mul_(mask[n].to(g.device)) for n, g in first.items()}  # what is pruned has no gradient
            second = self._sums(copied, weights, probe, along=direction)
            scores = {name: second[name].mul_(weights[name].detach()) for name in mask}
        require_some(scores, mask, "grasp")
        return to_sum_one(scores)

    def _sums(
        self, model: nn.Module, weights: dict[str, Tensor], probe: Probe, along: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The gradient of the mean loss, or with `along` the Hessian times that direction."""
        batches, loss = batches_of(model, probe, "grasp")
        total: dict[str, Tensor] = {}
        for (x, y), share in zip(batches, shares(batches), strict=True):
            found = gradients(loss(model(x) / self.temperature, y) * share, weights, graph=along is not None)
            if along is not None:
                found = gradients(torch.stack([(found[n] * along[n]).sum() for n in found]).sum(), weights)
            total = {name: total[name].add_(g) for name, g in found.items()} if total else found
        return total


@needs(data=True, passes=1)
@dataclass(frozen=True, kw_only=True, slots=True)
class Taylor:
    """Score the mean over the batches of (g w)^2: the squared first-order change of the loss when the weight is 0.

    g is the gradient of the batch's mean loss. With `units`, all weights into a hidden unit (row, filter) score as one:
    (sum over its surviving weights of g w)^2, which is the change when the whole unit is 0; the output layer's weights
    are scored one by one (`tombola.criteria.units.unit_scores`).

    Returns:
        Numbers of 0 or more, float64: squares of losses.

    Args:
        units: score whole units.

    Raises:
        UsageError: no examples, or every gradient is 0.

    Source: Molchanov et al. (2017, arXiv 1611.06440; 2019, arXiv 1906.10771), whose gates behind batch norm are not
    used here: a unit's score is that of the weights that lead into it.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 2.0]]))
    >>> probe = Probe(batches=[(torch.tensor([[1.0, 1.5]]), torch.zeros(1, 1))], loss=nn.functional.mse_loss)
    >>> Taylor()(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[64.0, 576.0]]
    >>> net = nn.Sequential(layer, nn.Linear(1, 1, bias=False))
    >>> _ = net[1].weight.data.fill_(1.0)
    >>> Taylor(units=True)(net, Mask.dense(net), probe)["0.weight"].tolist()
    [[1024.0, 1024.0]]
    """

    units: bool = False

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores."""
        with scoring(model, mask, probe) as copied:
            weights, total = weights_of(copied, mask), dict[str, Tensor]()
            batches, loss = batches_of(copied, probe, "taylor")
            for (x, y), share in zip(batches, shares(batches), strict=True):
                for name, g in gradients(loss(copied(x), y), weights).items():
                    change = self._changes(copied, mask, name, g.mul_(weights[name].detach()))
                    square = change.square_().mul_(share)
                    total[name] = total[name].add_(square) if name in total else square
        scores = unit_scores(total, model, mask) if self.units else {name: total[name] for name in mask}
        require_some(scores, mask, "taylor")
        return scores

    def _changes(self, model: nn.Module, mask: Mask, name: str, change: Tensor) -> Tensor:
        """g w in float64, of weights or of units."""
        return by_unit(change, mask[name], unit_dim(model, name), Rule.SUM) if self.units else change.double()


@needs(gathered=("movement",), signed=True)
def movement_pruning(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score -sum_t g_t w_t over the training: weights that the steps pull towards 0 go.

    That sum is gathered while training, as the statistic "movement" (`tombola.training.gather`); what is scored is a
    whole training, where Sanh et al. prune along one.

    Raises:
        UsageError: it was not gathered.

    Source: Sanh, Wolf and Rush (2020, arXiv 2005.07683).

    >>> layer = nn.Linear(2, 1)
    >>> gathered = {"movement": {"weight": torch.tensor([[-2.0, 0.5]])}}
    >>> movement_pruning(layer, Mask.dense(layer), Probe(gathered=gathered))["weight"].tolist()
    [[-2.0, 0.5]]
    """
    sums, weights = probe.sums("movement_pruning", "movement", mask), dict(model.named_parameters())
    return {name: sums[name].detach().to(weights[name].device, copy=True) for name in mask}


def to_sum_one(scores: Scores) -> Scores:
    """Scores divided, in place, by the sum of their absolute values; the order stays."""
    total = sum(float(score.abs().sum(dtype=torch.float64)) for score in scores.values())
    return {name: score.div_(total) for name, score in scores.items()} if 0 < total < float("inf") else scores
