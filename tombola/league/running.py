"""A league is run: all searches of all competitors together, so that what several ask for is computed once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tombola.analysis.document import results_document
from tombola.errors import UsageError
from tombola.executors import Inline, Pool
from tombola.executors.work import provenance
from tombola.experiment import Experiment, on_task, prepare
from tombola.journal import Journal
from tombola.league.divisions import Division
from tombola.league.entries import Entry, Terms, entries_of, fallback_of, recipe_of
from tombola.requests import Search
from tombola.runner import Failure, Row, Runner, Watcher
from tombola.store import Store
from tombola.supervised import Supervised
from tombola.watching import Silent

__all__ = ["League", "Played", "Ready", "Seat", "Watching", "play", "ready"]

_EVERY = 60.0  # seconds between two notes of what all experiments have come to


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """An entry made ready.

    Args:
        experiment: None: it cannot take part, and `cause` says why.
    """

    entry: Entry
    experiment: Experiment | None = None
    cause: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class League:
    """A league made ready: what holds for all, who takes part, and the task that all share."""

    terms: Terms
    divisions: tuple[Division, ...]
    task: Supervised
    entries: tuple[Ready, ...]

    def experiments(self) -> dict[str, Experiment]:
        """Digest -> experiment; what is the same in two divisions is there once."""
        return _distinct(self.entries)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """Whose search it is.

    Args:
        label: division, competitor and controls of the first entry with this experiment.
    """

    label: str
    experiment: str
    replicate: int


Watching = Callable[[Sequence[Seat], Mapping[str, Experiment]], Watcher]
"""(seats, digest -> experiment) -> who is told; a `Place` that it hears of has the number of a seat as replicate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """What became of an entry.

    Args:
        experiment: its digest; empty where it could not take part.
        document: its results document; None where it could not take part.
        causes: what failed, in words.
        ended: whether a replicate ended before its last density, so that a fallback takes part beside it.
    """

    entry: Entry
    experiment: str = ""
    document: Mapping[str, Any] | None = None
    causes: tuple[str, ...] = ()
    ended: bool = False


@dataclass(slots=True)
class _Part:
    """What a joint run knows of one experiment."""

    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    ended: list[Failure] = field(default_factory=list)


def ready(terms: Terms, divisions: Sequence[Division], **places: Any) -> League:
    """Make every entry ready; one that cannot take part keeps its cause.

    Args:
        places: `data`, `data_dir`, `device`, `engine`, `checkpoint_seconds`, `quiet` of `experiment.prepare`.

    Raises:
        UsageError: the recipe's own data, network or training cannot be used, or it measures no accuracy.
    """
    base = recipe_of(terms, Entry(division="league", competitor="magnitude", changes={"criterion": "magnitude"}))
    task = prepare(replace(base, allocation="layerwise", reset="rewind"), **places).task
    assert isinstance(task, Supervised)
    if task.metric.name != "accuracy":
        raise UsageError(f"A league ranks by accuracy; {terms.recipe.name} measures {task.metric.name}.")
    entries = [e for division in divisions for c in division.competitors for e in entries_of(division, c)]
    return League(
        terms=terms, divisions=tuple(divisions), task=task, entries=tuple(_ready(terms, task, e) for e in entries)
    )


def _ready(terms: Terms, task: Supervised, entry: Entry) -> Ready:
    try:
        return Ready(entry=entry, experiment=on_task(recipe_of(terms, entry), task))
    except UsageError as error:
        return Ready(entry=entry, cause=str(error))


def _distinct(entries: Iterable[Ready]) -> dict[str, Experiment]:
    found: dict[str, Experiment] = {}
    for one in entries:
        if one.experiment is not None:
            found.setdefault(one.experiment.digest, one.experiment)
    return found


def play(
    league: League,
    store: Store,
    *,
    workers: int = 1,
    device: str = "cpu",
    threads: int = 1,
    watcher: Watching = lambda seats, experiments: Silent(),
    command: str = "",
) -> tuple[list[Played], int]:
    """Answer every request of a league from the store, and compute the rest; then those of the fallbacks.

    Args:
        watcher: makes who is told how it goes on, once for all entries and once for the fallbacks.
        command: noted with every experiment, to be run again.

    Returns:
        What became of every entry, in order, fallbacks last; and how many requests were computed now.

    Raises:
        StoreError: the store cannot be written.
        KeyboardInterrupt: interrupted; the same call goes on from there, and what is finished is noted.
    """
    settings: dict[str, Any] = {
        "workers": workers,
        "device": device,
        "threads": threads,
        "watcher": watcher,
        "command": command,
    }
    with store.together():
        played, computed = _round(league.task, league.entries, store, league.terms, **settings)
        divisions = {division.name: division for division in league.divisions}
        again = [fallback_of(divisions[p.entry.division], p.entry, p.causes[0]) for p in played if p.ended]
        others = [_ready(league.terms, league.task, entry) for entry in again if entry is not None]
        if others:
            more, further = _round(league.task, others, store, league.terms, **settings)
            played, computed = played + more, computed + further
    return played, computed


def _round(
    task: Supervised, entries: Sequence[Ready], store: Store, terms: Terms, *, command: str, **settings: Any
) -> tuple[list[Played], int]:
    experiments = _distinct(entries)
    made_with = provenance(settings["device"], settings["threads"])
    journals = {name: Journal(store, one, made_with, command) for name, one in experiments.items()}
    parts, contents, computed = _together(task, experiments, journals, entries, store, **settings)
    played = []
    for one in entries:
        if one.experiment is None:
            played.append(Played(entry=one.entry, causes=(one.cause,)))
            continue
        name = one.experiment.digest
        played.append(
            Played(
                entry=one.entry,
                experiment=name,
                document=results_document(name, contents[name], store),
                causes=_causes(parts[name], terms),
                ended=bool(parts[name].ended),
            )
        )
    return played, computed


def _together(
    task: Supervised,
    experiments: Mapping[str, Experiment],
    journals: Mapping[str, Journal],
    entries: Sequence[Ready],
    store: Store,
    *,
    workers: int,
    device: str,
    threads: int,
    watcher: Watching,
) -> tuple[dict[str, _Part], dict[str, dict[str, Any]], int]:
    labels = {one.experiment.digest: _label(one) for one in reversed(entries) if one.experiment is not None}
    searches: dict[int, Search] = {}
    seats: list[Seat] = []
    for name, experiment in experiments.items():
        for replicate, search in experiment.searches().items():
            searches[len(seats)] = search
            seats.append(Seat(label=labels[name], experiment=name, replicate=replicate))
    told = watcher(seats, experiments)
    pool: dict[str, Any] = {"on_progress": told.progress, "device": device, "threads": threads}
    executor: Inline | Pool = Pool(task, store, workers=workers, **pool) if workers > 1 else Inline(task, store, **pool)
    last = time.monotonic()

    def tick(runner: Runner) -> None:
        nonlocal last
        if time.monotonic() - last > _EVERY:
            _note(runner, seats, journals, "running")
            last = time.monotonic()

    runner = Runner(
        task.fingerprint, searches, store=store, executor=executor, watcher=told, engine=task.engine, on_row=tick
    )
    state = "stopped"
    try:
        runner.run()
        state = "finished"
    finally:
        parts, contents = _note(runner, seats, journals, state)
    return parts, contents, runner.computed


def _label(one: Ready) -> str:
    beside = ", ".join(one.experiment.recipe.controls) if one.experiment else ""
    return f"{one.entry.division} {one.entry.competitor}" + (f" beside {beside}" if beside else "")


def _note(
    runner: Runner, seats: Sequence[Seat], journals: Mapping[str, Journal], state: str
) -> tuple[dict[str, _Part], dict[str, dict[str, Any]]]:
    """Write down what every experiment has come to."""
    parts = {name: _Part() for name in journals}
    for row in runner.rows:
        seat = seats[row.place.replicate]
        parts[seat.experiment].rows.append(replace(row, place=replace(row.place, replicate=seat.replicate)))
    for of, failures in (("failures", runner.failures), ("ended", runner.ended)):
        for failure in failures:
            seat = seats[failure.place.replicate]
            getattr(parts[seat.experiment], of).append(_own(failure, seat))
    contents = {}
    for name, journal in journals.items():
        failed = state == "finished" and parts[name].failures
        contents[name] = journal.write(parts[name], state="failed" if failed else state)
    return parts, contents


def _own(failure: Failure, seat: Seat) -> Failure:
    """As the experiment by itself would have said it: with its own number of the replicate."""
    cause, joint = failure.cause, f"replicate {failure.place.replicate}, "
    if cause.startswith(joint):
        cause = f"replicate {seat.replicate}, {cause.removeprefix(joint)}"
    return Failure(place=replace(failure.place, replicate=seat.replicate), cause=cause)


def _causes(part: _Part, terms: Terms) -> tuple[str, ...]:
    """What failed at which density, in how many replicates."""
    found: Counter[tuple[int, str]] = Counter()
    for failure in part.ended:
        place = failure.place
        found[place.level, failure.cause.removeprefix(f"replicate {place.replicate}, level {place.level}, ")] += 1
    before = {cause.partition(": ")[2] or cause for _, cause in found}
    for failure in part.failures:
        if failure.cause not in before and failure.place.arm.name != "search":
            found[failure.place.level, f"{failure.place.arm.name}: {failure.cause}"] += 1
    return tuple(
        f"{'dense' if not level else f'{100 * terms.densities[level - 1]:g} %'}, {times} of {terms.replicates} "
        f"replicates: {cause}"
        for (level, cause), times in sorted(found.items())
    )
