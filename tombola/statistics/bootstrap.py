"""The BCa bootstrap interval of a mean, offered with the coverage it really has at small n.

Source: Efron (1987), Better bootstrap confidence intervals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tombola.errors import UsageError
from tombola.statistics.paired import ROUNDING, usable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BCA_COVERAGE", "BCa", "bca", "bca_coverage", "bca_ends"]

BCA_COVERAGE = {2: 0.50, 3: 0.72, 4: 0.80, 5: 0.84, 7: 0.88, 10: 0.90, 15: 0.92, 20: 0.92, 30: 0.93, 50: 0.94}
"""n -> how often a 95 % BCa interval holds the mean of n normal values: simulated by `benchmarks/coverage.py`."""


@dataclass(frozen=True, kw_only=True)
class BCa:
    """A bootstrap interval in the unit of the values; ends are None for fewer than two values.

    `coverage` is what a nominal 95 % interval reaches for so many normal values (see `BCA_COVERAGE`), None where
    that is not known.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    confidence: float
    resamples: int
    coverage: float | None

    @property
    def words(self) -> str:
        """One sentence for the reader of the interval.

        >>> 'a 95 % interval covers about 84 % of the time' in bca([0.1, 0.2, 0.4, 0.4, 0.7]).words
        True
        """
        if self.low is None:
            return f"BCa bootstrap: {self.n} values give no interval, at least 2 are needed."
        covers = "an unknown part" if self.coverage is None else f"about {self.coverage:.0%}".replace("%", " %")
        return (
            f"BCa bootstrap of {self.n} values: a 95 % interval covers {covers} of the time "
            "at this n (normal values, simulated)."
        )


def bca_coverage(n: int) -> float | None:
    """The simulated coverage at the largest tabulated number of values that is not above n.

    >>> bca_coverage(5), bca_coverage(12), bca_coverage(1)
    (0.84, 0.9, None)
    """
    return max(((size, value) for size, value in BCA_COVERAGE.items() if size <= n), default=(0, None))[1]


def bca(values: Iterable[float], confidence: float = 0.95, *, resamples: int = 9_999, seed: int = 0) -> BCa:
    """The bias-corrected and accelerated interval of the mean of independent values.

    The ends are the quantiles Phi(z0 + (z0 + z) / (1 - a (z0 + z))) of the resampled means, with z0 from the share
    of them below the mean, the acceleration a from the jackknife, and z the normal quantiles of (1 -+ confidence) /
    2. Equal values have an interval of width 0. Values that are not finite are left out. `seed` fixes the
    resamples.

    >>> found = bca([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> 1.5 < found.low < 2 < 4 < found.high < 4.5
    True
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie between 0 and 1, got {confidence}; 0.95 is usual")
    import numpy as np

    numbers = np.array(usable(values))
    n = len(numbers)
    known: dict[str, Any] = {"n": n, "confidence": confidence, "resamples": resamples, "coverage": bca_coverage(n)}
    if n < 2:
        mean = float(numbers[0]) if n else None
        return BCa(mean=mean, low=None, high=None, **known)
    if np.ptp(numbers) <= ROUNDING * np.abs(numbers).max():
        end = float(numbers[0])
        return BCa(mean=end, low=end, high=end, **known)
    picks = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    low, high = bca_ends(numbers[None], numbers[picks].mean(axis=1)[None], confidence)
    return BCa(mean=float(numbers.mean()), low=float(low[0]), high=float(high[0]), **known)


def bca_ends(
    values: np.ndarray[Any, Any], means: np.ndarray[Any, Any], confidence: float = 0.95
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Both ends for many samples at once: `values` (samples, n) that are not all equal, `means` (samples, resamples).

    >>> import numpy as np
    >>> low, high = bca_ends(np.array([[0.0, 1.0]]), np.array([[0.0, 0.5, 0.5, 1.0]]), confidence=0.5)
    >>> low.shape, bool(low[0] < high[0])
    ((1,), True)
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    samples, resamples = means.shape
    centre = values.mean(axis=1, keepdims=True)
    # The jackknife means are centre + (centre - x) / (n - 1), so their deviations are those of -x.
    away = centre - values
    away = away / np.abs(away).max(axis=1, keepdims=True)
    acceleration = -(away**3).sum(axis=1) / (6 * (away**2).sum(axis=1) ** 1.5)
    slack = ROUNDING * np.abs(values).max(axis=1, keepdims=True)
    below = (means < centre - slack).sum(axis=1) + 0.5 * (np.abs(means - centre) <= slack).sum(axis=1)
    shift = ndtri(np.clip(below / resamples, 0.5 / resamples, 1 - 0.5 / resamples))
    ordered, rows = np.sort(means, axis=1), np.arange(samples)
    ends = []
    for quantile in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = shift + ndtri(quantile)
        place = ndtr(shift + z / (1 - acceleration * z)) * (resamples - 1)
        left = np.clip(np.floor(place), 0, resamples - 2).astype(int)
        part = np.clip(place - left, 0, 1)
        ends.append(ordered[rows, left] * (1 - part) + ordered[rows, left + 1] * part)
    return ends[0], ends[1]
