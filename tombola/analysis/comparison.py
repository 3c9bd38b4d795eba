"""Several experiments in one table: by level, at equal weights, and at equal multiply-adds. Needs no torch."""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.errors import UsageError
from tombola.statistics import Interval, interval, replicate_means

__all__ = ["Budget", "Compared", "at_equal", "compared_document", "labelled"]

_NEAR = 0.15  # budgets within this factor count as equal
_LABELS_ONLY = {"name", "summary", "replicates", "levels", "controls", "draws"}

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One experiment of a comparison.

    Args:
        label: its recipe, and what differs from the others.
        rows: of its tickets, as in the results document.
        uses: layer -> multiply-adds of one weight.
    """

    label: str
    digest: str
    rows: Rows
    uses: Mapping[str, int]

    def weights(self, row: Mapping[str, Any]) -> int:
        """Weights of a row."""
        return int(row["kept"])

    def multiply_adds(self, row: Mapping[str, Any]) -> int:
        """Multiply-adds of a row for one example; layers of an unknown kind count one for each weight."""
        return sum(kept * self.uses.get(name, 1) for name, kept in row["kept_per_layer"].items())


def labelled(
    experiments: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]], *, arm: str = "ticket"
) -> list[Compared]:
    """Name each (digest, experiment, document) by its recipe and the settings in which it differs from another.

    Raises:
        UsageError: fewer than two experiments, the same one twice, or one without the arm.
    """
    if len(experiments) < 2:
        raise UsageError("Name two experiments or more to compare.")
    settings = [_flat(tomllib.loads(content["settings"])) for _, content, _ in experiments]
    keys = [key for key in settings[0] if key not in _LABELS_ONLY and len({repr(s.get(key)) for s in settings}) > 1]
    found: list[Compared] = []
    for (digest, content, document), setting in zip(experiments, settings, strict=True):
        rows = document["arms"].get(arm)
        if not rows:
            raise UsageError(
                f"Experiment {digest[:12]} has no arm {arm!r}; it has {', '.join(document['arms']) or 'none'}."
            )
        label = ", ".join([content["recipe"], *(f"{key} {setting.get(key)}" for key in keys)])
        if any(other.digest == digest for other in found):
            raise UsageError(f"Experiment {digest[:12]} is named twice.")
        if any(other.label == label for other in found):
            label = f"{label} ({digest[:6]})"
        found.append(Compared(label=label, digest=digest, rows=rows, uses=content.get("multiply_adds", {})))
    return found


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def compared_document(compared: Sequence[Compared]) -> dict[str, Any]:
    """A results document whose arms are the experiments: every table, picture and page of one experiment takes it."""
    joint = hashlib.sha256(" ".join(sorted(c.digest for c in compared)).encode()).hexdigest()[:32]
    arms = {c.label: list(c.rows) for c in compared}
    return {"schema": 1, "recipe": "comparison", "experiment": joint, "arms": arms}


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Accuracy of all experiments at about one budget.

    Args:
        budget: weights or multiply-adds of the first experiment's level.
        accuracy: label -> (its own budget there, test accuracy at early stop over replicates), None where it has no
            level within 15 %.
    """

    budget: int
    accuracy: Mapping[str, tuple[int, Interval] | None]


def at_equal(compared: Sequence[Compared], size: Callable[[Compared, Mapping[str, Any]], int]) -> list[Budget]:
    """For each level of the first experiment, the nearest level of each other one by `size` (on a log scale)."""
    levels = [_levels(c, size) for c in compared]
    budgets = []
    for own, _ in levels[0]:
        row: dict[str, tuple[int, Interval] | None] = {}
        for c, sizes in zip(compared, levels, strict=True):
            near = min(sizes, key=lambda entry: abs(math.log(entry[0] / own)), default=None)
            good = near is not None and abs(math.log(near[0] / own)) <= math.log(1 + _NEAR)
            row[c.label] = near if good else None
        budgets.append(Budget(budget=own, accuracy=row))
    return budgets


def _levels(c: Compared, size: Callable[[Compared, Mapping[str, Any]], int]) -> list[tuple[int, Interval]]:
    found = []
    for level in sorted({row["level"] for row in c.rows}):
        rows = [row for row in c.rows if row["level"] == level]
        values = list(replicate_means(rows, "test_accuracy_at_early_stop").values())
        if values:
            found.append((round(sum(size(c, row) for row in rows) / len(rows)), interval(values)))
    return found
