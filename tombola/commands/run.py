"""`tombola run`."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tombola.commands.arguments import (
    STORE,
    JsonFile,
    StorePath,
    check_store,
    check_targets,
    flag,
    open_console,
    open_store,
    parse,
    write_out,
)
from tombola.errors import UsageError
from tombola.recipes import RECIPES, Recipe, find_recipe
from tombola.training.engine import EngineName
from tombola.training.scale import Capture, StackWidth, check_stack, check_together, processes

if TYPE_CHECKING:
    from rich.console import Console

    from tombola.experiment import Experiment, Results
    from tombola.runner import Failure, Watcher
    from tombola.store import Store

__all__ = ["Run", "main"]

_CAUSES = 4  # that the last lines of a run name


@dataclass(frozen=True, kw_only=True)
class Run(Recipe):
    """Run a recipe (a name or a TOML file) and keep everything in the store. The same command again goes on."""

    name: tyro.conf.Suppress[str] = "custom"
    summary: tyro.conf.Suppress[str] = ""
    data_dir: Annotated[
        str, flag("where data are; else TOMBOLA_DATA names it, else ./data.", metavar="DIR", default="")
    ] = ""
    store: StorePath = STORE
    workers: Annotated[
        int | None, flag("processes.", metavar="INT", default="(default: one a core on the CPU, else 1)")
    ] = None
    threads: Annotated[int, flag("torch threads in each.")] = 1
    checkpoint_seconds: Annotated[float, flag("between two checkpoints of a training.")] = 30.0
    device: Annotated[str, flag("cpu, cuda, cuda:1, mps, or auto.")] = "cpu"
    engine: Annotated[EngineName, flag("auto: native where it knows the network, else torch.")] = "auto"
    stack: Annotated[
        StackWidth, flag("fits that train as one; auto: as many as a GPU holds, 1 on the CPU.", metavar="INT|auto")
    ] = "auto"
    capture: Annotated[Capture, flag("whether torch's steps are recorded; auto: on a CUDA device.")] = "auto"
    deterministic: Annotated[bool, flag("deterministic kernels alone; ends where there is none.", default="")] = False
    dry_run: Annotated[bool, flag("only say how many fits and steps, how long, how much disk.", default="")] = False
    page: Annotated[
        str, flag("where the HTML page goes.", metavar="FILE", default="(default: in the store's reports)")
    ] = ""
    json: JsonFile = ""
    quiet: Annotated[bool, flag("print errors alone.", default="")] = False

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        check_together(workers=self.workers, threads=self.threads)
        check_stack(self.stack, engine=self.engine, workers=self.workers)
        if not self.checkpoint_seconds >= 0:
            raise UsageError(f"checkpoint_seconds is {self.checkpoint_seconds}; expected 0 or more.")

    @property
    def recipe(self) -> Recipe:
        """What of this is the experiment."""
        return Recipe(**{field.name: getattr(self, field.name) for field in fields(Recipe)})

    @property
    def processes(self) -> int:
        """How many workers."""
        stacked = isinstance(self.stack, int) and self.stack > 1
        return processes(1 if self.workers is None and stacked else self.workers, self.device)


def _asked(arguments: Sequence[str]) -> Run:
    name, *rest = arguments or [""]
    if name in {"-h", "--help"}:
        parse(Run, ["--help"], command="run RECIPE")
    if not name or name.startswith("-"):
        raise UsageError(f"Name a recipe first: tombola run RECIPE [--levels N ...]. Known: {', '.join(RECIPES)}.")
    recipe = find_recipe(name)
    default = Run(**{field.name: getattr(recipe, field.name) for field in fields(recipe)})
    run = parse(Run, rest, command=f"run {name}", default=default)
    check_targets(run.json, run.page)
    check_store(run.store)
    return run


def main(arguments: Sequence[str]) -> int:
    """Run, report, and say where everything is; 1 if a request failed."""
    asked = _asked(arguments)
    from tombola.experiment import prepare, run_experiment

    console = open_console(asked.json, quiet=asked.quiet)
    experiment = prepare(
        asked.recipe,
        data_dir=asked.data_dir or None,
        device=asked.device,
        engine=asked.engine,
        checkpoint_seconds=asked.checkpoint_seconds,
        capture=asked.capture,
        deterministic=asked.deterministic,
        quiet=asked.quiet or not sys.stderr.isatty(),
    )
    if asked.dry_run:
        _foretell(experiment, asked, console)
        return 0
    store = open_store(asked.store, create=True)
    watcher, close = _watcher(experiment, asked)
    command = shlex.join(["tombola", "run", *arguments])
    try:
        results = run_experiment(
            experiment,
            store,
            workers=asked.processes,
            device=asked.device,
            threads=asked.threads,
            stack=asked.stack,
            watcher=watcher,
            command=command,
        )
    except KeyboardInterrupt:
        close()
        print(f"tombola: interrupted; what is finished is kept. Go on with: {command}", file=sys.stderr)
        return 130
    finally:
        close()
    return _conclude(results, store, asked, console)


def _watcher(experiment: Experiment, asked: Run) -> tuple[Watcher, Callable[[], None]]:
    from rich.console import Console

    from tombola.commands.progress import Bars, Lines
    from tombola.preview import preview
    from tombola.tasks import Stacking
    from tombola.watching import Silent

    if asked.quiet:
        return Silent(), lambda: None
    console = Console(file=sys.stderr)
    if experiment.engine == "auto" and experiment.not_native is not None:
        _say(console, f"engine: torch (not native: {experiment.not_native})")
    task = experiment.task
    if asked.stack not in {"auto", 1} and isinstance(task, Stacking) and task.why_not_stacked() is not None:
        _say(console, f"stack: 1 (not {asked.stack}: {task.why_not_stacked()})")
    _warn_of_cost(console, experiment)
    expected = preview(experiment, None)
    if console.is_terminal:
        bars = Bars(console, expected)
        return bars, bars.close
    return Lines(console, expected), lambda: None


def _warn_of_cost(console: Console, experiment: Experiment) -> None:
    """What a costly criterion takes, said before it starts."""
    from tombola.criteria.base import work_of
    from tombola.cuts import size_of

    plan = experiment.plans[0]
    keep = plan.keeps[0] if plan.keeps else plan.dense.alive
    work = work_of(plan.pruner.criterion, size_of(plan.dense, keep, plan.probe))
    if work.passes > 2.2 * plan.probe.batches or work.memory:
        memory = f", and {work.memory / 1e6:,.0f} MB" if work.memory > 1e6 else ""
        cost = f"a cut takes the time of about {work.passes:,.2g} forward-backward passes over a batch{memory}"
        _say(console, f"criterion {experiment.recipe.criterion}: {cost}")


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _foretell(experiment: Experiment, asked: Run, console: Console) -> None:
    from tombola.preview import measure, preview

    store = open_store(asked.store) if (asked.store / "format.json").exists() else None
    found, workers = preview(experiment, store), asked.processes
    seconds = measure(experiment.task).seconds(found) / workers
    duration = f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:,.0f} seconds"
    _say(
        console,
        f"{experiment.recipe.name}: {found.fits:,} fits, of which {found.stored:,} are stored.",
        f"To do: {found.fits - found.stored:,} fits, {found.steps:,} steps, {found.evaluations:,} evaluations:",
        f"about {duration} with {workers} worker{'s' * (workers > 1)},",
        f"about {found.bytes / 1e6:,.0f} MB in {asked.store}.",
    )
    facts = {"fits": found.fits, "stored": found.stored, "steps": found.steps, "evaluations": found.evaluations}
    write_out(asked.json, {"schema": 1, "dry_run": True, **facts, "seconds": round(seconds), "bytes": found.bytes})


def _conclude(results: Results, store: Store, asked: Run, console: Console) -> int:
    from tombola.analysis.verdict import experiment_verdict
    from tombola.commands.pages import experiment_page
    from tombola.report.terminal import render

    document = results.document
    write_out(asked.json, document)  # first: nothing that fails later takes the numbers away
    for line in _lost(results.failures):
        print(f"tombola: {line}", file=sys.stderr)
    _, content = store.experiment(results.experiment)
    page = experiment_page(results.experiment, content, document, store, Path(asked.page) if asked.page else None)
    if document["arms"]:
        render(document, console)
    if content["metric"] == "accuracy":
        answer = experiment_verdict(content, document)["overall"]["sentence"]
        _say(console, "", answer, f"Each level: tombola verdict {results.experiment[:12]} --store {asked.store}")
    stored = max(0, results.requests - results.computed)
    counted = f"{results.computed:,} requests computed now, {stored:,} answered by the store"
    _say(console, f"Experiment {results.experiment[:12]} in {asked.store} ({counted})", f"Page: {page}")
    return 1 if results.failures else 0


def _lost(failures: Sequence[Failure]) -> list[str]:
    """What failed, a line for each cause."""
    from tombola.commands.progress import clipped

    causes = Counter(failure.cause for failure in failures)
    lines = []
    for cause, count in list(causes.items())[:_CAUSES]:
        place = next(failure.place for failure in failures if failure.cause == cause)
        where = f"replicate {place.replicate}, level {place.level}, {place.arm.name}"
        others = f" and {count - 1} more" if count > 1 else ""
        lines.append(f"{where}{others} failed: {clipped(cause)}")
    if failures:
        more = f"{len(causes) - _CAUSES} more causes; " if len(causes) > _CAUSES else ""
        lines.append(f"{more}what is finished is kept, and the same command tries the rest again.")
    return lines
