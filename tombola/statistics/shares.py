"""Shares of successes: Wilson's interval, and McNemar's exact test of pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tombola.errors import UsageError

__all__ = ["Share", "mcnemar", "wilson"]


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of successes with its interval, all within 0 to 1; None where nothing was tried."""

    successes: int
    n: int
    share: float | None
    low: float | None
    high: float | None


def wilson(successes: int, n: int, confidence: float = 0.95) -> Share:
    """Wilson's interval of a share s of n tries, z the normal quantile of (1 + confidence) / 2:

    (s + z^2 / 2n ± z sqrt(s (1 - s) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    Raises:
        UsageError: fewer than 0 successes or more than n, or a confidence outside (0, 1).

    >>> found = wilson(13, 18)
    >>> round(found.low, 3), round(found.high, 3)
    (0.491, 0.875)

    Source: Wilson (1927, Journal of the American Statistical Association 22:209).
    """
    from scipy.special import ndtri

    if not 0 <= successes <= n:
        raise UsageError(f"successes is {successes} of {n}; expected 0 to {n}.")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie between 0 and 1, got {confidence}; 0.95 is usual")
    if n == 0:
        return Share(successes=0, n=0, share=None, low=None, high=None)
    z, share = float(ndtri((1 + confidence) / 2)), successes / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    whole = 1 + z * z / n
    low, high = max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)
    return Share(successes=successes, n=n, share=share, low=low, high=high)


def mcnemar(pairs: Iterable[tuple[bool, bool]]) -> float | None:
    """McNemar's exact two-sided p of pairs (success of one, success of the other); None without a pair.

    Of the pairs that differ, the number in which the one succeeds is binomial with 1/2: p = 2 P(X <= the smaller
    count), 1 at most.

    >>> mcnemar([(True, False)] * 6 + [(True, True)] * 9)
    0.03125

    Source: McNemar (1947, Psychometrika 12:153), with the exact distribution in place of chi squared.
    """
    known = list(pairs)
    if not known:
        return None
    one, other = sum(a and not b for a, b in known), sum(b and not a for a, b in known)
    differ = one + other
    at_most = sum(math.comb(differ, k) for k in range(min(one, other) + 1))
    return min(1.0, float(2 * at_most / 2**differ))
