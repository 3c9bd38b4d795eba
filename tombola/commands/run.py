"""`tombola run`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tombola.commands.arguments import STORE, JsonFile, StorePath, check_target, open_store, parse, write_out
from tombola.errors import UsageError
from tombola.recipes import RECIPES, Recipe, find_recipe

if TYPE_CHECKING:
    from rich.console import Console

    from tombola.experiment import Experiment, Results

__all__ = ["Run", "main"]

_AUTO = -1


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run a recipe: find tickets, train their controls, keep everything in the store. The same command continues."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)
    data_dir: Annotated[str, tyro.conf.arg(metavar="DIR", help="Where data are; else TOMBOLA_DATA, else ./data.")] = ""
    store: StorePath = STORE
    workers: Annotated[int, tyro.conf.arg(help="Processes; by default one a core on the CPU, else 1.")] = _AUTO
    threads: Annotated[int, tyro.conf.arg(help="Torch threads in each.")] = 1
    checkpoint_seconds: Annotated[float, tyro.conf.arg(help="Between two checkpoints of a training.")] = 30.0
    device: Annotated[str, tyro.conf.arg(help="cpu, cuda, cuda:1, mps, or auto.")] = "cpu"
    dry_run: Annotated[bool, tyro.conf.arg(help="Only say how many fits and steps, how long, how much disk.")] = False
    page: Annotated[str, tyro.conf.arg(metavar="FILE", help="The HTML page; default: in the store's reports.")] = ""
    json: JsonFile = ""
    quiet: Annotated[bool, tyro.conf.arg(help="Print errors alone.")] = False


def _asked(arguments: Sequence[str]) -> tuple[str, Run]:
    given = list(arguments)
    if given and given[0] in {"-h", "--help"}:
        given = ["digits-lenet", *given]
    if not given or given[0].startswith("-"):
        raise UsageError(f"Name a recipe first: tombola run RECIPE [--levels N ...]. Known: {', '.join(RECIPES)}.")
    name = given[0]
    run = parse(Run, given[1:], command=f"run {name}", default=Run(recipe=find_recipe(name)))
    if run.workers != _AUTO and run.workers < 1:
        raise UsageError(f"--workers is {run.workers}; expected 1 or more.")
    if run.threads < 1:
        raise UsageError(f"--threads is {run.threads}; expected 1 or more.")
    if not run.checkpoint_seconds >= 0:
        raise UsageError(f"--checkpoint-seconds is {run.checkpoint_seconds}; expected 0 or more.")
    check_target(run.json)
    check_target(run.page)
    return name, run


def main(arguments: Sequence[str]) -> int:
    """Run, report, and say where everything is; 1 if a request failed."""
    _, asked = _asked(arguments)
    from rich.console import Console

    from tombola.experiment import prepare, run_experiment

    console = Console(file=sys.stderr if asked.json == "-" else sys.stdout, quiet=asked.quiet)
    experiment = prepare(
        asked.recipe,
        data_dir=asked.data_dir or None,
        device=asked.device,
        checkpoint_seconds=asked.checkpoint_seconds,
        quiet=asked.quiet or not sys.stderr.isatty(),
    )
    if asked.dry_run:
        _foretell(experiment, asked, console)
        return 0
    store = open_store(asked.store, create=True)
    watcher, close = _watcher(experiment, asked, store)
    try:
        results = run_experiment(
            experiment,
            store,
            workers=_workers(asked),
            device=asked.device,
            threads=asked.threads,
            watcher=watcher,
            command=shlex.join(["tombola", "run", *arguments]),
        )
    except KeyboardInterrupt:
        close()
        again = shlex.join(["tombola", "run", *arguments])
        print(f"tombola: interrupted; what is finished is kept. Go on with: {again}", file=sys.stderr)
        return 130
    finally:
        close()
    return _conclude(experiment, results, store, asked, console)


def _workers(asked: Run) -> int:
    if asked.workers != _AUTO:
        return asked.workers
    return len(os.sched_getaffinity(0)) if asked.device == "cpu" and hasattr(os, "sched_getaffinity") else 1


def _watcher(experiment: Experiment, asked: Run, store: Any) -> tuple[Any, Any]:
    from rich.console import Console

    from tombola.commands.progress import Bars, Lines
    from tombola.preview import preview
    from tombola.watching import Silent

    if asked.quiet:
        return Silent(), lambda: None
    console = Console(file=sys.stderr)
    expected = preview(experiment, None)
    if console.is_terminal:
        bars = Bars(console, expected)
        return bars, bars.close
    return Lines(console, expected), lambda: None


def _foretell(experiment: Experiment, asked: Run, console: Console) -> None:
    from tombola.preview import measure, preview

    store = open_store(asked.store) if (asked.store / "format.json").exists() else None
    found, workers = preview(experiment, store), _workers(asked)
    seconds = measure(experiment.task).seconds(found) / workers
    duration = f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:,.0f} seconds"
    lines = [
        f"{experiment.recipe.name}: {found.fits:,} fits, of which {found.stored:,} are stored.",
        f"To do: {found.fits - found.stored:,} fits, {found.steps:,} steps, {found.evaluations:,} evaluations:",
        f"about {duration} with {workers} worker{'s' * (workers > 1)},",
        f"about {found.bytes / 1e6:,.0f} MB in {asked.store}.",
    ]
    console.print("\n".join(lines), markup=False, highlight=False)
    facts = {"fits": found.fits, "stored": found.stored, "steps": found.steps, "evaluations": found.evaluations}
    write_out(asked.json, {"schema": 1, "dry_run": True, **facts, "seconds": round(seconds), "bytes": found.bytes})


def _conclude(experiment: Experiment, results: Results, store: Any, asked: Run, console: Console) -> int:
    from tombola.commands.pages import experiment_page
    from tombola.report.terminal import render

    document = results.document
    if not asked.quiet and document["arms"]:
        render(document, console)
    _, content = store.experiment(results.experiment)
    page = experiment_page(results.experiment, content, document, store, Path(asked.page) if asked.page else None)
    console.print(
        f"Experiment {results.experiment[:12]} in {asked.store}", markup=False, highlight=False, soft_wrap=True
    )
    console.print(f"Page: {page}", markup=False, highlight=False, soft_wrap=True)
    write_out(asked.json, document)
    for failure in results.failures:
        place = failure.place
        where = f"replicate {place.replicate}, level {place.level}, {place.arm.name}"
        print(f"tombola: {where} failed: {failure.cause}", file=sys.stderr)
    return 1 if results.failures else 0
