"""Criteria of whole units that look at what the units put out; and what all criteria of units share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.looking import layers_of, scoring, spread, units_last, watching
from tombola.errors import UsageError
from tombola.granularity.units import hidden_of
from tombola.masks import Mask

__all__ = ["FORWARD", "activation_mean", "apoz", "mean_activations", "observe", "require_run", "unit_scores"]

FORWARD = 1 / 3
"""A forward pass, where `Needs.passes` counts a forward-backward pass as 1."""

See = Callable[[str, nn.Module, Tensor, Tensor], None]
"""(weight, layer, activations, targets), once a batch and layer."""


def observe(model: nn.Module, mask: Mask, probe: Probe, name: str, see: See) -> None:
    """Show what the units of every masked layer put out behind their nonlinearity, batch by batch, without gradients.

    Args:
        name: of the criterion, for errors.
        see: keeps sums of what it is shown, never all of it.

    Raises:
        UsageError: no examples, a masked weight of a layer that has no units, or one that the network does not run.
    """
    batches, _ = probe.examples(name)
    with scoring(model, mask, probe) as copied, torch.no_grad():
        layers = layers_of(copied, mask, name, transposed=True)
        for x, y in batches:
            with watching(layers) as taken:
                copied(x)
                found = taken()
            require_run(found, mask, name)
            for weight in mask:
                see(weight, layers[weight], found[weight], y)


def require_run(found: Iterable[str], mask: Mask, name: str) -> None:
    """Raises `UsageError` for a masked weight whose layer the network does not run."""
    for weight in sorted(set(mask) - set(found)):
        raise UsageError(
            f"The criterion {name} looks at what units put out, and the network does not run the layer of {weight!r}. "
            f"Leave it out with protect=({weight!r},), or use another criterion."
        )


def unit_scores(units: Mapping[str, Tensor], model: nn.Module, mask: Mask) -> Scores:
    """Scores of weights from those of hidden units, float64.

    Every weight into a unit gets the unit's score. The units of the output layer are the answer, so its weights are
    scored one by one: |w| times the one factor that gives them the mean score of the hidden weights (means over
    surviving weights). So under one threshold an average output weight stands as an average hidden one.

    Args:
        units: hidden weight -> score of each unit, 0 or more.

    >>> net = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[1.0, -3.0]]))
    >>> unit_scores({"0.weight": torch.tensor([4.0, 8.0])}, net, Mask.dense(net))["1.weight"].tolist()
    [[3.0, 9.0]]
    """
    weights, found = dict(model.named_parameters()), {}
    total, count = 0.0, 0
    for name in hidden_of(model, mask):
        found[name] = spread(units[name], model, name, mask.shapes[name]).to(weights[name].device)
        alive = mask[name].to(found[name].device)
        total, count = total + float(found[name][alive].sum()), count + int(alive.sum())
    for name in mask:
        if name not in found:
            size = weights[name].detach().double().abs()
            average = float(size[mask[name].to(size.device)].mean())
            found[name] = size * (total / count / average) if total > 0 and average > 0 else size
    return {name: found[name] for name in mask}


def mean_activations(
    model: nn.Module, mask: Mask, probe: Probe, name: str, of: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Weight -> each unit's mean of a function of its activations, over examples and positions, (units,), float64."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def see(weight: str, layer: nn.Module, activations: Tensor, targets: Tensor) -> None:
        rows = units_last(layer, activations)
        sums[weight] = sums.get(weight, 0.0) + of(rows).sum(0, dtype=torch.float64)
        counts[weight] = counts.get(weight, 0) + len(rows)

    observe(model, mask, probe, name, see)
    return {weight: sums[weight] / counts[weight] for weight in sums}


@needs(data=True, labels=False, inside=True, passes=FORWARD, units=True)
def activation_mean(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score a unit by its mean |activation| behind the nonlinearity: units that hardly speak go.

    score = 1/N sum |a|, over N examples (and positions of a convolution), 0 or more. One forward pass over the batches.

    Source: Molchanov et al. (2017, arXiv 1611.06440), the criterion "activation" with the mean; there of the signed
    activation, which behind a ReLU is the same.

    >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
    >>> data = [(torch.tensor([[2.0], [-1.0], [3.0], [4.0]]), torch.zeros(4, 1))]
    >>> probe = Probe(batches=data, loss=nn.functional.mse_loss)
    >>> activation_mean(net, Mask.dense(net), probe)["0.weight"].tolist()
    [[2.25], [0.25]]
    """
    return unit_scores(mean_activations(model, mask, probe, "activation_mean", torch.abs), model, mask)


@needs(data=True, labels=False, inside=True, passes=FORWARD, units=True)
def apoz(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score a unit by how often it is not zero: units with a high average percentage of zeros (APoZ) go.

    score = 1 - APoZ = 1/N #{a != 0} in [0, 1], over N examples (and positions), behind the nonlinearity: minus the
    fraction of zeros, moved by 1 so that no score is negative. One forward pass over the batches. It means something
    for ReLU and its like; where a nonlinearity is never exactly 0, all units are equal.

    Source: Hu et al. (2016, arXiv 1607.03250); there units above one deviation from the layer's mean APoZ go.

    >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
    >>> data = [(torch.tensor([[2.0], [-1.0], [3.0], [4.0]]), torch.zeros(4, 1))]
    >>> probe = Probe(batches=data, loss=nn.functional.mse_loss)
    >>> apoz(net, Mask.dense(net), probe)["0.weight"].tolist()
    [[0.75], [0.25]]
    """
    return unit_scores(mean_activations(model, mask, probe, "apoz", lambda rows: rows != 0), model, mask)
