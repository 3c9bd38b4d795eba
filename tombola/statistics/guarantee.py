"""How far accuracies on held-out examples can be from the true ones.

Source: Hoeffding (1963), Probability inequalities for sums of bounded random variables.
"""

from __future__ import annotations

import math

from tombola.errors import UsageError

__all__ = ["hoeffding"]


def hoeffding(examples: int, eta: float, candidates: int = 1) -> float:
    """epsilon = sqrt(ln(2 K / eta) / (2 N)), a fraction, not above 1.

    With probability 1 - eta, all K measured accuracies lie within epsilon of the true ones, for N = `examples`
    independent examples that no candidate has seen.

    >>> round(hoeffding(5_000, 0.05, 2), 4)
    0.0209
    """
    if examples < 1 or candidates < 1 or not 0 < eta < 1:
        raise UsageError(
            "a guarantee needs at least one example, one candidate and eta in (0, 1), "
            f"got examples={examples}, candidates={candidates}, eta={eta}"
        )
    return min(1.0, math.sqrt(math.log(2 * candidates / eta) / (2 * examples)))
