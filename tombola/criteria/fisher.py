"""Criteria by the diagonal of the Fisher information: squared gradients of single examples.

They cost about 6 forward-backward passes of a batch where convolutions make up the time, and one pass for each example
where large Linear layers do, whose gradients are written out for every one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.looking import scoring
from tombola.criteria.slopes import batches_of, example_gradients, require_some, weights_of
from tombola.criteria.work import Size, Work
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.streams import stream

__all__ = ["TrueFisher", "empirical_fisher"]

_Labels = Callable[[int, Tensor, Tensor], Tensor]
"""(number of the batch, what the network puts out, targets) -> the targets to differentiate at."""


def _work(own: object, size: Size) -> Work:
    """A pass for each example, as where large Linear layers are."""
    return Work(passes=3.0 * size.examples * getattr(own, "draws", 1))


@needs(data=True, work=_work)
def empirical_fisher(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score 1/2 E[g_i^2] w_i^2, with the gradients of single examples at the labels of the data.

    E is the mean over the examples of the probe. It stands for the diagonal Hessian where the network predicts its
    labels well in the mean; where it fits every one of them, gradients and scores vanish (see `TrueFisher`).

    Returns:
        Numbers of 0 or more, float64; 0 at pruned weights.

    Raises:
        UsageError: no examples, or every gradient is 0.

    Source: Theis et al. (2018, arXiv 1801.05787); Singh and Alistarh (2020, arXiv 2004.14340) on the approximation.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = layer.weight.data.fill_(1.0)
    >>> batch = torch.ones(2, 1), torch.tensor([[0.0], [2.0]])  # gradients 2 and -2: their mean would be 0
    >>> empirical_fisher(layer, Mask.dense(layer), Probe(batches=[batch], loss=nn.functional.mse_loss))["weight"].item()
    2.0
    """
    return _fisher("empirical_fisher", model, mask, probe, lambda batch, outputs, y: y)


@needs(data=True, labels=False, work=_work)
@dataclass(frozen=True, kw_only=True, slots=True)
class TrueFisher:
    """Score 1/2 E[g_i^2] w_i^2, with the gradients of single examples at labels drawn from the network itself.

    Whole-number targets are classes: labels are drawn from the softmax of what the network puts out, (n, classes, ...)
    or (..., classes). Other targets are values: labels are the network's own outputs plus normal noise of deviation 1
    (another deviation multiplies all scores by one factor). Draws come from the probe's seed, the same on every device.

    Returns:
        Numbers of 0 or more, float64; 0 at pruned weights.

    Args:
        draws: labels drawn for each example, 1 or more.

    Raises:
        UsageError: `draws` below 1, no examples, outputs that do not fit the targets, or every gradient is 0.

    Source: Kunstner, Balles and Hennig (2019, arXiv 1905.12558) on why the two Fishers differ.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> batch = torch.ones(1000, 1), torch.zeros(1000, 1)
    >>> probe = Probe(batches=[batch], loss=nn.functional.mse_loss)
    >>> score = TrueFisher()(layer, Mask.dense(layer), probe)["weight"] / layer.weight.detach().double() ** 2
    >>> bool((score - 2).abs() < 0.3)  # 1/2 E[(2 noise)^2]
    True
    """

    draws: int = 1

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UsageError(f"draws is {self.draws}; expected a whole number, 1 or more.")

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores."""

        def drawn(batch: int, outputs: Tensor, y: Tensor) -> Tensor:
            return _drawn(outputs, y, stream(probe.seed, f"true_fisher/{batch}"))

        return _fisher("true_fisher", model, mask, probe, drawn, self.draws)


def _fisher(label: str, model: nn.Module, mask: Mask, probe: Probe, labels: _Labels, draws: int = 1) -> Scores:
    with scoring(model, mask, probe) as copied:
        weights = weights_of(copied, mask)
        batches, loss = batches_of(copied, probe, label)
        total = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
        for draw in range(draws):
            for number, (x, y) in enumerate(batches):
                with torch.no_grad():
                    targets = labels(draw * len(batches) + number, copied(x), y)
                for found in example_gradients(copied, weights, x, targets, loss):
                    for name, each in found.items():
                        total[name] += each.detach().double().square_().sum(0)
        half = 0.5 / (draws * sum(len(x) for x, _ in batches))
        scores = {n: total[n].mul_(half).mul_(weights[n].detach().double().square()) for n in mask}
    require_some(scores, mask, label)
    return scores


def _drawn(outputs: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Labels from the distribution that the outputs stand for."""
    if y.is_floating_point():
        if y.shape not in {outputs.shape, outputs.shape[:-1] if outputs.shape[-1] == 1 else None}:
            raise UsageError(
                f"true_fisher draws values around the outputs, of shape {tuple(outputs.shape)}, and the targets have "
                f"{tuple(y.shape)}; expected targets of the outputs' shape, or whole numbers (classes)."
            )
        return (outputs + torch.randn(outputs.shape, generator=generator).to(outputs)).view(y.shape)
    logits = outputs.double().cpu()
    if outputs.ndim == y.ndim + 1 and outputs[:, 0].shape == y.shape:
        logits = logits.movedim(1, -1)
    elif outputs.shape[:-1] != y.shape:
        raise UsageError(
            f"true_fisher draws classes from outputs of shape {tuple(outputs.shape)} for targets of {tuple(y.shape)}; "
            f"expected outputs (n, classes, ...) or (..., classes) beside targets (n, ...)."
        )
    chances = logits.softmax(-1)
    found = torch.multinomial(chances.flatten(0, -2), 1, replacement=True, generator=generator)
    return found.view(y.shape).to(y)
