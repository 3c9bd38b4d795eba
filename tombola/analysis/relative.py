"""Metrics that are no accuracy, such as rewards, as parts of the dense networks' mean: what verdicts can judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tombola.errors import UsageError
from tombola.statistics.intervals import interval, replicate_means

__all__ = ["METRICS", "judged_by", "relative"]

METRICS = {"test_accuracy_at_early_stop": "test_metric_at_early_stop", "test_accuracy": "test_metric"}
"""Field of an accuracy in a results row -> that of another metric of which more is better."""


def judged_by(content: Mapping[str, Any]) -> str | None:
    """The metric that a verdict on a stored experiment goes by; None: it is an error, of which less is better.

    >>> judged_by({"metric": "reward", "larger_is_better": True}), judged_by({"metric": "mean squared error"})
    ('reward', None)
    """
    metric: str = content["metric"]
    return metric if metric == "accuracy" or content.get("larger_is_better") else None


def relative(document: Mapping[str, Any], field: str) -> tuple[dict[str, Any], float]:
    """The document with metric / m in the place of an accuracy, m the mean of the dense networks.

    Args:
        document: a results document of a metric of which more is better.
        field: the accuracy's.

    Returns:
        The document, and m.

    Raises:
        UsageError: the dense networks' mean is not above 0, so that nothing can be a part of it.

    >>> rows = [{"replicate": r, "level": 0, "diverged": False, "test_metric": 20.0 + r} for r in (0, 4)]
    >>> found, mean = relative({"arms": {"ticket": rows}}, "test_accuracy")
    >>> [round(row["test_accuracy"], 3) for row in found["arms"]["ticket"]], mean
    ([0.909, 1.091], 22.0)
    """
    own = METRICS[field]
    dense = replicate_means([row for row in document["arms"].get("ticket", ()) if row["level"] == 0], own)
    mean = interval(dense.values()).mean if dense else 0.0
    if mean <= 0:
        raise UsageError(f"The dense networks' mean is {mean:g}; expected one above 0 to compare with.")

    def part(row: Mapping[str, Any]) -> dict[str, Any]:
        return {**row, field: None if row[own] is None else row[own] / mean}

    return {**document, "arms": {arm: [part(row) for row in rows] for arm, rows in document["arms"].items()}}, mean
