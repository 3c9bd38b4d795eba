"""Ratios of paired positive numbers, on the log scale."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tombola.errors import UsageError
from tombola.statistics.paired import TTest, less, t_interval, usable

__all__ = ["Ratio", "below", "geometric_ratio"]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The geometric mean of n ratios a / b, and the ends of its t interval, which is symmetric on the log scale.

    All are above 0; the ends are None for fewer than two ratios, `ratio` for none.
    """

    ratio: float | None
    low: float | None
    high: float | None
    n: int


def geometric_ratio(logs: Iterable[float], confidence: float = 0.95) -> Ratio:
    """exp of the mean, and of both ends of the paired t interval, of log(a / b); see `log_ratios`.

    >>> found = geometric_ratio([math.log(0.5), math.log(2.0)])
    >>> round(found.ratio, 9), found.n
    (1.0, 2)
    """
    numbers = usable(logs)
    if not numbers:
        return Ratio(ratio=None, low=None, high=None, n=0)
    low, high = t_interval(numbers, confidence)
    return Ratio(
        ratio=math.exp(math.fsum(numbers) / len(numbers)),
        low=None if low is None else _exp(low),
        high=None if high is None else _exp(high),
        n=len(numbers),
    )


def below(logs: Iterable[float], ratio: float = 1.0) -> TTest:
    """Tests that the geometric mean ratio is below `ratio` (1: faster; 1.1: not slower beyond 10 %).

    >>> below([math.log(0.5), math.log(0.6), math.log(0.55)]).p < 0.01
    True
    """
    if not (math.isfinite(ratio) and ratio > 0):
        raise UsageError(f"a ratio is compared with a number above 0, got {ratio}")
    return less(logs, math.log(ratio))


def _exp(value: float) -> float:
    """exp, and the largest number there is where two wildly different ratios leave it: infinity is no JSON."""
    return math.exp(min(value, 709.0))
