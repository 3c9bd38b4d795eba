"""How much two masks overlap, beside what chance gives."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tombola.errors import TicketError
from tombola.masks import Mask

__all__ = ["Overlap", "chance_jaccard", "overlap"]

_REACH = 12  # standard deviations


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """The places that two masks of one tensor, or of all tensors together, have in common.

    Args:
        name: of the tensor; None: all together.
        first, second: places that each keeps.
        both: places that both keep.
        jaccard: both / either; None: neither keeps any.
        chance: what `jaccard` is on average for random masks with these counts in each tensor.
        ratio: jaccard / chance.
    """

    name: str | None
    total: int
    first: int
    second: int
    both: int
    jaccard: float | None
    chance: float | None
    ratio: float | None


def overlap(first: Mask, second: Mask) -> list[Overlap]:
    """The overlap of the tensors that both masks have in the same shape, then of all of these together.

    Raises:
        TicketError: they have no such tensor.

    >>> import torch
    >>> a, b = Mask({"w": torch.arange(10) < 5}), Mask({"w": torch.arange(10) < 4})
    >>> [(one.name, one.both, one.jaccard, round(one.chance, 3)) for one in overlap(a, b)]
    [('w', 4, 0.8, 0.304), (None, 4, 0.8, 0.304)]
    """
    shapes, others = first.shapes, second.shapes
    common = [name for name, shape in shapes.items() if others.get(name) == shape]
    if not common:
        raise TicketError("The two tickets have no tensor of one name and shape; they are of different models.")
    kept = first.kept, second.kept
    counts = {name: (math.prod(shapes[name]), kept[0][name], kept[1][name]) for name in common}
    both = {name: int((first[name] & second[name]).sum()) for name in common}
    rows = [_overlap(name, [counts[name]], both[name]) for name in common]
    return [*rows, _overlap(None, list(counts.values()), sum(both.values()))]


def _overlap(name: str | None, counts: list[tuple[int, int, int]], both: int) -> Overlap:
    total, first, second = (sum(column) for column in zip(*counts, strict=True))
    either = first + second - both
    jaccard = both / either if either else None
    chance = chance_jaccard(counts) if either else None
    return Overlap(
        name=name,
        total=total,
        first=first,
        second=second,
        both=both,
        jaccard=jaccard,
        chance=chance,
        ratio=jaccard / chance if jaccard is not None and chance else None,
    )


def chance_jaccard(counts: Iterable[tuple[int, int, int]]) -> float:
    """The expected Jaccard index of random masks: for each tensor (places, kept in one, kept in the other).

    What two masks of a tensor have in common is hypergeometric; over several tensors the counts add up.

    >>> round(chance_jaccard([(2, 1, 1)]), 12)
    0.5
    """
    from scipy.signal import fftconvolve

    chances, start, kept = np.ones(1), 0, 0
    for places, first, second in counts:
        least, more = _hypergeometric(places, first, second)
        chances, start, kept = fftconvolve(chances, more), start + least, kept + first + second
    common = np.arange(start, start + len(chances))
    return float(np.sum(chances * common / np.maximum(kept - common, 1)) / np.sum(chances))


def _hypergeometric(places: int, first: int, second: int) -> tuple[int, NDArray[np.float64]]:
    """The smallest number of common places that is likely at all, and the probabilities from there on."""
    from scipy.special import gammaln

    mean = first * second / max(1, places)
    spread = math.sqrt(mean * (1 - first / max(1, places)) * (places - second) / max(1, places - 1))
    reach = _REACH * spread + 16
    low = max(0, first + second - places, math.floor(mean - reach))
    high = min(first, second, math.ceil(mean + reach))
    x = np.arange(low, high + 1)
    logs = -(
        gammaln(x + 1) + gammaln(first - x + 1) + gammaln(second - x + 1) + gammaln(places - first - second + x + 1)
    )
    chances = np.exp(logs - logs.max())
    return low, chances / chances.sum()
