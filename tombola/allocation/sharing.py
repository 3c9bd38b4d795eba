"""Sharing a budget in proportion: within bounds, and exact in whole numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tombola.errors import UsageError

__all__ = ["proportional", "rounded"]


def proportional(
    weights: Mapping[str, float], left: Mapping[str, int], keep: int, least: Mapping[str, float] | None = None
) -> dict[str, int]:
    """Share `keep` in proportion to `weights`: who would get more than is left is full, and the rest is shared again.

    The targets are t_l = max(least_l, min(left_l, e * weight_l)) with the one e for which they add up to `keep`; larger
    budgets give nobody less, so that counts of falling budgets are nested.

    Args:
        weights: positive.
        left: the most that each can have; they add up to `keep` or more.
        least: the least that each has, at most what is left; they add up to `keep` or less. Nothing where not named.

    >>> proportional({"a": 3.0, "b": 1.0}, {"a": 10, "b": 10}, 12)
    {'a': 9, 'b': 3}
    >>> proportional({"a": 3.0, "b": 1.0}, {"a": 6, "b": 10}, 12)
    {'a': 6, 'b': 6}
    """
    low = {name: float((least or {}).get(name, 0.0)) for name in weights}

    def at(scale: float) -> dict[str, float]:
        return {n: max(low[n], min(float(left[n]), scale * weight)) for n, weight in weights.items()}

    # The sum grows with the scale, straight between the scales at which somebody leaves a bound or meets one.
    bends = sorted({0.0, *(bound[n] / weight for n, weight in weights.items() for bound in (low, left))})
    above = next((scale for scale in bends if sum(at(scale).values()) >= keep), bends[-1])
    below = max((scale for scale in bends if scale < above), default=above)
    few, many = sum(at(below).values()), sum(at(above).values())
    share = (keep - few) / (many - few) if many > few else 0.0
    return rounded(at(below + share * (above - below)), left, keep)


def rounded(targets: Mapping[str, float], left: Mapping[str, int], keep: int) -> dict[str, int]:
    """Whole numbers that add up to `keep`: the largest remainders are rounded up, ties by order; never above `left`.

    Args:
        targets: they add up to `keep`, but for rounding.

    Raises:
        UsageError: less than `keep` is left.

    >>> rounded({"a": 1.5, "b": 0.7, "c": 0.8}, {"a": 9, "b": 9, "c": 9}, 3)
    {'a': 1, 'b': 1, 'c': 1}
    """
    if sum(left.values()) < keep:
        raise UsageError(f"Cannot keep {keep:,} weights: only {sum(left.values()):,} are left.")
    counts = {name: min(left[name], math.floor(target)) for name, target in targets.items()}
    order = sorted(counts, key=lambda name: counts[name] - targets[name])  # stable: ties stay in order
    while missing := keep - sum(counts.values()):
        for name in [name for name in order if counts[name] < left[name]][:missing]:
            counts[name] += 1
    return counts
