"""Many levels, one answer: Holm over the levels, the smallest winning density, and how far accuracy holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tombola.statistics.multiplicity import holm
from tombola.statistics.paired import greater
from tombola.statistics.verdicts import ALPHA, FEWEST, Pairs, level_p

__all__ = ["Overall", "holds_down_to", "overall"]


@dataclass(frozen=True, kw_only=True)
class Overall:
    """The answer over all levels.

    `adjusted` and `unadjusted`: level -> p of "winning", None where it cannot be tested. `level` is the answer's,
    None for no winning ticket. `left_out`: replicate -> the answer's level when that replicate is left out.
    """

    adjusted: Mapping[int, float | None]
    unadjusted: Mapping[int, float | None]
    level: int | None
    left_out: Mapping[int, int | None]


def overall(levels: Mapping[int, Pairs], densities: Mapping[int, float], margin: float) -> Overall:
    """Holm over the levels on p = max(p_N, p_R, p_S); the level of smallest density whose adjusted p <= 0.05.

    `densities` lie in (0, 1]. The maximum of the three p is a valid p of "all three hold" (intersection-union),
    and Holm keeps the chance of naming any level wrongly at 5 %.

    >>> overall({}, {}, 0.01).level is None
    True
    """
    unadjusted, adjusted = _ps(levels, margin)
    replicates = sorted({replicate for pairs in levels.values() for replicate in pairs.dense})
    left_out = {}
    for replicate in replicates:
        rest = {level: pairs.without(replicate) for level, pairs in levels.items()}
        left_out[replicate] = _smallest(_ps(rest, margin)[1], densities)
    return Overall(adjusted=adjusted, unadjusted=unadjusted, level=_smallest(adjusted, densities), left_out=left_out)


def holds_down_to(levels: Sequence[Pairs], margin: float) -> int:
    """How many levels, from the lightest downwards in the given order, pass N before the first that fails.

    Each is tested at 5 % and only after all before it have passed, so no adjustment is needed.

    >>> same = Pairs(dense={0: 0.0, 1: 0.0, 2: 0.0})
    >>> worse = Pairs(dense={0: -0.5, 1: -0.5, 2: -0.5})
    >>> holds_down_to([same, same, worse, same], 0.01)
    2
    """
    for passed, pairs in enumerate(levels):
        test = greater(pairs.dense.values(), -margin)
        if test.n < FEWEST or test.p is None or test.p > ALPHA:
            return passed
    return len(levels)


def _ps(levels: Mapping[int, Pairs], margin: float) -> tuple[dict[int, float | None], dict[int, float | None]]:
    plain = {level: level_p(pairs, margin) for level, pairs in levels.items()}
    return plain, dict(zip(plain, holm(list(plain.values())), strict=True))


def _smallest(adjusted: Mapping[int, float | None], densities: Mapping[int, float]) -> int | None:
    won = [level for level, p in adjusted.items() if p is not None and p <= ALPHA and level in densities]
    return min(won, key=lambda level: (densities[level], level), default=None)
