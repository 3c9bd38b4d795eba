"""A study of stability: the searches it consists of, and how they are answered from a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tombola.errors import StoreError, UsageError
from tombola.executors import Inline, Pool
from tombola.executors.work import provenance
from tombola.experiment import Experiment
from tombola.masks import Mask
from tombola.preview import Asked, Preview, asked, sum_of
from tombola.recipes import Recipe
from tombola.requests import TICKET, Fit, Search
from tombola.runner import Failure, Runner, Watcher
from tombola.search.stability import DENSE, Siblings, stability
from tombola.stability.measures import Measures, recipe_of
from tombola.store import Store
from tombola.store.studies import name_of, put_study
from tombola.tasks import Task
from tombola.training.engine import EngineName
from tombola.watching import Silent

__all__ = ["Seat", "Study", "measure", "rebuilt", "study_of", "trainings"]

_EVERY = 2.0  # seconds between two notes
_SHUFFLED = "shuffled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """Whose search it is.

    Args:
        arm: dense, ticket or shuffled.
        density: of its mask.
    """

    arm: str
    level: int
    step: int
    replicate: int
    density: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Stability made ready.

    Args:
        plans: seat -> its search, in the order of their numbers.
    """

    experiment: Experiment
    measures: Measures
    plans: Mapping[Seat, Siblings]

    @property
    def task(self) -> Task:
        """The experiment's."""
        return self.experiment.task

    @property
    def engine(self) -> EngineName:
        """The experiment's."""
        return self.experiment.engine

    def searches(self) -> dict[int, Search]:
        """Number of a seat -> a fresh search."""
        return {number: stability(plan) for number, plan in enumerate(self.plans.values())}


def rebuilt(name: str, content: Mapping[str, Any], prepared: Callable[[Recipe, EngineName], Experiment]) -> Experiment:
    """The experiment of a store, made ready again from the recipe that the store notes.

    Args:
        name: its digest.
        prepared: makes a recipe ready (`tombola.experiment.prepare`).

    Raises:
        UsageError: recipe, data or network are not those of the stored experiment.
    """
    recipe, made_with = recipe_of(content), content.get("provenance", {})
    engines: tuple[EngineName, ...] = ("auto", "native", "torch")
    for engine in engines:
        try:
            experiment = prepared(recipe, engine)
        except UsageError:
            if engine == "auto":
                raise
            continue  # an engine that cannot train the network did not make it either
        if experiment.digest == name:
            return experiment
        if experiment.task.fingerprint != content["task"]:
            break
    raise UsageError(
        f"The recipe {recipe.name!r} gives another experiment here than {name[:12]}: its data ({recipe.data}), its "
        f"network ({recipe.model}) or the version ({made_with.get('tombola', 'unknown')}) differ. Name the data with "
        f"--data-dir; of data or networks given from Python, use tombola.stability.study there."
    )


def _found(experiment: Experiment, store: Store, measures: Measures) -> Iterator[Asked]:
    """The trainings of an experiment whose masks are studied, dense ones included; those that are stored alone."""
    arms = {TICKET.name, _SHUFFLED} if measures.shuffled else {TICKET.name}
    for one in asked(experiment, store):
        wanted = one.level in measures.levels and one.arm.name in arms
        if (wanted or (not one.level and one.arm == TICKET)) and store.get(one.digest) is not None:
            yield one


def study_of(experiment: Experiment, measures: Measures, store: Store) -> Study:
    """The study of a stored experiment: its searches are run again for the masks they found.

    Raises:
        UsageError: a level has no mask to be studied.
    """
    dense: dict[int, Fit] = {}
    plans: dict[Seat, Siblings] = {}
    for one in _found(experiment, store, measures):
        plan, fit = experiment.plans[one.replicate], one.request
        assert isinstance(fit, Fit)
        if not one.level:
            dense[one.replicate] = replace(fit, keep=(*fit.keep, *measures.steps))
        elif fit.mask is None:
            raise UsageError(
                f"The reset {experiment.recipe.reset!r} trains the networks of this experiment whole, so level "
                f"{one.level} has no mask that could be studied."
            )
        mask: Mask = (fit.mask if one.level else None) or plan.dense
        for step in measures.steps if one.replicate in dense else ():
            arm = one.arm.name if one.level else "dense"
            density = mask.alive / plan.dense.alive
            seat = Seat(arm=arm, level=one.level, step=step, replicate=one.replicate, density=density)
            plans[seat] = Siblings(
                level=one.level,
                seed=plan.seed,
                dense=dense[one.replicate],
                mask=mask,
                pruned=one.level > 0,
                step=step,
                children=measures.children,
                points=measures.points,
                recompute=measures.recompute,
                examples=measures.examples,
            )
    for level in (0, *measures.levels):
        if not any(seat.level == level for seat in plans):
            raise UsageError(
                f"The store has no answer of level {level} of this experiment any more; run it again to make it."
            )
    return Study(experiment=experiment, measures=measures, plans=plans)


def trainings(study: Study, store: Store | None) -> Preview:
    """The children of a study, each of which counts once; the states that dense trainings have lost are left out."""
    fits = {one.digest: one for one in asked(study, store) if isinstance(one.request, Fit) and one.arm != DENSE}
    return sum_of(fits.values(), study.experiment, {})


def measure(
    study: Study,
    store: Store,
    *,
    workers: int = 1,
    device: str = "cpu",
    threads: int = 1,
    watcher: Watcher | None = None,
    command: str = "",
) -> tuple[dict[str, Any], int]:
    """Answer every request of a study from the store, and compute the rest.

    Args:
        watcher: is told how it goes on; a `Place` that it hears of has the number of a seat as replicate.
        command: noted in the store, to be run again.

    Returns:
        What the store notes about the study (`tombola.analysis.stability` reads it), and how many requests were
        computed now.

    Raises:
        StoreError: the store cannot be written.
        KeyboardInterrupt: interrupted; the same call goes on from there.
    """
    told = watcher or Silent()
    pool: dict[str, Any] = {"on_progress": told.progress, "device": device, "threads": threads}
    executor: Inline | Pool = (
        Pool(study.task, store, workers=workers, **pool) if workers > 1 else Inline(study.task, store, **pool)
    )
    note = _Note(study, store, provenance(device, threads), command)
    with store.together():
        runner = Runner(
            study.task.fingerprint,
            study.searches(),
            store=store,
            executor=executor,
            watcher=told,
            engine=study.engine,
            on_row=note.tick,
        )
        state = "stopped"
        try:
            runner.run()
            state = "failed" if runner.failures or runner.ended else "finished"
        except StoreError:
            state = "failed"
            raise
        finally:
            content = note.write(runner, state)
    return content, runner.computed


class _Note:
    """Writes what a study is made of, now and then and at the end."""

    def __init__(self, study: Study, store: Store, made_with: Mapping[str, Any], command: str) -> None:
        self._study, self._store, self._seats = study, store, list(study.plans)
        self._head = {
            "study": "stability",
            "experiment": study.experiment.digest,
            "recipe": study.experiment.recipe.name,
            "measures": asdict(study.measures),
            "command": command,
            "provenance": made_with,
        }
        self._last = time.monotonic()

    def tick(self, runner: Runner) -> None:
        """Write now and then, so that garbage collection knows what is wanted."""
        if time.monotonic() - self._last > _EVERY:
            self.write(runner, "running")

    def write(self, runner: Runner, state: str) -> dict[str, Any]:
        """Write all that is known."""
        self._last = time.monotonic()
        rows = []
        for row in runner.rows:
            part = {"part": row.place.arm.name, "draw": row.place.arm.draw, "request": row.request}
            rows.append({**asdict(self._seats[row.place.replicate]), **part})
        content = {
            **self._head,
            "state": state,
            "written": time.time(),
            "rows": rows,
            "failures": [self._plain(failure) for failure in _distinct(runner)],
        }
        put_study(self._store, self._study.experiment.digest, name_of("stability", self._study.measures), content)
        return content

    def _plain(self, failure: Failure) -> dict[str, Any]:
        seat, place = self._seats[failure.place.replicate], failure.place
        cause = failure.cause.removeprefix(f"replicate {place.replicate}, level {place.level}, ")
        return {**asdict(seat), "part": place.arm.name, "cause": cause}


def _distinct(runner: Runner) -> list[Failure]:
    """Why searches ended, and what failed without ending one."""
    ends = [failure.cause for failure in runner.ended]
    return [*runner.ended, *(f for f in runner.failures if not any(cause.endswith(f.cause) for cause in ends))]
