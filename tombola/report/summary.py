"""The one place where a results document becomes numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.errors import UsageError
from tombola.statistics import Interval, interval, replicate_means

__all__ = ["DENSE_ARM", "LevelRow", "accuracy_floor", "dense", "has_accuracy", "table"]

DENSE_ARM = "ticket"  # its level 0 is the dense network
_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class LevelRow:
    """One arm at one level, over all replicates.

    `density` in (0, 1] and `kept` (weights) are means over the replicates, diverged ones included, for a mask
    is there before it is trained; `effective` counts those on a path from an input to an output, None where that is
    not known. `replicates` and `fits` (replicates times draws) count what the document
    holds, `diverged` those of the fits that diverged. `early_stop` is in steps, accuracies are fractions;
    the intervals are 95 % over replicates, None where no fit has a value.
    """

    arm: str
    level: int
    density: float
    kept: float
    effective: float | None
    replicates: int
    fits: int
    diverged: int
    early_stop: Interval | None
    accuracy_at_early_stop: Interval | None
    accuracy_end: Interval | None
    validation_loss_min: Interval | None


def table(document: Mapping[str, Any]) -> list[LevelRow]:
    """Every arm at every level of a results document, sorted by level, then by the document's order of arms.

    Draws are averaged within their replicate before anything else. Raises `UsageError` for a document of
    another schema or without the fields of one.

    >>> table({"schema": 1, "recipe": "digits-lenet", "experiment": "", "arms": {}})
    []
    """
    if document.get("schema") != _SCHEMA:
        raise UsageError(
            f"results document has schema {document.get('schema')!r}, expected {_SCHEMA}; "
            "it comes from another version of tombola, or is no results document"
        )
    arms = document.get("arms")
    if not isinstance(arms, Mapping):
        raise UsageError("results document has no 'arms'; `tombola run --json FILE` writes one that does")
    groups: dict[tuple[int, int, str], list[Mapping[str, Any]]] = {}
    for order, (arm, rows) in enumerate(arms.items()):
        for row in rows:
            _check(arm, row)
            groups.setdefault((row["level"], order, arm), []).append(row)
    return [_level_row(arm, level, groups[level, order, arm]) for level, order, arm in sorted(groups)]


def dense(rows: Iterable[LevelRow]) -> LevelRow | None:
    """The dense network, which is level 0 of the ticket arm, or None where it is missing."""
    return next((row for row in rows if row.arm == DENSE_ARM and row.level == 0), None)


def has_accuracy(rows: Iterable[LevelRow]) -> bool:
    """Whether any fit has an accuracy at early stop; regression tasks have none and are read by their loss."""
    return any(row.accuracy_at_early_stop is not None for row in rows)


def accuracy_floor(rows: Iterable[LevelRow]) -> float:
    """The accuracy (fraction, may be below 0) at which pictures end: 0.1, or three times its range, below the ticket.

    A control that collapses to chance would flatten the differences that the picture is there to show.
    """
    means = {row: row.accuracy_at_early_stop.mean for row in rows if row.accuracy_at_early_stop}
    core = [mean for row, mean in means.items() if row.arm == DENSE_ARM] or list(means.values())
    return min(core) - max(0.1, 3 * (max(core) - min(core))) if core else 0.0


def _level_row(arm: str, level: int, rows: Sequence[Mapping[str, Any]]) -> LevelRow:
    return LevelRow(
        arm=arm,
        level=level,
        density=_mean(rows, "density"),
        kept=_mean(rows, "kept"),
        effective=_mean(rows, "effective") if all(row.get("effective") is not None for row in rows) else None,
        replicates=len({row["replicate"] for row in rows}),
        fits=len(rows),
        diverged=sum(bool(row.get("diverged")) for row in rows),
        early_stop=_interval(rows, "early_stop_step"),
        accuracy_at_early_stop=_interval(rows, "test_accuracy_at_early_stop"),
        accuracy_end=_interval(rows, "test_accuracy"),
        validation_loss_min=_interval(rows, "validation_loss_min"),
    )


def _interval(rows: Sequence[Mapping[str, Any]], field: str) -> Interval | None:
    means = replicate_means(rows, field)
    return interval(means.values()) if means else None


def _mean(rows: Sequence[Mapping[str, Any]], field: str) -> float:
    """Mean over replicates of what diverged rows have too."""
    sizes = [{"replicate": row["replicate"], field: row[field]} for row in rows]
    return interval(replicate_means(sizes, field).values()).mean


def _check(arm: str, row: Mapping[str, Any]) -> None:
    for field in ("replicate", "level", "density", "kept"):
        if row.get(field) is None:
            raise UsageError(f"results document: a row of arm {arm!r} has no {field!r}: {dict(row)}")
