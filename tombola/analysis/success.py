"""Why not train the smaller network? How often a small dense one is as good as the whole, beside the ticket."""

from __future__ import annotations

from dataclasses import dataclass

from tombola.analysis.source import Absent, Source
from tombola.analysis.verdict import ENDPOINTS

__all__ = ["SuccessRow", "small_dense_success"]

_ARMS = ("ticket", "small-dense")


@dataclass(frozen=True, kw_only=True)
class SuccessRow:
    """How often one arm reaches the dense network at one level.

    Args:
        density: of the ticket at that level; the small dense network has at most as many weights.
        weights: mean of the arm's own prunable weights, which goes with its width.
        fits, successes: trainings (replicates x draws), and those within the margin of their replicate's dense network.
        rate: successes / fits.
    """

    arm: str
    level: int
    density: float
    weights: float
    fits: int
    successes: int
    rate: float


def small_dense_success(source: Source) -> list[SuccessRow]:
    """Success rates of tickets and of small dense networks, level by level.

    A success is a test accuracy, at the endpoint of the recipe, above that of the same replicate's dense network less
    the margin.

    Raises:
        Absent: no smaller dense network was trained, or nothing is judged by accuracy.
    """
    arms = source.document["arms"]
    if not arms.get("small-dense"):
        raise Absent("no smaller dense network was trained (--controls small-dense)")
    field, margin = ENDPOINTS[source.settings["endpoint"]], source.settings["margin"]
    dense = {row["replicate"]: row[field] for row in arms.get("ticket", ()) if row["level"] == 0}
    found = []
    for arm in _ARMS:
        for level, density in source.densities.items():
            rows = [r for r in arms.get(arm, ()) if r["level"] == level and dense.get(r["replicate"]) is not None]
            if not rows or level == 0:
                continue
            good = sum(r[field] is not None and r[field] > dense[r["replicate"]] - margin for r in rows)
            weights = sum(r["kept"] for r in rows) / len(rows)
            place = {"arm": arm, "level": level, "density": density, "weights": weights}
            found.append(SuccessRow(**place, fits=len(rows), successes=good, rate=good / len(rows)))
    if not found:
        raise Absent("nothing here is judged by accuracy")
    return found
