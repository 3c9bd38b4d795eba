"""How many replicates a test needs for a wanted power.

Effects and margins are in standard deviations: of the differences for one sample of pairs (`arms=1`, the default and
the plan of every experiment here), of one arm's values for two independent arms (`arms=2`; the answer is then per arm).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tombola.errors import UsageError

__all__ = ["CAP", "power_equivalence", "power_greater", "required_equivalence", "required_replicates"]

CAP = 100
"""No plan here goes beyond this many replicates: the answer is then None, "more than 100"."""

_CERTAIN = 1e6
"""An effect of so many SD is certain to be seen; scipy's noncentral t ends in NaN not far above."""


def power_greater(n: int, effect: float, *, alpha: float = 0.05, arms: int = 1) -> float:
    """Power of the one-sided t test of mean > bound: P(T(df, nc) > t(df, 1 - alpha)), noncentral t.

    nc = effect sqrt(n), df = n - 1 for pairs; nc = effect sqrt(n / 2), df = 2n - 2 for two arms. `effect` is
    (true mean - bound) / SD, so the same function serves superiority and non-inferiority; a two-sided test at 5 % has
    the power of a one-sided at 2.5 %.

    >>> round(power_greater(17, 1.0, alpha=0.025, arms=2), 3)
    0.807
    """
    from scipy.special import nctdtr, stdtrit

    df, root = _design(n, alpha, arms)
    bounded = max(-_CERTAIN, min(effect, _CERTAIN))
    return float(1 - nctdtr(df, bounded * root, stdtrit(df, 1 - alpha)))


def power_equivalence(n: int, margin: float, *, shift: float = 0.0, alpha: float = 0.05, arms: int = 1) -> float:
    """Exact power of two one-sided t tests for a mean within +-margin, when the true mean is `shift`.

    With u = margin sqrt(n), v = shift sqrt(n) (n / 2 for two arms), and w the estimated over the true SD:
    E_w[Phi(u - v - t w) - Phi(-u - v + t w)] over w < u / t, with df w^2 ~ chi2(df) (Phillips 1990).

    >>> round(power_equivalence(23, 1.0, arms=2), 3)
    0.91
    """
    import numpy as np
    from scipy.special import chdtr, chdtri, ndtr, stdtrit

    df, root = _design(n, alpha, arms)
    critical = float(stdtrit(df, 1 - alpha))
    edge, mean = margin * root, shift * root
    if not edge > 0:
        return 0.0
    if math.isinf(edge):
        return 1.0
    nodes, weights = np.polynomial.legendre.leggauss(200)
    inside = float(chdtr(df, df * (edge / critical) ** 2))
    share = inside * (nodes + 1) / 2
    w = np.sqrt(chdtri(df, 1 - share) / df)
    held = ndtr(edge - mean - critical * w) - ndtr(-edge - mean + critical * w)
    return float(np.clip((weights * np.maximum(held, 0)).sum() * inside / 2, 0, 1))


def required_replicates(
    effect: float, *, power: float = 0.8, alpha: float = 0.05, arms: int = 1, cap: int = CAP
) -> int | None:
    """The smallest n in 2 .. cap at which `power_greater` reaches `power`; None means more than `cap`.

    >>> required_replicates(1.0), required_replicates(0.1), required_replicates(1.0, alpha=0.025, arms=2)
    (8, None, 17)
    """
    if math.isnan(effect) or effect <= 0:
        return None
    return _smallest(lambda n: power_greater(n, effect, alpha=alpha, arms=arms), power, cap)


def required_equivalence(
    margin: float, *, shift: float = 0.0, power: float = 0.9, alpha: float = 0.05, arms: int = 1, cap: int = CAP
) -> int | None:
    """The smallest n in 2 .. cap at which `power_equivalence` reaches `power`; None means more than `cap`.

    >>> required_equivalence(1.0, arms=2), required_equivalence(0.25, arms=2)
    (23, None)
    """
    if math.isnan(margin) or math.isnan(shift) or abs(shift) >= margin:
        return None
    return _smallest(
        lambda n: power_equivalence(n, margin, shift=shift, alpha=alpha, arms=arms),
        power,
        cap,
    )


def _smallest(reached: Callable[[int], float], power: float, cap: int) -> int | None:
    """Power grows with n, so halving the range finds the first n that has enough."""
    if not 0 < power < 1:
        raise UsageError(f"a wanted power lies between 0 and 1, got {power}; 0.8 and 0.9 are usual")
    low, high = 2, cap
    if cap < low or not reached(cap) >= power:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle + 1, high)
    return low


def _design(n: int, alpha: float, arms: int) -> tuple[int, float]:
    """Degrees of freedom, and the root by which an effect becomes a noncentrality."""
    if n < 2 or arms not in (1, 2) or not 0 < alpha < 1:
        raise UsageError(f"power needs n >= 2, arms 1 or 2 and alpha in (0, 1), got n={n}, arms={arms}, alpha={alpha}")
    return (n - 1, math.sqrt(n)) if arms == 1 else (2 * n - 2, math.sqrt(n / 2))
