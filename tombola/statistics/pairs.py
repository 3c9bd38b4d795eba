"""Two arms under the same seeds become one difference, or one ratio, for each replicate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from tombola.statistics.intervals import replicate_means

__all__ = ["log_ratios", "paired_differences", "paired_values"]

_ROUNDING = 1e-12
"""Two values that agree to this part of themselves are one value: means over draws are rounded."""


def paired_values(
    a_rows: Iterable[Mapping[str, Any]], b_rows: Iterable[Mapping[str, Any]], field: str
) -> dict[int, tuple[float, float]]:
    """replicate -> (value of a, value of b), draws averaged first, in order of the replicate.

    Only replicates that are present and finite in both arms; diverged rows are left out before. The values are
    in the unit of the field. Raises `UsageError` for a field that a row does not have.

    >>> a = [{"replicate": 0, "x": 3.0}, {"replicate": 1, "x": 5.0}]
    >>> b = [{"replicate": 0, "draw": 0, "x": 1.0}, {"replicate": 0, "draw": 1, "x": 2.0}]
    >>> paired_values(a, b, "x")
    {0: (3.0, 1.5)}
    """
    one, two = replicate_means(a_rows, field), replicate_means(b_rows, field)
    return {replicate: (one[replicate], two[replicate]) for replicate in sorted(one.keys() & two.keys())}


def paired_differences(
    a_rows: Iterable[Mapping[str, Any]], b_rows: Iterable[Mapping[str, Any]], field: str
) -> dict[int, float]:
    """replicate -> d_r = mean over draws of a - mean over draws of b; see `paired_values`.

    A difference that rounding alone explains (1e-12 of the values) is exactly 0.

    >>> paired_differences([{"replicate": 4, "x": 3.0}], [{"replicate": 4, "x": 1.0}], "x")
    {4: 2.0}
    """
    pairs = paired_values(a_rows, b_rows, field)
    return {replicate: _difference(a, b) for replicate, (a, b) in pairs.items()}


def log_ratios(pairs: Mapping[int, tuple[float, float]]) -> dict[int, float]:
    """replicate -> log(a / b), for pairs of positive values; others have no ratio and are left out.

    >>> log_ratios({0: (2.0, 2.0), 1: (1.0, 0.0)})
    {0: 0.0}
    """
    return {replicate: math.log(a / b) for replicate, (a, b) in pairs.items() if a > 0 and b > 0}


def _difference(a: float, b: float) -> float:
    return 0.0 if math.isclose(a, b, rel_tol=_ROUNDING, abs_tol=0.0) else a - b
