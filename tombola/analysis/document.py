"""The results document: everything that reports, exports and verdicts read. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tombola.analysis.relative import judged_by
from tombola.answers import Trained
from tombola.store import Store

__all__ = ["PLAYED", "results_document"]

PLAYED = (
    "ticket",
    "gradual",
    "reinit",
    "reinit-rewound",
    "shuffled",
    "small-dense",
    "untrained",
    "inverted",
    "random-labels",
    "random-inputs",
)
"""Arms that are reported; the others (cuts, searching trainings) are the search's own steps."""


def results_document(digest: str, experiment: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """The stored experiment as the document that `tombola run --json` writes (schema 1).

    {"schema": 1, "recipe", "experiment", "arms": {ARM: [row, ...]}}, rows in order of level, replicate and draw;
    accuracies are fractions, other metrics of which more is better have fields of their own; a diverged fit has nulls;
    answers that the store has lost are left out.
    """
    arms: dict[str, list[dict[str, Any]]] = {name: [] for name in PLAYED}
    for row in sorted(experiment["rows"], key=lambda r: (r["level"], r["replicate"], r["draw"])):
        if row["arm"] not in arms:
            continue
        answer = store.get(row["request"])
        if isinstance(answer, Trained):
            arms[row["arm"]].append(_row(row, answer, experiment))
    return {
        "schema": 1,
        "recipe": experiment["recipe"],
        "experiment": digest,
        "arms": {name: rows for name, rows in arms.items() if rows},
    }


def _row(row: Mapping[str, Any], answer: Trained, experiment: Mapping[str, Any]) -> dict[str, Any]:
    prunable: Mapping[str, int] = experiment["prunable"]
    stop, judged, end = answer.curve.early_stop, answer.curve.judged, answer.curve.end
    finite = answer.diverged_at is None
    right = finite and answer.metric == "accuracy"
    gained = {
        "test_metric_at_early_stop": _number(judged.test_metric) if finite and judged else None,
        "test_metric": _number(end.test_metric) if finite and end else None,
    }
    kept = {name: answer.kept.get(name, whole) for name, whole in prunable.items()}
    alive, total = sum(kept.values()), sum(prunable.values())
    return {
        "replicate": row["replicate"],
        "draw": row["draw"],
        "level": row["level"],
        "diverged": not finite,
        "density": alive / total,
        "kept": alive,
        "prunable": total,
        "kept_per_layer": kept,
        "effective": answer.effective if answer.kept.keys() <= prunable.keys() else None,  # of protected ones too
        "early_stop_step": stop.step if finite and stop else None,
        "test_accuracy_at_early_stop": _number(judged.test_metric) if right and judged else None,
        "test_accuracy": _number(end.test_metric) if right and end else None,
        "train_accuracy": _number(answer.train_metric) if right else None,
        "validation_loss_min": _number(stop.validation_loss) if finite and stop else None,
        "mask_digest": answer.mask_digest,
        "fit_digest": row["request"],
        **(gained if judged_by(experiment) not in {None, "accuracy"} else {}),
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
