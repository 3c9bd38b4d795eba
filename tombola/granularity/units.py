"""Granularity: whether weights are pruned one by one or a whole unit at a time."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from tombola.masks import Mask
from tombola.scopes import Scope, prunable

__all__ = [
    "Filter",
    "Granularity",
    "Rule",
    "Unit",
    "as_units",
    "by_unit",
    "hidden_of",
    "spread_units",
    "unit_dim",
    "weight",
]

Granularity = Callable[[Mapping[str, Tensor], Mask, nn.Module], dict[str, Tensor]]
"""(scores of weights, mask, model) -> scores by which weights are taken out."""


class Rule(Enum):
    """How a unit's score comes from those of its surviving weights."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"
    NORM = "norm"


def unit_dim(model: nn.Module, name: str) -> int:
    """The dimension of a weight that counts the units it leads into: 0, but 1 for transposed layouts.

    Linear (units, inputs), ConvNd (filters, channels, ...); ConvTransposeNd and Transformers' `Conv1D` the other way.
    With groups, a ConvTransposeNd counts there the units of one group; `as_units` has them all.
    """
    owner = model.get_submodule(name.rpartition(".")[0])
    return int(isinstance(owner, nn.modules.conv._ConvTransposeNd) or type(owner).__name__ == "Conv1D")


def hidden_of(model: nn.Module, mask: Mask) -> list[str]:
    """The masked weights less that of the output layer: the last prunable tensor of the model in module order."""
    known = {*mask, *prunable(model, Scope())}
    output = [name for name, _ in model.named_parameters() if name in known][-1]
    return [name for name in mask if name != output]


def as_units(model: nn.Module, name: str, weight: Tensor) -> Tensor:
    """A weight, or what has its shape, as (units, fan-in): each row all that leads into one unit.

    >>> as_units(nn.ConvTranspose1d(4, 6, 3, groups=2), "weight", torch.zeros(4, 3, 3)).shape
    torch.Size([6, 6])
    """
    if not unit_dim(model, name):
        return weight.flatten(1)
    groups = _groups(model, name)
    split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return split.transpose(1, 2).reshape(groups * weight.shape[1], -1)


def spread_units(units: Tensor, model: nn.Module, name: str, shape: tuple[int, ...]) -> Tensor:
    """The score of each unit at every weight that leads into it, float64, shape (units,) -> that of the weight.

    Ties are broken by position, and in a transposed layout the weights of a unit do not stand together: there, equal
    units get the next larger floats in their order, so that each goes whole.
    """
    units = units.double()
    if not unit_dim(model, name):
        return units.view(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous()
    groups = _groups(model, name)
    split = _stepped(units).view(groups, 1, shape[1], *[1] * (len(shape) - 2))
    return split.expand(groups, shape[0] // groups, *shape[1:]).reshape(shape).contiguous()


def _groups(model: nn.Module, name: str) -> int:
    return int(getattr(model.get_submodule(name.rpartition(".")[0]), "groups", 1))


def _stepped(units: Tensor) -> Tensor:
    order = units.argsort(stable=True)
    values = units[order].tolist()
    for at in range(1, len(values)):
        if values[at] <= values[at - 1]:
            low = values[at - 1]  # at 0 the next float is denormal, which some processors take for 0
            values[at] = max(math.nextafter(low, math.inf), low + sys.float_info.min)
    stepped = torch.empty_like(units)
    stepped[order] = torch.tensor(values, dtype=units.dtype, device=units.device)
    return stepped


def by_unit(score: Tensor, alive: Tensor, dim: int, rule: Rule) -> Tensor:
    """The score of each unit, shape (units,), float64; a unit without survivors has 0.

    mean: sum s / n; sum: sum s; max: max s; norm: sqrt(sum s^2); over the survivors that lead into the unit.
    """
    rows = score.double().movedim(dim, 0).flatten(1)
    there = alive.to(score.device).movedim(dim, 0).flatten(1)
    values = rows.where(there, 0.0)
    if rule is Rule.MAX:
        return rows.where(there, -torch.inf).amax(1).where(there.any(1), 0.0)
    if rule is Rule.NORM:
        return values.square().sum(1).sqrt()
    total = values.sum(1)
    return total / there.sum(1).clamp(min=1) if rule is Rule.MEAN else total


def weight(scores: Mapping[str, Tensor], mask: Mask, model: nn.Module) -> dict[str, Tensor]:
    """Every weight by itself."""
    return dict(scores)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """All weights that lead into a unit (a row of a Linear layer, a filter of a convolution) go together.

    The output layer (the model's last prunable tensor in module order) is pruned weight by weight: its units are the
    answer. Counts stay exact, so at most one unit of a budget is taken in part (in the order of its weights). The rows
    of recurrent and attention weights count as units too, each gate's and each projection's by itself.

    Args:
        rule: how a unit's score comes from its weights: mean, sum, max or norm.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> scores = {"0.weight": torch.tensor([[1.0, 9.0], [4.0, 4.0]]), "1.weight": torch.tensor([[1.0, 2.0]])}
    >>> Unit()(scores, Mask.dense(net), net)["0.weight"].tolist()
    [[5.0, 5.0], [4.0, 4.0]]
    """

    rule: Rule = Rule.MEAN

    def __call__(self, scores: Mapping[str, Tensor], mask: Mask, model: nn.Module) -> dict[str, Tensor]:
        """Each weight gets its unit's score."""
        return _by_units(scores, mask, model, hidden_of(model, mask), self.rule)


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """As `Unit`, for convolutions alone: whole filters go; every other layer, and the output layer, weight by weight.

    Source: Li et al. (2017, arXiv 1608.08710), there with the sum of |w|.

    Args:
        rule: how a filter's score comes from its weights: mean, sum, max or norm.
    """

    rule: Rule = Rule.MEAN

    def __call__(self, scores: Mapping[str, Tensor], mask: Mask, model: nn.Module) -> dict[str, Tensor]:
        """Each weight of a convolution gets its filter's score."""
        filters = [n for n in hidden_of(model, mask) if _is_convolution(model, n)]
        return _by_units(scores, mask, model, filters, self.rule)


def _is_convolution(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name.rpartition(".")[0]), nn.modules.conv._ConvNd)


def _by_units(
    scores: Mapping[str, Tensor], mask: Mask, model: nn.Module, whole: list[str], rule: Rule
) -> dict[str, Tensor]:
    """The scores, those of the weights in `whole` by unit."""
    found = {name: scores[name] for name in mask}
    for name in whole:
        units = by_unit(as_units(model, name, scores[name]), as_units(model, name, mask[name]), 0, rule)
        found[name] = spread_units(units, model, name, mask.shapes[name])
    return found
