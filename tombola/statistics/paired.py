"""One-sided paired t tests: superiority, non-inferiority with a margin, and equivalence by two of them.

Sources: Student's t on the differences of pairs; Schuirmann (1987) for two one-sided tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tombola.errors import UsageError
from tombola.statistics.intervals import interval

__all__ = [
    "ROUNDING",
    "TTest",
    "equivalence",
    "greater",
    "less",
    "noninferiority",
    "superiority",
    "t_interval",
    "usable",
]

ROUNDING = 1e-9
"""Values whose whole spread is below this part of them are equal: the spread is that of rounding."""


@dataclass(frozen=True, kw_only=True)
class TTest:
    """What a one-sided test says about the mean of n paired differences.

    `p` in [0, 1] is None where fewer than two values are there. `statistic` (t) and `df` (n - 1) are None then, and
    where all values are equal: then p = 0 for a mean strictly inside the hypothesis, 1 outside and at the bound.
    `why` says so in words, and is empty where t decides.
    """

    p: float | None
    statistic: float | None
    df: int | None
    n: int
    why: str = ""


def usable(values: Iterable[float]) -> list[float]:
    """The finite ones among the values; everything here leaves the others out and counts what is left.

    >>> usable([1, float("nan"), 2.0])
    [1.0, 2.0]
    """
    return [float(value) for value in values if math.isfinite(value)]


def greater(values: Iterable[float], bound: float = 0.0) -> TTest:
    """Tests that the mean is above `bound`: t = (mean - bound) / (s / sqrt(n)), p = P(T(n - 1) >= t).

    `values` and `bound` share one unit; values that are not finite are left out. Exact for normal differences.

    >>> found = greater([1.0, 2.0, 3.0])
    >>> round(found.statistic, 3), round(found.p, 4), found.df
    (3.464, 0.0371, 2)
    >>> greater([0.5, 0.5]).p, greater([0.5, 0.5], bound=0.5).p
    (0.0, 1.0)
    """
    numbers = usable(values)
    n = len(numbers)
    if n < 2:
        return TTest(p=None, statistic=None, df=None, n=n, why=f"a test needs at least two pairs, got {n}")
    if max(numbers) - min(numbers) <= ROUNDING * max(abs(bound), *map(abs, numbers)):
        inside = numbers[0] > bound and not math.isclose(numbers[0], bound, rel_tol=ROUNDING, abs_tol=0.0)
        return TTest(p=0.0 if inside else 1.0, statistic=None, df=None, n=n, why="all values are equal")
    # scipy.special loads in less than half the time of scipy.stats.
    from scipy.special import stdtr

    mean = math.fsum(numbers) / n
    error = math.hypot(*(number - mean for number in numbers)) / math.sqrt(n * (n - 1))
    statistic = (mean - bound) / error
    return TTest(p=float(stdtr(n - 1, -statistic)), statistic=statistic, df=n - 1, n=n)


def less(values: Iterable[float], bound: float = 0.0) -> TTest:
    """Tests that the mean is below `bound`: `greater` with every sign turned, so that a positive t speaks for it.

    >>> less([-1.0, -2.0, -3.0]) == greater([1.0, 2.0, 3.0])
    True
    """
    return greater([-value for value in values], -bound)


def superiority(differences: Iterable[float]) -> TTest:
    """Tests that a is better than b: mean difference > 0.

    >>> superiority([1.0, 2.0, 3.0]).df
    2
    """
    return greater(differences)


def noninferiority(differences: Iterable[float], margin: float) -> TTest:
    """Tests that a is not worse than b beyond the margin: mean difference > -margin.

    `margin` >= 0, in the unit of the differences, declared before the data are seen.

    >>> noninferiority([-0.001, 0.001, 0.0], margin=0.01).p < 0.01
    True
    """
    return greater(differences, -_checked(margin))


def equivalence(differences: Iterable[float], margin: float) -> TTest:
    """Schuirmann's two one-sided tests of -margin < mean < margin: the one with the larger p decides.

    `statistic` is the smaller of the two t.

    >>> equivalence([-0.001, 0.001, 0.0], margin=0.01).p < 0.01
    True
    """
    numbers = usable(differences)
    tests = greater(numbers, -_checked(margin)), less(numbers, margin)
    return max(tests, key=lambda test: test.p or 0.0)


def t_interval(differences: Iterable[float], confidence: float = 0.95) -> tuple[float | None, float | None]:
    """The ends of the paired t interval of the mean, None where fewer than two finite values are there.

    >>> t_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    >>> t_interval([])
    (None, None)
    """
    numbers = usable(differences)
    if not numbers:
        return None, None
    found = interval(numbers, confidence)
    return found.low, found.high


def _checked(margin: float) -> float:
    if not (math.isfinite(margin) and margin >= 0):
        raise UsageError(f"a margin is a number of at least 0 in the unit of the values, got {margin}")
    return margin
