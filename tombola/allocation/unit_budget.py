"""Unit budget: so many units of every layer stay alive, and none is left half alive."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.allocation.threshold import globally
from tombola.errors import Emptied, UsageError
from tombola.masks import Mask

__all__ = ["UnitBudget"]


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitBudget:
    """One threshold over all tensors, but units keep what they live by: a weight in and a weight out each.

    A unit (a row of a matrix, a filter of a convolution) lives while a path of surviving weights leads through it. As
    long as the budget lasts, every living unit keeps its largest weight in and its largest weight out. Where it does
    not, units go whole, the weakest first (the strength of a unit is the smallest weight on the best path through it),
    but never below max(1, ceil(share * units)) in a layer; the units of the last tensor are the answer and all stay.
    All other weights go by one threshold.

    Layers are read off the mask: each tensor is (units, inputs, ...), and the inputs of the next one are the units of
    this one, or equal blocks for each (a flattened convolution). Where the sizes do not fit (branches, depthwise or
    transposed layers), units have their weights in guarded alone. Weights of units that are gone are the first to go;
    where the exact count demands it, some of them stay.

    Our own rule; that a layer must not collapse: Tanaka et al. (2020, arXiv 2006.05467).

    Args:
        share: of the units of each hidden layer that must live, in [0, 1].

    >>> mask = Mask({n: torch.ones(3, 3, dtype=torch.bool) for n in ("a", "b")})
    >>> scores = {"a": torch.arange(9.0).view(3, 3), "b": 100 + torch.arange(9.0).view(3, 3)}
    >>> budget = UnitBudget()
    >>> globally(scores, mask, 8), budget(budget.reordered(scores, mask, 8), mask, 8)
    ({'a': 0, 'b': 8}, {'a': 3, 'b': 5})
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UsageError(f"share is {self.share!r}; expected a fraction of the units of a layer, from 0 to 1.")

    def __call__(self, scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
        """The counts, by one threshold over what `reordered` gave.

        Raises:
            UsageError: so many living units need more than `keep` weights, whatever the scores are.
        """
        living = [self._least(name, shape[0], list(mask)) for name, shape in mask.shapes.items()]
        needed = [max(into, out) for into, out in zip(living, [0, *living], strict=False)]  # each unit one in, one out
        if sum(needed) > keep:
            raise self._short(max(zip(needed, mask, strict=True))[1], sum(needed), keep)
        return globally(scores, mask, keep)

    def reordered(self, scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, Tensor]:
        """Places in one order of all survivors, float64: required weights first, those of units that are gone last.

        Raises:
            UsageError: the mask has too few living units in a layer, or what must stay is more than `keep`.
        """
        ranks, names = _ranks(scores, mask), list(mask)
        layers = _layers([ranks[n] for n in names])
        strengths = _strengths(layers)
        floor = self._floor(names, strengths)
        steps = torch.cat(strengths).unique()  # rising: the higher the threshold, the fewer units live
        steps = steps[(steps >= 0) & (steps <= floor)].tolist()
        low, middle, high = 0, 0, len(steps) - 1  # most often the budget lasts for every unit
        while low < high:  # a higher threshold never requires more weights
            required = _required(layers, strengths, steps[middle])
            low, high = (low, middle) if _count(required) <= keep else (middle + 1, high)
            middle = (low + high) // 2
        required = _required(layers, strengths, steps[low])
        if (needed := _count(required)) > keep:
            name = max(zip(names, required, strict=True), key=lambda pair: int(pair[1].sum()))[0]
            raise self._short(name, needed, keep)
        found = {}
        for i, name in enumerate(names):
            order = ranks[name] + mask.total * required[i].view(ranks[name].shape)
            gone = _gone(layers, strengths, steps[low], i).view(ranks[name].shape)
            found[name] = (order - mask.total * gone).to(scores[name].device)
        return found

    def _least(self, name: str, units: int, names: Sequence[str]) -> int:
        """Units of a tensor that must live: all of the last one."""
        return units if name == names[-1] else max(1, math.ceil(self.share * units - 1e-9))

    def _short(self, name: str, needed: int, keep: int) -> Emptied:
        return Emptied(
            f"unit-budget needs {needed:,} weights for {self.share:.0%} of the units of each layer, most of them in "
            f"{name!r}, {needed - keep:,} more than the {keep:,} asked for; keep more, or lower its share."
        )

    def _floor(self, names: Sequence[str], strengths: Sequence[Tensor]) -> float:
        """The highest threshold at which every layer has the units that it must have."""
        floors = []
        for name, strength in zip(names, strengths, strict=True):
            least = self._least(name, len(strength), names)
            living = int((strength >= 0).sum())
            if living < least:
                raise Emptied(
                    f"unit-budget keeps {least:,} units of {name!r} alive, and the mask has {living:,} on a path of "
                    f"surviving weights, {least - living:,} too few; start from a denser mask, or lower its share."
                )
            floors.append(float(strength.sort(descending=True).values[least - 1]))
        return min(floors)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """A tensor of ranks as (units, inputs, weights from one to the other).

    Args:
        follows: its inputs are the units of the layer before.
    """

    ranks: Tensor
    follows: bool


def _ranks(scores: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """Places of the survivors in rising order over all tensors, ties by position; -1 where a weight is pruned."""
    flat = torch.cat([scores[n].detach().double().cpu().flatten() for n in mask])
    alive = torch.cat([mask[n].flatten() for n in mask])
    places = torch.full(flat.shape, -1.0, dtype=torch.float64)
    order = alive.nonzero()[:, 0]
    order = order[flat[order].argsort(stable=True)]
    places[order] = torch.arange(len(order), dtype=torch.float64)
    sizes = [math.prod(shape) for shape in mask.shapes.values()]
    return {n: part.view(mask.shapes[n]) for n, part in zip(mask, places.split(sizes), strict=True)}


def _layers(ranks: Sequence[Tensor]) -> list[_Layer]:
    found: list[_Layer] = []
    for rank in ranks:
        units, inputs = rank.shape[0], math.prod(rank.shape[1:2])
        before = found[-1].ranks.shape[0] if found else 0
        follows = bool(before) and inputs % before == 0
        found.append(_Layer(ranks=rank.reshape(units, before if follows else inputs, -1), follows=follows))
    return found


def _strengths(layers: Sequence[_Layer]) -> list[Tensor]:
    """For each unit the smallest rank on the best path through it, shape (units,); -1 where no path is left."""
    best = [layer.ranks.amax(2) for layer in layers]
    into: list[Tensor] = []
    for layer, edges in zip(layers, best, strict=True):
        into.append((torch.minimum(edges, into[-1]) if layer.follows else edges).amax(1))
    out = torch.full_like(into[-1], torch.inf)
    found = [torch.minimum(into[-1], out)]
    for i in range(len(layers) - 2, -1, -1):
        on = layers[i + 1].follows
        out = torch.minimum(best[i + 1], out[:, None]).amax(0) if on else torch.full_like(into[i], torch.inf)
        found.insert(0, torch.minimum(into[i], out))
    return found


def _gone(layers: Sequence[_Layer], strengths: Sequence[Tensor], threshold: float, i: int) -> Tensor:
    """Which weights of layer i lead into or out of a unit that does not live at this threshold."""
    dead = (strengths[i] < threshold)[:, None, None].expand(layers[i].ranks.shape)
    return dead | (strengths[i - 1] < threshold)[None, :, None] if layers[i].follows else dead


def _required(layers: Sequence[_Layer], strengths: Sequence[Tensor], threshold: float) -> list[Tensor]:
    """Which weights are the largest into or out of a unit that lives at this threshold, among such units."""
    found = []
    for i, layer in enumerate(layers):
        ranks = layer.ranks.masked_fill(_gone(layers, strengths, threshold, i), -1.0)
        into = ranks == ranks.amax((1, 2), keepdim=True)
        out = ranks == ranks.amax((0, 2), keepdim=True)
        found.append((into | out if layer.follows else into) & (ranks >= 0))
    return found


def _count(marks: Sequence[Tensor]) -> int:
    return sum(int(mark.sum()) for mark in marks)
