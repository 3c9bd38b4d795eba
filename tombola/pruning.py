"""Pruning: scores and a budget become a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral

import torch
from torch import Tensor, nn

from tombola.allocation import Allocation, Reordering, allocation_of, globally
from tombola.criteria import Adjusting, Criterion, Probe, Scores, criterion_of
from tombola.criteria.base import label_of
from tombola.criteria.weights import magnitude
from tombola.errors import Emptied, TombolaError, UsageError
from tombola.granularity import Granularity, granularity_of
from tombola.masks import Mask, a_mask
from tombola.specs import added
from tombola.streams import stream
from tombola.tensors import smallest

__all__ = ["Cut", "Pruner", "check_batches", "prune", "shuffled"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cut:
    """What pruning gives.

    Args:
        mask: the weights that stay.
        adjusted: parameter -> its new value, where the criterion changes weights that stay; empty where it does not.
    """

    mask: Mask
    adjusted: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruner:
    """Criterion, allocation and granularity together: (model, mask, keep) -> the mask of the `keep` weights that stay.

    Removes exactly as many weights as asked, the smallest scores first, ties by position in module order; never a
    weight that is already pruned, never the last weight of a tensor.

    Args:
        granularity: None: the criterion's own.
        inverted: a control: the weights with the largest scores go (Frankle et al. 2021, arXiv 2009.08576).
    """

    criterion: Criterion = field(default=magnitude)
    allocation: Allocation = field(default=globally)
    granularity: Granularity | None = added(None)
    inverted: bool = added(False)

    def __call__(self, model: nn.Module, mask: Mask, keep: int, probe: Probe | None = None) -> Mask:
        """Prune `mask` down to `keep` weights in all.

        Raises:
            UsageError: `keep` is not in 1..weights left, a score is not finite or missing, or a tensor is emptied.
        """
        return self.cut(model, mask, keep, probe).mask

    def cut(self, model: nn.Module, mask: Mask, keep: int, probe: Probe | None = None) -> Cut:
        """As a call, with the weights that a criterion adjusts."""
        a_mask(mask).require(dict(model.named_parameters()))
        if not 1 <= keep <= mask.alive:
            raise UsageError(f"Cannot keep {keep:,} of {mask.alive:,} surviving weights; expected 1 to {mask.alive:,}.")
        seen = replace(probe or Probe(), keep=keep)
        after = self._select(self.scores(model, mask, seen), mask, keep)
        if not isinstance(self.criterion, Adjusting) or self.inverted:
            return Cut(mask=after)
        adjusted = self.criterion.adjusted(model, mask, after, seen)
        _check_adjusted(adjusted, model, label_of(self.criterion))
        return Cut(mask=after, adjusted=adjusted)

    def scores(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """What weights are taken out by, larger = keep: the criterion's scores, by granularity."""
        check_batches(probe, label_of(self.criterion))
        try:
            scores = self.criterion(model, mask, probe)
        except TombolaError:
            raise
        except Exception as error:
            if probe.batches:
                error.add_note(
                    f"{label_of(self.criterion)} scored {type(model).__name__} on a probe with inputs "
                    f"{_told(probe.batches[0][0])} and targets {_told(probe.batches[0][1])}; expected inputs that it "
                    f"takes, targets that the loss compares with its outputs, and a loss of one number."
                )
            raise
        scores = _checked(scores, mask, f"criterion {label_of(self.criterion)}", probe)
        if self.inverted:
            scores = {name: -score for name, score in scores.items()}
        if self.granularity is None:
            return scores
        return _checked(self.granularity(scores, mask, model), mask, f"granularity {label_of(self.granularity)}", probe)

    def _select(self, scores: Scores, mask: Mask, keep: int) -> Mask:
        if isinstance(self.allocation, Reordering):
            scores = self.allocation.reordered(scores, mask, keep)
        left = mask.kept
        counts = _counts(self.allocation(scores, mask, keep), left, keep, label_of(self.allocation))
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


def check_batches(probe: Probe, label: str) -> None:
    """Batches are pairs of tensors of as many examples, with finite inputs; nothing is said where there are none."""
    batches: object = probe.batches
    if not isinstance(batches, Sequence):
        raise UsageError(
            f"The batches of the probe for {label} are a {type(batches).__name__}; expected a list of "
            f"(inputs, targets)."
        )
    for number, batch in enumerate(batches):
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        if not (pair and all(isinstance(part, Tensor) and part.ndim for part in batch)):
            raise UsageError(
                f"Batch {number} of the probe for {label} is {_kind(batch)}; expected a pair of tensors: inputs and "
                f"targets."
            )
        x, y = batch
        if len(x) != len(y):
            raise UsageError(f"Batch {number} of the probe for {label} has {len(x)} inputs and {len(y)} targets.")
        if not bool(x.isfinite().all()):
            raise UsageError(f"Batch {number} of the probe for {label} has inputs that are not finite; leave them out.")


def _told(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


def _counts(counts: object, left: Mapping[str, int], keep: int, label: str) -> dict[str, int]:
    """How many weights stay in each tensor: whole numbers, `keep` in all, nowhere more than are left."""
    if not isinstance(counts, Mapping) or any(not isinstance(count, Integral) for count in counts.values()):
        shown = f"{counts!r:.200}"
        raise UsageError(f"The allocation {label} gave {shown}; expected a whole number for each of {', '.join(left)}.")
    if counts.keys() != left.keys():
        wrong = sorted(map(str, counts.keys() ^ left.keys()))
        raise UsageError(f"The allocation {label} names other tensors than the mask: {', '.join(wrong[:5])}.")
    over = [f"{name!r} {counts[name]:,} of {left[name]:,}" for name in left if counts[name] > left[name]]
    if over:
        raise UsageError(f"The allocation {label} gave more weights than are left: {', '.join(over[:5])}.")
    total = sum(counts.values())
    if total != keep:
        raise UsageError(f"The allocation {label} gave {total:,} weights in all; expected {keep:,}: {counts!r:.300}")
    return {name: int(counts[name]) for name in left}


def _check_adjusted(adjusted: object, model: nn.Module, label: str) -> None:
    """New values of parameters, in their shapes and finite."""
    if not isinstance(adjusted, Mapping):
        raise UsageError(
            f"{label}.adjusted gave a {type(adjusted).__name__}; expected a dict: parameter -> its new value."
        )
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters(remove_duplicate=False)}
    for name, value in adjusted.items():
        if name not in shapes or not isinstance(value, Tensor) or tuple(value.shape) != shapes[name]:
            expected = f"a tensor of shape {shapes[name]}" if name in shapes else "names of parameters alone"
            raise UsageError(f"{label} adjusts {name!r} to {_kind(value)}; expected {expected}.")
        if not bool(value.isfinite().all()):
            raise UsageError(f"{label} adjusts {name!r} to numbers that are not finite.")


def _kind(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _checked(scores: object, mask: Mask, label: str, probe: Probe) -> Scores:
    """The scores, all finite: what a pruned weight has got (0 / 0, say) does not matter, and becomes 0."""
    if not isinstance(scores, Mapping):
        raise UsageError(f"The {label} gave {_kind(scores)}; expected a dict: name of a masked weight -> its scores.")
    found = dict(scores)
    for name, shape in mask.shapes.items():
        given = scores.get(name)
        if not isinstance(given, Tensor) or tuple(given.shape) != shape:
            got = "no score" if given is None else _kind(given)
            raise UsageError(
                f"The {label} gave {got} for {name!r}; expected one score for each weight, a tensor of shape {shape}."
            )
        if not given.is_floating_point() or given.layout is not torch.strided:
            kind = given.dtype if given.layout is torch.strided else given.layout
            raise UsageError(
                f"The {label} gave {str(kind).removeprefix('torch.')} scores for {name!r}; expected a dense tensor of "
                f"floating point numbers: .to_dense(), .float()."
            )
        finite = scores[name].isfinite()
        if bool(finite.all()):
            continue
        finite |= ~mask[name].to(finite.device)
        found[name] = scores[name].where(scores[name].isfinite(), 0)
        if not bool(finite.all()):
            seen = f" on a probe of {len(probe.batches)} batches (seed {probe.seed})" if probe.batches else ""
            first = (~finite).nonzero()[0].tolist()
            raise UsageError(
                f"The {label} scores {name!r} {scores[name][tuple(first)]} at {first} and at "
                f"{int((~finite).sum()) - 1:,} more places{seen}; expected finite numbers. Has the training diverged, "
                f"or is a batch not finite?"
            )
    return found


def prune(
    model: nn.Module,
    mask: Mask,
    *,
    density: float,
    criterion: str | Criterion = "magnitude",
    allocation: str | Allocation = "global",
    granularity: str | Granularity | None = None,
    probe: Probe | None = None,
) -> Mask:
    """The mask that keeps `density` of all prunable weights: exactly round(density x prunable), nested in `mask`.

    Args:
        density: kept / prunable, in (0, 1]; at most that of `mask`.
        criterion: a name of `tombola.criteria.CRITERIA` with options (`"snip"`, `"synflow:rounds=50"`), or
            `(model, mask, probe) -> scores`, larger = keep.
        allocation: a name of `tombola.allocation.ALLOCATIONS`, or `(scores, mask, keep) -> counts`.
        granularity: a name of `tombola.granularity.GRANULARITIES`, or `(scores, mask, model) -> scores`; None: the
            criterion's own.
        probe: what the criterion may look at: batches and loss, initial weights.

    Raises:
        UsageError: density out of range or above that of the mask, an unknown name, a probe that lacks what the
            criterion needs, scores that are not finite, an emptied tensor.

    >>> layer = nn.Linear(10, 10)
    >>> prune(layer, Mask.dense(layer), density=0.2).kept
    {'weight': 20}
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"The model is a {type(model).__name__}; expected a torch.nn.Module.")
    if not isinstance(density, int | float) or not 0 < density <= 1:
        raise UsageError(f"density={density!r}; expected kept / prunable, above 0 and at most 1.")
    pruner = Pruner(
        criterion=criterion_of(criterion),
        allocation=allocation_of(allocation),
        granularity=None if granularity is None else granularity_of(granularity),
    )
    keep = round(density * a_mask(mask).total)
    if keep > mask.alive:
        raise UsageError(f"density={density!r} keeps {keep:,} weights, but the mask has only {mask.alive:,} left.")
    return pruner(model, mask, keep, probe)


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
