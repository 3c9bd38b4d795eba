"""Tables from stored answers: what happened along the trainings, and what they cost. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.analysis.document import results_document
from tombola.analysis.source import Absent, Source, interval_of, nearest_levels
from tombola.answers import Point, Trained
from tombola.statistics import Interval, interval, replicate_means

__all__ = [
    "CurveRow",
    "EffortRow",
    "GapRow",
    "LayerRow",
    "SearchRow",
    "counterpart",
    "effort",
    "layer_densities",
    "learning_curves",
    "searches",
    "train_test_gap",
]

SHOWN = (0.5, 0.21, 0.07, 0.02)
"""Densities at which whole curves are compared with the dense network's."""


@dataclass(frozen=True, kw_only=True)
class CurveRow:
    """The ticket of one level (0: the dense network) at one step, over the replicates that were measured there.
    Losses as trained, metrics as fractions."""

    level: int
    density: float
    step: int
    metric: str
    train_loss: Interval | None
    validation_loss: Interval | None
    test_loss: Interval | None
    test_metric: Interval | None


@dataclass(frozen=True, kw_only=True)
class GapRow:
    """Accuracies (fractions) of one arm at one level at the end of training, and by how much the training set leads."""

    arm: str
    level: int
    density: float
    train: Interval
    test: Interval
    gap: Interval


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One prunable tensor of the ticket of one level: mean count kept, count when dense, their ratio; `density` is of
    the whole network."""

    level: int
    density: float
    layer: str
    kept: float
    weights: int
    layer_density: float


@dataclass(frozen=True, kw_only=True)
class EffortRow:
    """What all fits of one arm at one level cost: optimizer steps and seconds of computing, over all replicates."""

    level: int
    density: float
    arm: str
    fits: int
    steps: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SearchRow:
    """The ticket that one search found at one level; accuracies are fractions, early stop is in steps."""

    search: str
    experiment: str
    level: int
    density: float
    accuracy: Interval | None
    early_stop: Interval | None


def learning_curves(source: Source, densities: Sequence[float] = SHOWN) -> list[CurveRow]:
    """Loss and metric along the training, of the dense network and of the tickets nearest to `densities`."""
    chosen = {0, *nearest_levels(source.densities, densities)}
    points: dict[tuple[int, int], list[Point]] = {}
    metric = "accuracy"
    for row, answer in source.trained("ticket"):
        if row["level"] in chosen:
            metric = answer.metric
            for point in answer.curve.points:
                points.setdefault((row["level"], point.step), []).append(point)
    if not points:
        raise Absent("the store has no curve of a ticket")
    return [
        CurveRow(
            level=level,
            density=source.densities[level],
            step=step,
            metric=metric,
            train_loss=interval_of(point.train_loss for point in there),
            validation_loss=interval_of(point.validation_loss for point in there),
            test_loss=interval_of(point.test_loss for point in there),
            test_metric=interval_of(point.test_metric for point in there),
        )
        for (level, step), there in sorted(points.items())
        if level in source.densities
    ]


def train_test_gap(source: Source) -> list[GapRow]:
    """Training accuracy minus test accuracy at the end, of every arm at every level; draws are averaged first."""
    found = []
    for arm, rows in source.document["arms"].items():
        for level in sorted({row["level"] for row in rows}):
            here = [_with_gap(row) for row in rows if row["level"] == level]
            means = {field: replicate_means(here, field) for field in ("train_accuracy", "test_accuracy", "gap")}
            if means["gap"]:
                train, test, gap = (interval(values.values()) for values in means.values())
                density = sum(row["density"] for row in here) / len(here)
                found.append(GapRow(arm=arm, level=level, density=density, train=train, test=test, gap=gap))
    if not found:
        raise Absent("accuracies on the training set were not measured, or the task is a regression")
    return found


def _with_gap(row: Mapping[str, Any]) -> dict[str, Any]:
    train, test = row.get("train_accuracy"), row.get("test_accuracy")
    whole = train is not None and test is not None
    pair = (
        {"train_accuracy": train, "test_accuracy": test}
        if whole
        else dict.fromkeys(("train_accuracy", "test_accuracy"))
    )
    return {**row, **pair, "gap": train - test if train is not None and test is not None else None}


def layer_densities(source: Source) -> list[LayerRow]:
    """How much of each prunable tensor the ticket keeps at each level, from the densest on."""
    rows = source.document["arms"].get("ticket", ())
    whole = next((row["kept_per_layer"] for row in rows if row["level"] == 0), None)
    if not whole:
        raise Absent("there is no dense network to compare with")
    found = []
    for level, density in source.densities.items():
        here = [row["kept_per_layer"] for row in rows if row["level"] == level]
        for layer, weights in whole.items():
            kept = sum(counts.get(layer, weights) for counts in here) / len(here)
            share = kept / weights if weights else 0.0
            found.append(
                LayerRow(level=level, density=density, layer=layer, kept=kept, weights=weights, layer_density=share)
            )
    return found


def effort(source: Source) -> list[EffortRow]:
    """Steps and seconds of all fits of an experiment, whenever and for whichever experiment they were computed."""
    groups: dict[tuple[int, str], list[Trained]] = {}
    for row, answer in source.trained():
        groups.setdefault((row["level"], row["arm"]), []).append(answer)
    if not groups:
        raise Absent("the store has no fit of this experiment")
    return [
        EffortRow(
            level=level,
            density=source.densities.get(level, 1.0),
            arm=arm,
            fits=len(answers),
            steps=sum(answer.last - answer.first for answer in answers),
            seconds=sum(answer.seconds for answer in answers),
        )
        for (level, arm), answers in sorted(groups.items())
    ]


_MAY_DIFFER = {"name", "summary", "search", "levels", "replicates", "controls", "draws", "margin", "endpoint"}


def counterpart(source: Source) -> Source:
    """The latest experiment in the same store that differs in being one-shot instead of iterative, or the other way.

    Raises:
        Absent: there is none.
    """
    mine = {name: value for name, value in source.settings.items() if name not in _MAY_DIFFER}
    wanted = {"imp": "oneshot", "oneshot": "imp"}.get(source.settings["search"])
    for digest, content in reversed(list(source.place.experiments())):
        other = Source(document={}, digest=digest, content=content, store=source.place)
        same = content["task"] == source.known["task"] and other.settings["search"] == wanted and "prunable" in content
        if same and mine == {name: value for name, value in other.settings.items() if name not in _MAY_DIFFER}:
            document = results_document(digest, content, source.place)
            return Source(document=document, digest=digest, content=content, store=source.place)
    name = {"imp": "one-shot", "oneshot": "iterative"}.get(source.settings["search"], "one-shot and iterative")
    raise Absent(f"the store has no {name} experiment that is otherwise the same")


def searches(source: Source) -> list[SearchRow]:
    """The tickets of this experiment and those of its counterpart, iterative first."""
    pair = sorted((source, counterpart(source)), key=lambda one: one.settings["search"])
    return [row for one in pair for row in _tickets(one)]


def _tickets(source: Source) -> Iterable[SearchRow]:
    rows = source.document["arms"].get("ticket", ())
    for level, density in source.densities.items():
        here = [row for row in rows if row["level"] == level]
        yield SearchRow(
            search=source.settings["search"],
            experiment=source.digest,
            level=level,
            density=density,
            accuracy=interval_of(replicate_means(here, "test_accuracy_at_early_stop").values()),
            early_stop=interval_of(replicate_means(here, "early_stop_step").values()),
        )
