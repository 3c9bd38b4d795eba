"""Experiments: a recipe made ready, counted, run and read again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.analysis.document import results_document
from tombola.criteria import needs_of
from tombola.cuts import check_layers
from tombola.data import Dataset, load
from tombola.errors import UsageError, suggest
from tombola.executors.base import Executor
from tombola.executors.choosing import executor_for
from tombola.executors.work import provenance
from tombola.journal import Journal
from tombola.models.registry import MODELS
from tombola.planning import plan_of
from tombola.recipes import Recipe, find_recipe
from tombola.requests import Search
from tombola.runner import Failure, Runner, Watcher
from tombola.scopes import Scope
from tombola.search import SEARCHES, Plan
from tombola.search.checks import check_probe
from tombola.specs import digest
from tombola.store import Store
from tombola.streams import derive
from tombola.supervised import Supervised
from tombola.tasks import Task
from tombola.training.engine import EngineName
from tombola.training.loop import CHECKPOINT_SECONDS
from tombola.training.scale import Capture, StackWidth, check_stack, check_together
from tombola.watching import Silent

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Experiment", "Results", "on_task", "prepare", "run", "run_experiment"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """A recipe made ready: its task, and one plan a replicate.

    Args:
        digest: identity of task and procedure, and of the engine where one is chosen.
        engine: native, torch or auto.
        not_native: why the native trainer does not train it, as a clause; None: it does.
    """

    recipe: Recipe
    task: Task
    plans: tuple[Plan, ...]
    digest: str
    engine: EngineName = "auto"
    not_native: str | None = None

    def searches(self) -> dict[int, Search]:
        """Replicate -> a fresh search."""
        return {number: SEARCHES[self.recipe.search].load()(plan) for number, plan in enumerate(self.plans)}


def prepare(
    recipe: Recipe,
    *,
    data: Dataset | None = None,
    model: Callable[[], nn.Module] | None = None,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    engine: EngineName = "auto",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    capture: Capture = "auto",
    deterministic: bool = False,
    quiet: bool = True,
) -> Experiment:
    """Read the data, build the network once, and check that every level can be reached.

    Args:
        data: takes the place of the recipe's.
        model: a factory that takes the place of the recipe's.
        data_dir: where the recipe's data are looked for.
        engine: native, torch, or auto: native where it knows the network, else torch.
        checkpoint_seconds: between two checkpoints of a training.
        capture: whether torch's steps are recorded: auto (on a CUDA device), on, off.
        deterministic: deterministic kernels alone.

    Raises:
        UsageError: whatever in recipe, data, network and engine does not fit together.
    """
    _check_model(recipe, model)
    dataset = data if data is not None else load(recipe.data, data_dir, quiet)
    task = Supervised(
        dataset=dataset,
        model=model or recipe.model,
        net=recipe.net,
        training=recipe.training(),
        device=device,
        engine=engine,
        checkpoint_seconds=checkpoint_seconds,
        capture=capture,
        deterministic=deterministic,
    )
    return on_task(recipe, task)


def on_task(recipe: Recipe, task: Task) -> Experiment:
    """The experiment of a recipe on a task that is made already; data, network and training are the task's.

    Raises:
        UsageError: whatever in recipe and task does not fit together.
    """
    own = task if isinstance(task, Supervised) else None
    engine: EngineName = own.engine if own else "auto"
    not_native = own.not_native if own else None  # first of all: an engine that cannot train the network is refused
    if recipe.steps != task.steps:
        raise UsageError(f"steps is {recipe.steps} in the recipe; expected {task.steps}, those of the task.")
    dense = task.prunable(Scope(protect=recipe.protect))
    template = plan_of(recipe, dense, task.prunable(Scope()).total - dense.total)
    wanted = needs_of(template.pruner.criterion)
    if wanted.data:  # what cannot be drawn, or be corrupted, is said before any training
        check_probe(template, task.probe(0, recipe.probe))
        check_layers(template.pruner, task.build(0), dense)
    beyond = {
        "freezes pruned places at constants": template.pruned is not None,
        "gathers statistics along the way": bool(wanted.gathered),
        "prunes while it trains": bool(template.cuts),
    }
    if engine == "native" and any(beyond.values()):
        what = next(clause for clause, true in beyond.items() if true)
        raise UsageError(f"The native engine cannot train this: the experiment {what}. Use --engine auto.")
    plans = tuple(replace(template, seed=derive(recipe.seed, "replicate", r)) for r in range(recipe.replicates))
    engines = {} if engine == "auto" else {"engine": engine}
    identity = digest({"task": task.fingerprint, "procedure": recipe.procedure(), **engines})
    return Experiment(recipe=recipe, task=task, plans=plans, digest=identity, engine=engine, not_native=not_native)


def _check_model(recipe: Recipe, model: object) -> None:
    if "small-dense" in recipe.controls and (model is not None or recipe.model not in MODELS):
        raise UsageError(
            f"The control small-dense needs a network whose width can be scaled ({', '.join(MODELS)}), "
            f"not {recipe.model!r}."
        )
    if model is None and recipe.model not in MODELS and ":" not in recipe.model:
        raise UsageError(
            f"Unknown model {recipe.model!r}. {suggest(recipe.model, MODELS)} Your own: package.module:factory."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What a run ended with.

    Args:
        experiment: the digest that `tombola show`, `report` and `export` take.
        document: every number (schema 1, as `tombola run --json` writes it).
        computed: requests that were computed now, or again up to a state that was not kept.
        requests: different requests of the experiment; those that were not computed now were in the store.
        failures: requests that could not be computed, with their causes.
        ended: replicates that ended before their last level, with the causes.
    """

    experiment: str
    document: dict[str, Any]
    computed: int = field(default=0, compare=False)  # how it came about, not what came out
    requests: int = field(default=0, compare=False)
    failures: tuple[Failure, ...] = ()
    ended: tuple[Failure, ...] = ()


def run_experiment(
    experiment: Experiment,
    store: Store,
    *,
    workers: int = 1,
    device: str = "cpu",
    threads: int = 1,
    stack: StackWidth = "auto",
    watcher: Watcher | None = None,
    command: str = "",
) -> Results:
    """Answer every request of an experiment from the store, and compute the rest.

    Args:
        workers: processes; 1: this one.
        threads: of torch, in each.
        stack: fits that train as one; auto: as many as a GPU holds, and 1 elsewhere.
        watcher: is told how it goes on.
        command: noted in the store, to be run again.

    Raises:
        StoreError: the store cannot be written.
        KeyboardInterrupt: interrupted; the same call goes on from the last checkpoints.
    """
    inner = watcher or Silent()
    check_stack(stack, engine=experiment.engine, workers=workers)
    executor = executor_for(
        experiment.task,
        store,
        workers=workers,
        stack=stack,
        on_progress=inner.progress,
        device=device,
        threads=threads,
    )
    with store.together():
        return _drive(
            experiment, store, executor, inner, Journal(store, experiment, provenance(device, threads), command)
        )


def _drive(experiment: Experiment, store: Store, executor: Executor, watcher: Watcher, journal: Journal) -> Results:
    searches = experiment.searches()
    runner = Runner(
        experiment.task.fingerprint,
        searches,
        store=store,
        executor=executor,
        watcher=watcher,
        engine=experiment.engine,
        on_row=journal.tick,
    )
    state = "stopped"
    try:
        runner.run()
        state = "failed" if runner.failures else "finished"
    finally:
        content = journal.write(runner, state=state)
    return Results(
        experiment=experiment.digest,
        document=results_document(experiment.digest, content, store),
        computed=runner.computed,
        requests=len({row.request for row in runner.rows}),
        failures=tuple(runner.failures),
        ended=tuple(runner.ended),
    )


def run(
    recipe: str | Recipe = "digits-lenet",
    *,
    data: Dataset | str | Path | None = None,
    model: str | Callable[[], nn.Module] | None = None,
    store: str | Path = "tombola-store",
    workers: int = 1,
    device: str = "cpu",
    engine: EngineName = "auto",
    stack: StackWidth = "auto",
    capture: Capture = "auto",
    deterministic: bool = False,
    data_dir: str | Path | None = None,
    watcher: Watcher | None = None,
    **changes: Any,
) -> Results:
    """Run a recipe: find tickets, train their controls, keep everything in a store; the same call again continues.

    Args:
        recipe: a name, the path of a TOML file, or a `Recipe`.
        data: a `Dataset` (`tombola.from_arrays`, `from_npz`, `from_torch`), or what a recipe's `data` may say.
        model: a factory `() -> module`, or what a recipe's `model` may say.
        store: directory of results.
        workers: processes; with more than 1, a script needs its `if __name__ == "__main__":`.
        device: "cpu", "cuda", "auto", ...
        engine: "native", "torch", or "auto": native where it knows the network, else torch.
        stack: how many fits train as one; "auto": as many as a GPU holds, and 1 elsewhere.
        capture: whether torch's steps are recorded: "auto" (on a CUDA device), "on", "off".
        deterministic: deterministic kernels alone; what has none is refused.
        data_dir: where the recipe's data are looked for.
        watcher: is told how it goes on (`tombola.watching`).
        changes: fields of the recipe: `levels=3, replicates=2, optimizer=Optimizer(lr=0.01)`.

    Returns:
        The results; `results.document` holds every number.

    Raises:
        TombolaError: a wrong name, value, file or network, with what to do instead.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as store:
    ...     found = run("digits-lenet", store=store, levels=1, replicates=1, steps=20, controls=())
    >>> [row["kept"] for row in found.document["arms"]["ticket"]]
    [50200, 40260]
    """
    whole = find_recipe(recipe) if isinstance(recipe, str) else recipe
    known = set(Recipe.__dataclass_fields__)
    for name in changes:
        if name not in known:
            raise UsageError(f"A recipe has no field {name!r}. {suggest(name, known)}")
    if data is not None:  # a data set of one's own lends its name
        changes["data"] = data.name if isinstance(data, Dataset) else str(data)
    if model is not None:
        named = f"{getattr(model, '__module__', '')}:{getattr(model, '__qualname__', type(model).__name__)}"
        changes["model"] = model if isinstance(model, str) else named
    check_together(workers=workers)
    experiment = prepare(
        replace(whole, **changes),
        data=data if isinstance(data, Dataset) else None,
        model=model if callable(model) else None,
        data_dir=data_dir,
        device=device,
        engine=engine,
        capture=capture,
        deterministic=deterministic,
    )
    place = Store(store, report=lambda line: print(f"tombola: {line}", file=sys.stderr))
    return run_experiment(experiment, place, workers=workers, device=device, stack=stack, watcher=watcher)
