"""Tables of stability: barriers between children of the same state, how far they are apart, from when on they are
stable. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from tombola.analysis.source import Absent, Source, interval_of
from tombola.answers import Interpolated, Mixed
from tombola.statistics import Interval
from tombola.store import Store
from tombola.store.studies import studies

__all__ = [
    "THRESHOLD",
    "BarrierRow",
    "LineRow",
    "OnsetRow",
    "PairRow",
    "barrier",
    "barriers",
    "latest",
    "lines",
    "missing",
    "onset",
    "onsets",
    "pairs",
    "stability_document",
]

THRESHOLD = 0.02
"""Below it a network is called stable; an error of 2 % (Frankle et al. 2020, arXiv 1912.05671)."""

Study = Mapping[str, Any]
"""What a store notes about a study (`tombola.store.studies`)."""


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """Two children of one replicate. Errors are fractions; columns with `own` are of the networks' own batch-norm
    statistics, the others of recomputed ones where there are any.

    Args:
        relative: distance over the mean of the ways that the two have come.
    """

    arm: str
    level: int
    density: float
    step: int
    replicate: int
    pair: int
    test_error: float
    train_error: float
    test_barrier: float
    train_barrier: float
    test_barrier_own: float
    train_barrier_own: float
    distance: float
    relative: float | None
    angle: float | None


@dataclass(frozen=True, kw_only=True)
class BarrierRow:
    """One network from one step on, over the replicates (pairs are averaged within theirs first).

    Args:
        test, train: the barrier of each set, with recomputed batch-norm statistics where there are any.
        test_own, train_own: with the networks' own statistics; None without batch norm.
        stable: whether the mean of `test` lies below the threshold.
        sure: whether the whole interval lies on that side of it.
        pruned_distance, pruned_angle: between its children and the same weights inside the dense network.
    """

    arm: str
    level: int
    density: float
    step: int
    test: Interval
    train: Interval
    test_own: Interval | None
    train_own: Interval | None
    stable: bool
    sure: bool
    test_error: Interval
    train_error: Interval
    distance: Interval | None
    relative: Interval | None
    angle: Interval | None
    pruned_distance: Interval | None
    pruned_relative: Interval | None
    pruned_angle: Interval | None


@dataclass(frozen=True, kw_only=True)
class LineRow:
    """Error (fraction) at one place of the line between two children, over replicates.

    Args:
        recomputed: whether batch-norm statistics are those of the place; else they are interpolated, or there are none.
    """

    arm: str
    level: int
    density: float
    step: int
    recomputed: bool
    alpha: float
    test: Interval
    train: Interval


@dataclass(frozen=True, kw_only=True)
class OnsetRow:
    """The first step from which a network is stable on each set at this and every later step studied; None: none is."""

    arm: str
    level: int
    density: float
    test: int | None
    train: int | None
    of: tuple[int, ...]


def barrier(errors: Sequence[float]) -> float:
    """Linear-interpolation instability: max_a E_a - (E_0 + E_1) / 2.

    Frankle et al. (2020, arXiv 1912.05671).

    Args:
        errors: along the line, both ends included.

    >>> barrier([0.1, 0.5, 0.2])
    0.35
    """
    return max(errors) - (errors[0] + errors[-1]) / 2


def onset(stable: Mapping[int, bool]) -> int | None:
    """The first step from which on all are stable; None where the last one is not.

    >>> onset({0: True, 100: False, 500: True, 1000: True}), onset({0: True, 100: False})
    (500, None)
    """
    found = None
    for step in sorted(stable, reverse=True):
        if not stable[step]:
            break
        found = step
    return found


def latest(source: Source) -> Study:
    """The study of an experiment that was written last. Raises `Absent`."""
    found = [study for study in studies(source.place, source.digest) if study.get("study") == "stability"]
    if not found:
        raise Absent("no stability has been measured: tombola stability")
    return found[-1]


def missing(study: Study, store: Store) -> bool:
    """Whether the store has lost an answer that a study goes by."""
    return any(store.get(row["request"]) is None for row in study["rows"])


def _answers(study: Study, store: Store, part: str) -> list[tuple[Mapping[str, Any], Interpolated]]:
    """The answers of one part of a study, in order of network, step, replicate and number."""
    order = {"dense": 0, "ticket": 1, "shuffled": 2}
    rows = [row for row in study["rows"] if row["part"] == part]
    rows.sort(key=lambda r: (order[r["arm"]], r["level"], r["step"], r["replicate"], r["draw"]))
    return [(row, answer) for row in rows if isinstance(answer := store.get(row["request"]), Interpolated)]


def _relative(answer: Interpolated) -> float | None:
    way = sum(answer.ways) / len(answer.ways) if answer.ways else 0.0
    return answer.distance / way if way else None


def _on(points: Iterable[Mixed], test: bool) -> list[float]:
    return [point.test_error if test else point.train_error for point in points]


def pairs(study: Study, store: Store) -> list[PairRow]:
    """Every pair of children of a study."""
    found = []
    for row, answer in _answers(study, store, "pair"):
        judged = answer.recomputed or answer.own
        found.append(
            PairRow(
                **{name: row[name] for name in ("arm", "level", "density", "step", "replicate")},
                pair=row["draw"],
                test_error=(judged[0].test_error + judged[-1].test_error) / 2,
                train_error=(judged[0].train_error + judged[-1].train_error) / 2,
                test_barrier=barrier(_on(judged, test=True)),
                train_barrier=barrier(_on(judged, test=False)),
                test_barrier_own=barrier(_on(answer.own, test=True)),
                train_barrier_own=barrier(_on(answer.own, test=False)),
                distance=answer.distance,
                relative=_relative(answer),
                angle=answer.angle,
            )
        )
    return found


def _mean(values: Iterable[tuple[int, float | None]]) -> Interval | None:
    """The interval over replicates of (replicate, value); several values of one are averaged first."""
    by_replicate: dict[int, list[float]] = {}
    for replicate, value in values:
        if value is not None:
            by_replicate.setdefault(replicate, []).append(value)
    return interval_of(sum(some) / len(some) for some in by_replicate.values())


def _sure(found: Interval, threshold: float) -> bool:
    return (found.high is not None and found.high < threshold) or (found.low is not None and found.low >= threshold)


def barriers(study: Study, store: Store, threshold: float = THRESHOLD) -> list[BarrierRow]:
    """Every network from every step of a study, dense first.

    Args:
        threshold: a barrier (fraction) below it is stable.
    """
    apart: dict[tuple[str, int, int], list[tuple[int, Interpolated]]] = {}
    for row, answer in _answers(study, store, "pruned"):
        apart.setdefault((row["arm"], row["level"], row["step"]), []).append((row["replicate"], answer))
    normed = any(answer.recomputed for _, answer in _answers(study, store, "pair"))
    found = []
    for (arm, level, step), group in groupby(pairs(study, store), key=lambda row: (row.arm, row.level, row.step)):
        here = list(group)

        def of(value: Callable[[PairRow], float | None], here: Sequence[PairRow] = tuple(here)) -> Interval | None:
            return _mean((row.replicate, value(row)) for row in here)

        test, train = of(lambda row: row.test_barrier), of(lambda row: row.train_barrier)
        errors = of(lambda row: row.test_error), of(lambda row: row.train_error)
        assert test is not None and train is not None and errors[0] is not None and errors[1] is not None
        inside = apart.get((arm, level, step), [])
        found.append(
            BarrierRow(
                arm=arm,
                level=level,
                density=sum(row.density for row in here) / len(here),
                step=step,
                test=test,
                train=train,
                test_own=of(lambda row: row.test_barrier_own) if normed else None,
                train_own=of(lambda row: row.train_barrier_own) if normed else None,
                stable=test.mean < threshold,
                sure=_sure(test, threshold),
                test_error=errors[0],
                train_error=errors[1],
                distance=of(lambda row: row.distance),
                relative=of(lambda row: row.relative),
                angle=of(lambda row: row.angle),
                pruned_distance=_mean((replicate, answer.distance) for replicate, answer in inside),
                pruned_relative=_mean((replicate, _relative(answer)) for replicate, answer in inside),
                pruned_angle=_mean((replicate, answer.angle) for replicate, answer in inside),
            )
        )
    return found


def lines(study: Study, store: Store) -> list[LineRow]:
    """Error at every place of the lines of a study, pairs and replicates averaged."""
    found = []
    answers = _answers(study, store, "pair")
    for (arm, level, step), group in groupby(answers, key=lambda one: (one[0]["arm"], one[0]["level"], one[0]["step"])):
        here = list(group)
        for recomputed in (False, True):
            walked = [(row["replicate"], a.recomputed if recomputed else a.own) for row, a in here]
            for number in range(len(walked[0][1])):
                points = [(replicate, line[number]) for replicate, line in walked]
                test = _mean((replicate, point.test_error) for replicate, point in points)
                train = _mean((replicate, point.train_error) for replicate, point in points)
                assert test is not None and train is not None
                found.append(
                    LineRow(
                        arm=arm,
                        level=level,
                        density=sum(row["density"] for row, _ in here) / len(here),
                        step=step,
                        recomputed=recomputed,
                        alpha=points[0][1].alpha,
                        test=test,
                        train=train,
                    )
                )
    return found


def onsets(rows: Sequence[BarrierRow], threshold: float = THRESHOLD) -> list[OnsetRow]:
    """From when on each network is stable, by the means over replicates."""
    found = []
    for (arm, level), group in groupby(rows, key=lambda row: (row.arm, row.level)):
        here = list(group)
        found.append(
            OnsetRow(
                arm=arm,
                level=level,
                density=here[0].density,
                test=onset({row.step: row.test.mean < threshold for row in here}),
                train=onset({row.step: row.train.mean < threshold for row in here}),
                of=tuple(row.step for row in here),
            )
        )
    return found


def stability_document(study: Study, store: Store, threshold: float = THRESHOLD) -> dict[str, Any]:
    """Every number of a study (schema 1): {"experiment", "measures", "threshold", "rows", "onsets", "pairs", "lines"}.

    Errors, barriers and the threshold are fractions, angles degrees; an interval is {"mean", "low", "high", "n"}.
    """
    rows = barriers(study, store, threshold)
    return {
        "schema": 1,
        "recipe": study["recipe"],
        "experiment": study["experiment"],
        "state": study["state"],
        "measures": study["measures"],
        "threshold": threshold,
        "rows": [asdict(row) for row in rows],
        "onsets": [asdict(row) for row in onsets(rows, threshold)],
        "pairs": [asdict(row) for row in pairs(study, store)],
        "lines": [asdict(row) for row in lines(study, store)],
        "failures": study["failures"],
    }
