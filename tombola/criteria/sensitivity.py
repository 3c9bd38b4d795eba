"""Global saliency: what the network's outputs lose when a unit is silenced."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.looking import changing, layers_of, meetings, scoring
from tombola.criteria.units import FORWARD, mean_activations, require_run, unit_scores
from tombola.criteria.work import Size, Work
from tombola.errors import UsageError
from tombola.granularity.units import as_units, hidden_of
from tombola.masks import Mask

__all__ = ["Measure", "OutputSensitivity"]


class Measure(Enum):
    """How far two outputs are apart."""

    KL = "kl"
    SQUARE = "square"


def _work(own: OutputSensitivity, size: Size) -> Work:
    return Work(passes=FORWARD * (size.hidden + 2) * size.batches)


@needs(data=True, labels=False, inside=True, work=_work, units=True)
@dataclass(frozen=True, kw_only=True, slots=True)
class OutputSensitivity:
    """Score a unit by how far the network's outputs move when it is silenced: units that nothing depends on go.

    score = mean over examples of KL(p || p_j) in nats, with p = softmax of the outputs and p_j the same when the
    activation of unit j (behind its nonlinearity, at every position) stands at 0; or the mean of (z - z_j)^2 over
    examples and outputs. 0 or more, and comparable between layers, unlike local saliencies such as |w|. Costs as many
    forward passes over the batches as there are hidden units with surviving weights, and one or two more.

    Source: the survey of Hoefler et al. (2021, arXiv 2102.00554), "sensitivity of the output".

    Args:
        measure: kl (classes in dimension 1 of the outputs) or square.
        to_mean: the silenced activation stands at its mean over the batches, so that only what varies counts.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> _ = net[0].weight.data.copy_(torch.eye(2)), net[2].weight.data.copy_(torch.tensor([[1.0, 3.0]]))
    >>> data = [(torch.tensor([[1.0, 1.0], [3.0, -1.0]]), torch.zeros(2, 1))]
    >>> probe = Probe(batches=data, loss=nn.functional.mse_loss)
    >>> OutputSensitivity(measure=Measure.SQUARE)(net, Mask.dense(net), probe)["0.weight"].tolist()
    [[5.0, 5.0], [4.5, 4.5]]
    """

    measure: Measure = Measure.KL
    to_mean: bool = False

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, 0 or more."""
        name = "output_sensitivity"
        batches, _ = probe.examples(name)
        means = mean_activations(model, mask, probe, name, torch.Tensor.double) if self.to_mean else {}
        examples = sum(len(x) for x, _ in batches)
        with scoring(model, mask, probe) as copied, torch.no_grad():
            layers = layers_of(copied, mask, name, transposed=True)
            alive = {weight: as_units(model, weight, mask[weight]).any(1) for weight in hidden_of(model, mask)}
            found = {weight: torch.zeros(len(units), dtype=torch.float64) for weight, units in alive.items()}
            for x, _ in batches:
                before, at = meetings(layers, copied, x)
                require_run(at, mask, name)
                for weight, units in alive.items():
                    for unit in units.nonzero().flatten().tolist():
                        value = float(means[weight][unit]) if self.to_mean else 0.0
                        after = _silenced(copied, x, layers[weight], at[weight], unit, value)
                        found[weight][unit] += len(x) / examples * self._distance(before, after)
        return unit_scores(found, model, mask)

    def _distance(self, before: Tensor, after: Tensor) -> float:
        """The mean over the examples."""
        before, after = before.double(), after.double()
        if self.measure is Measure.SQUARE:
            return float((before - after).square().mean())
        if before.ndim < 2 or before.shape[1] < 2:
            raise UsageError(
                f"The criterion output_sensitivity compares classes, and the outputs have shape {tuple(before.shape)}; "
                f"expected two classes or more in dimension 1. For numbers: output_sensitivity:measure=square."
            )
        before, after = before.log_softmax(1), after.log_softmax(1)
        return max(0.0, float((before.exp() * (before - after)).sum(1).mean()))


def _silenced(model: nn.Module, x: Tensor, layer: nn.Module, at: frozenset[int], unit: int, value: float) -> Tensor:
    """The outputs when one unit of a layer stands at a value."""
    dim = -len(layer.kernel_size) - 1 if isinstance(layer, nn.modules.conv._ConvNd) else -1

    def silence(weight: str, activations: Tensor) -> None:
        activations.select(dim, unit).fill_(value)

    with changing({"": layer}, {"": at}, silence):
        outputs: Tensor = model(x)
    return outputs
