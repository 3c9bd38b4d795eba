"""Which levels are trained, and from which one each is cut."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping, Sequence

from tombola.allocation import Allocation, Layerwise, allocation_of
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.schedules import check_ladder, geometric

__all__ = ["Walk", "along", "budgets", "sparsest"]

Walk = Generator[tuple[int, int], bool, int]
"""Yields (level that is trained, level to cut from it), is sent whether that is good enough, returns the last good."""

Budgets = tuple[Allocation, list[int]]


def along(path: Sequence[int]) -> Walk:
    """Every level of a path, each cut from the one before it, whatever comes out.

    >>> walk = along([0, 1, 2])
    >>> next(walk), walk.send(True)
    ((0, 1), (1, 2))
    """
    for step in itertools.pairwise(path):  # noqa: UP028 - `yield from` would hand what is sent to the iterator
        yield step
    return path[-1]


def sparsest(levels: int) -> Walk:
    """The last level that is good enough, in about log2(levels) trainings: bisection, as if goodness fell with density.

    Each cut is made from the sparsest good network so far, over as many levels as the bisection leaps. A level that
    failed after a leap says little about one cut by a single rate, so the search ends only when one level below the
    sparsest good network, cut from that very network, fails too (or `levels` is reached): where level by level would.

    >>> walk = sparsest(15)
    >>> next(walk), walk.send(False), walk.send(True), walk.send(True)
    ((0, 8), (0, 4), (4, 6), (6, 7))
    """
    low, failed = 0, dict[int, int]()
    while True:
        high = min((level for level in failed if level > low), default=levels + 1)
        if high == low + 1 and (high > levels or failed[high] == low):
            return low
        target = max((low + high) // 2, low + 1)
        if (yield low, target):
            low = target
            failed.pop(target, None)
        else:
            failed[target] = low


def budgets(dense: Mask, allocation: str | Allocation, rate: float, levels: int | None, least: float) -> Budgets:
    """The allocation, and the weights left in all at the levels 0, 1, ..., `levels`.

    Args:
        rate: fraction of the surviving weights that goes at each level, in (0, 1).
        levels: how many; None: as many as leave at most the density `least`, or as there can be.

    Raises:
        UsageError: an unknown allocation, or so many levels that nothing is left to remove.

    >>> import torch
    >>> budgets(Mask({"w": torch.ones(10, 10, dtype=torch.bool)}), "global", 0.2, 2, 0.1)[1]
    [100, 80, 64]
    """
    chosen = allocation_of(allocation, {"rate": rate})
    slow = fast = rate
    if isinstance(chosen, Layerwise):
        start, rates = dense.kept, chosen.rates(dense)
        slow, fast = sorted((rate, chosen.conv or rate))
    else:
        start, rates = {"all layers": dense.alive}, {"all layers": rate}
    wanted = levels
    if wanted is None:
        first, last = (math.ceil(math.log(least) / math.log(1 - one)) for one in (fast, slow))
        enough = (n for n in range(first, last) if _density(start, rates, n) <= least)
        wanted = next(enough, last)
    ladder = geometric(start, rates, min(wanted, dense.alive))
    while levels is None and len(ladder) > 1 and not _goes(start, ladder):
        ladder.pop()
    check_ladder(start, ladder)
    return chosen, [dense.alive, *(sum(counts.values()) for counts in ladder)]


def _density(start: Mapping[str, int], rates: Mapping[str, float], level: int) -> float:
    return sum(n * (1 - rates[name]) ** level for name, n in start.items()) / sum(start.values())


def _goes(start: Mapping[str, int], ladder: list[dict[str, int]]) -> bool:
    try:
        check_ladder(start, ladder)
    except UsageError:
        return False
    return True
