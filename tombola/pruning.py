"""Pruning: scores and a budget become a mask."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from tombola.allocation import ALLOCATIONS, Allocation, globally
from tombola.criteria import CRITERIA, Criterion, Probe, Scores, magnitude
from tombola.errors import Emptied, UsageError, suggest
from tombola.masks import Mask
from tombola.streams import stream
from tombola.tensors import smallest

__all__ = ["Pruner", "prune", "shuffled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruner:
    """Criterion and allocation together: (model, mask, keep) -> the mask of the `keep` weights that stay.

    Removes exactly as many weights as asked, the smallest scores first, ties by position in module order; never a
    weight that is already pruned, never the last weight of a tensor.
    """

    criterion: Criterion = field(default=magnitude)
    allocation: Allocation = field(default=globally)

    def __call__(self, model: nn.Module, mask: Mask, keep: int, probe: Probe | None = None) -> Mask:
        """Prune `mask` down to `keep` weights in all.

        Raises:
            UsageError: `keep` is not in 1..weights left, a score is NaN or missing, or a tensor would be emptied.
        """
        mask.require(dict(model.named_parameters()))
        if not 1 <= keep <= mask.alive:
            raise UsageError(f"Cannot keep {keep:,} of {mask.alive:,} surviving weights; expected 1 to {mask.alive:,}.")
        scores = self.criterion(model, mask, probe or Probe())
        _check(scores, mask)
        left, counts = mask.kept, self.allocation(scores, mask, keep)
        if counts.keys() != mask.keys() or sum(counts.values()) != keep or any(counts[n] > left[n] for n in mask):
            raise UsageError(f"The allocation gave {counts}; expected {keep:,} in all and at most {left}.")
        found = {}
        for name in mask:
            budget = counts[name]
            if budget < 1:
                raise Emptied(
                    f"Keeping {keep:,} of {mask.total:,} weights would empty {name!r} ({left[name]:,} left before); "
                    f"keep more, or use the layerwise allocation."
                )
            alive = mask[name]
            gone = smallest([scores[name]], left[name] - budget, [alive.to(scores[name].device)], names=[name])[0]
            found[name] = alive & ~gone.cpu()
        return Mask(found)


def _check(scores: Scores, mask: Mask) -> None:
    for name, shape in mask.shapes.items():
        if name not in scores or tuple(scores[name].shape) != shape:
            got = tuple(scores[name].shape) if name in scores else "no score"
            raise UsageError(
                f"The criterion gave {got} for {name!r}; expected one score for each weight, shape {shape}."
            )


def prune(
    model: nn.Module,
    mask: Mask,
    *,
    density: float,
    criterion: str | Criterion = "magnitude",
    allocation: str | Allocation = "global",
    probe: Probe | None = None,
) -> Mask:
    """The mask that keeps `density` of all prunable weights: exactly round(density x prunable), nested in `mask`.

    Args:
        density: kept / prunable, in (0, 1]; at most that of `mask`.
        criterion: a name of `tombola.criteria.CRITERIA`, or `(model, mask, probe) -> scores`, larger = keep.
        allocation: a name of `tombola.allocation.ALLOCATIONS`, or `(scores, mask, keep) -> counts`.

    Raises:
        UsageError: density out of range or above that of the mask, an unknown name, NaN scores, an emptied tensor.

    >>> layer = nn.Linear(10, 10)
    >>> prune(layer, Mask.dense(layer), density=0.2).kept
    {'weight': 20}
    """
    if not 0 < density <= 1:
        raise UsageError(f"density={density!r}; expected kept / prunable, above 0 and at most 1.")
    if isinstance(criterion, str):
        if criterion not in CRITERIA:
            raise UsageError(f"Unknown criterion {criterion!r}. {suggest(criterion, CRITERIA)}")
        criterion = CRITERIA[criterion].criterion
    if isinstance(allocation, str):
        if allocation not in ALLOCATIONS:
            raise UsageError(f"Unknown allocation {allocation!r}. {suggest(allocation, ALLOCATIONS)}")
        allocation = ALLOCATIONS[allocation]
    keep = round(density * mask.total)
    if keep > mask.alive:
        raise UsageError(f"density={density!r} keeps {keep:,} weights, but the mask has only {mask.alive:,} left.")
    return Pruner(criterion=criterion, allocation=allocation)(model, mask, keep, probe)


def shuffled(mask: Mask, seed: int) -> Mask:
    """The control: as many survivors in each tensor, at other places.

    Raises:
        UsageError: the mask is dense, or so small that no other arrangement exists.

    >>> import torch
    >>> mask = Mask({"w": torch.arange(16).view(4, 4) < 5})
    >>> shuffled(mask, seed=0).kept, shuffled(mask, seed=0) == mask
    ({'w': 5}, False)
    """
    for attempt in range(20):  # a tiny tensor may draw its own arrangement
        draw = _permuted(mask, seed, attempt)
        if draw != mask:
            return draw
    raise UsageError(f"{mask!r} has no other arrangement of its weights, so it cannot be shuffled.")


def _permuted(mask: Mask, seed: int, attempt: int) -> Mask:
    places = {}
    for name in mask:
        kept = mask[name]
        order = torch.randperm(kept.numel(), generator=stream(seed, f"shuffle/{attempt}/{name}"))
        places[name] = kept.flatten()[order].view_as(kept)
    return Mask(places)
