"""The exact sign-flip permutation test of paired differences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tombola.statistics.paired import usable

__all__ = ["EXACT_UP_TO", "SignFlip", "sign_flip"]

EXACT_UP_TO = 20
"""Up to this many pairs all 2^n sign patterns are counted (a million sums); above, random ones are drawn."""

_TIES = 1e-9
"""Sums that differ by less than this part of the largest are equal: their terms were added in another order."""


@dataclass(frozen=True, kw_only=True)
class SignFlip:
    """What the sign-flip test says.

    `p` in [smallest, 1] is None without a pair. `smallest` is the least p that n pairs can give: 2^-n, or
    1 / (flips + 1) for drawn patterns. `exact` tells which; `flips` are the patterns counted, without the observed
    one where they are drawn.
    """

    p: float | None
    smallest: float | None
    n: int
    exact: bool
    flips: int


def sign_flip(values: Iterable[float], bound: float = 0.0, *, seed: int = 0, flips: int = 100_000) -> SignFlip:
    """Tests that the mean is above `bound` by turning the signs of d - bound.

    p = #{s in {-1, 1}^n: sum s_i (d_i - bound) >= sum (d_i - bound)} / 2^n, the observed pattern included; exact
    where the differences are symmetric about the bound. Above 20 pairs `flips` patterns are drawn from `seed` and p
    = (1 + count) / (1 + flips), which `exact=False` says. Values that are not finite are left out.

    >>> sign_flip([1.0, 2.0, 3.0, 4.0, 5.0])
    SignFlip(p=0.03125, smallest=0.03125, n=5, exact=True, flips=32)
    """
    import numpy as np

    numbers = np.array(usable(values)) - bound
    n = len(numbers)
    if n == 0:
        return SignFlip(p=None, smallest=None, n=0, exact=True, flips=0)
    reached = numbers.sum() - _TIES * np.abs(numbers).sum()
    if n <= EXACT_UP_TO:
        sums = np.zeros(1)
        for number in numbers:
            sums = np.concatenate([sums - number, sums + number])
        found = int((sums >= reached).sum())
        return SignFlip(p=found / 2**n, smallest=0.5**n, n=n, exact=True, flips=2**n)
    generator = np.random.default_rng(seed)
    found = 1
    for start in range(0, flips, 10_000):
        signs = generator.integers(0, 2, size=(min(10_000, flips - start), n)) * 2.0 - 1.0
        found += int((signs @ numbers >= reached).sum())
    return SignFlip(p=found / (1 + flips), smallest=1 / (1 + flips), n=n, exact=False, flips=flips)
