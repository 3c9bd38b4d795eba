"""Bootstrap intervals beside the t intervals of a verdict. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tombola.analysis.verdict import ENDPOINTS
from tombola.statistics.bootstrap import bca
from tombola.statistics.pairs import paired_differences

__all__ = ["bootstrap_intervals"]


def bootstrap_intervals(document: Mapping[str, Any], *, endpoint: str) -> list[dict[str, Any]]:
    """BCa intervals (95 %) of ticket - dense for every level from 1, each with its simulated coverage.

    Source: Efron (1987). With few replicates they cover less than they say, which is why the t interval is the one
    that a verdict shows.

    Args:
        document: a results document.
        endpoint: "early-stop" or "end".

    >>> bootstrap_intervals({"schema": 1, "arms": {}}, endpoint="end")
    []
    """
    rows: dict[int, list[Mapping[str, Any]]] = {}
    for row in document["arms"].get("ticket", ()):
        rows.setdefault(row["level"], []).append(row)
    found = []
    for level in sorted(rows.keys() - {0}):
        differences = paired_differences(rows[level], rows.get(0, ()), ENDPOINTS[endpoint])
        one = bca(differences.values())
        interval: dict[str, Any] = {"level": level, "difference": one.mean, "low": one.low, "high": one.high}
        found.append({**interval, "replicates": one.n, "coverage": one.coverage, "words": one.words})
    return found
