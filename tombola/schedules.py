"""Schedules: how many weights are left at each level. Integers only; nothing here knows a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tombola.errors import UsageError

__all__ = ["check_ladder", "geometric", "step_down"]


def step_down(counts: Mapping[str, int], rates: Mapping[str, float], share: float = 1.0) -> dict[str, int]:
    """One level: n -> n - round(share x rate x n) in every layer.

    >>> step_down({"hidden": 30000, "output": 1000}, {"hidden": 0.2, "output": 0.1})
    {'hidden': 24000, 'output': 900}
    """
    return {name: n - round(share * rates[name] * n) for name, n in counts.items()}


def geometric(counts: Mapping[str, int], rates: Mapping[str, float], levels: int) -> list[dict[str, int]]:
    """Weights left in each layer at the levels 1 to `levels` when a layer loses its rate of the survivors at each.

    n_{L+1} = n_L - round(rate x n_L), density about (1 - rate)^L (Frankle and Carbin 2019, arXiv 1803.03635).

    Args:
        counts: layer -> weights at level 0.
        rates: layer -> fraction of the surviving weights that goes at each level, in [0, 1).

    >>> [sum(c.values()) for c in geometric({"a": 1000, "b": 10}, {"a": 0.2, "b": 0.1}, 3)]
    [809, 648, 519]
    """
    ladder, now = [], dict(counts)
    for _ in range(levels):
        now = step_down(now, rates)
        ladder.append(now)
    return ladder


def check_ladder(start: Mapping[str, int], ladder: Sequence[Mapping[str, int]]) -> None:
    """Refuse a ladder with a level that empties a layer, removes nothing or brings weights back.

    Raises:
        UsageError: names the level, the layer, and how many levels are possible.
    """
    before = start
    for level, counts in enumerate(ladder, 1):
        fix = f"use --levels {level - 1} or fewer" if level > 1 else "use a smaller --rate"
        empty = [name for name, n in counts.items() if n < 1]
        if empty:
            raise UsageError(f"Level {level} would empty {empty[0]!r} ({before[empty[0]]} left before it); {fix}.")
        left, had = sum(counts.values()), sum(before.values())
        if left > had:
            raise UsageError(f"Level {level} has {left:,} weights, above the {had:,} before it; densities must fall.")
        if left == had:
            fix = f"use --levels {level - 1} or fewer" if level > 1 else "use a larger --rate"
            raise UsageError(f"At level {level} nothing is left to remove: all {left:,} weights stay; {fix}.")
        before = counts
