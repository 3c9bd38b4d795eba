"""The mean of every replicate, and Student's interval of their mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tombola.errors import UsageError, suggest

__all__ = ["Interval", "interval", "replicate_means"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean of n values and the two ends of its interval, all in the unit of the values.

    `low` and `high` are None where one value says nothing about the spread (n = 1).
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """(high - low) / 2, or None without an interval.

        >>> Interval(mean=2.0, low=1.5, high=2.5, n=3).half_width
        0.5
        """
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / 2


def replicate_means(rows: Iterable[Mapping[str, Any]], field: str) -> dict[int, float]:
    """Mean of a field over the draws of each replicate: m_r = sum_d x_rd / D_r.

    `rows` are the rows of one arm at one level of a results document. Diverged rows, nulls and numbers
    that are not finite are left out; a replicate that has nothing else is missing from the answer.
    Returns the means in the order in which the replicates appear, in the unit of the field.
    Raises `UsageError` for a field that a row does not have.

    >>> replicate_means([{"replicate": 0, "x": 1.0}, {"replicate": 0, "x": 2.0}, {"replicate": 1, "x": None}], "x")
    {0: 1.5}
    """
    draws: dict[int, list[float]] = {}
    for row in rows:
        if row.get("diverged"):
            continue
        if field not in row:
            raise UsageError(f"results row has no field {field!r}. {suggest(field, row)}")
        value = row[field]
        if value is not None and math.isfinite(value):
            draws.setdefault(row["replicate"], []).append(float(value))
    return {replicate: math.fsum(values) / len(values) for replicate, values in draws.items()}


def interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """Student's interval of a mean: mean ± t(n - 1, (1 + confidence) / 2) * s / sqrt(n).

    `values` are finite and independent, one per replicate; `confidence` lies in (0, 1).
    One value has no interval (`low` and `high` are None); equal values have one of width 0.
    Raises `UsageError` for no values, for values that are not finite, and for another confidence.

    >>> interval([1.0, 2.0, 3.0]).mean
    2.0
    >>> interval([0.5])
    Interval(mean=0.5, low=None, high=None, n=1)
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise UsageError("an interval needs at least one value, got none")
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"an interval needs finite values, got {numbers}; leave the diverged ones out")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie between 0 and 1, got {confidence}; 0.95 is usual")
    n = len(numbers)
    if min(numbers) == max(numbers):
        # A rounded mean of equal values may miss them by one bit, which would look like a spread.
        end = numbers[0] if n > 1 else None
        return Interval(mean=numbers[0], low=end, high=end, n=n)
    mean = math.fsum(numbers) / n
    error = math.hypot(*(number - mean for number in numbers)) / math.sqrt(n * (n - 1))
    half = _student(n - 1, (1 + confidence) / 2) * error
    return Interval(mean=mean, low=mean - half, high=mean + half, n=n)


def _student(freedom: int, probability: float) -> float:
    """The quantile of Student's t distribution."""
    # scipy.special loads in less than half the time of scipy.stats.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
