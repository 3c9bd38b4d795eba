"""`tombola stability`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tombola.analysis.document import results_document
from tombola.analysis.stability import THRESHOLD, BarrierRow, barriers, missing, onsets, pairs, stability_document
from tombola.commands.arguments import (
    STORE,
    ExperimentName,
    JsonFile,
    StorePath,
    check_targets,
    counted,
    flag,
    open_console,
    open_store,
    parse,
    write_out,
)
from tombola.errors import UsageError
from tombola.report.columns import per_cent
from tombola.stability.measures import Measures, measures_of
from tombola.statistics import Interval
from tombola.store.studies import name_of, study
from tombola.training.scale import check_together, processes

if TYPE_CHECKING:
    from rich.console import Console

    from tombola.runner import Watcher
    from tombola.stability.study import Study
    from tombola.store import Store

__all__ = ["Stability", "main"]


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Train dense network and tickets again in other orders from the same step: do they end in the same valley?"""

    experiment: tyro.conf.Positional[ExperimentName]
    steps: Annotated[
        tuple[int, ...],
        flag(
            "of the dense training that children start from.", metavar="INT ...", default="(default: 0, some, rewind)"
        ),
    ] = ()
    levels: Annotated[
        tuple[int, ...], flag("of the tickets.", metavar="INT ...", default="(default: the middle and the last)")
    ] = ()
    shuffled: Annotated[bool, flag("the shuffled masks too.", default="")] = False
    children: Annotated[int, flag("trainings from each state; all pairs are compared.")] = 2
    points: Annotated[int, flag("on the line between two children, both ends included.")] = 30
    recompute: Annotated[int, flag("training examples for batch-norm statistics at each point.")] = 2000
    train_examples: Annotated[int, flag("training examples that errors are measured on, at most.")] = 10_000
    threshold: Annotated[float, flag("a barrier below this fraction is stable.")] = THRESHOLD
    data_dir: Annotated[
        str, flag("where data are; else TOMBOLA_DATA names it, else ./data.", metavar="DIR", default="")
    ] = ""
    store: StorePath = STORE
    workers: Annotated[
        int | None, flag("processes.", metavar="INT", default="(default: one a core on the CPU, else 1)")
    ] = None
    device: Annotated[str, flag("cpu, cuda, cuda:1, mps, or auto.")] = "cpu"
    dry_run: Annotated[bool, flag("only say how many trainings and steps.", default="")] = False
    csv: Annotated[str, flag("write every pair of children as CSV.", metavar="FILE", default="")] = ""
    page: Annotated[
        str, flag("where the experiment's page goes.", metavar="FILE", default="(default: in the store's reports)")
    ] = ""
    json: JsonFile = ""
    quiet: Annotated[bool, flag("print errors alone.", default="")] = False

    def __post_init__(self) -> None:
        check_together(workers=self.workers)
        if not 0 < self.threshold < 1:
            raise UsageError(f"threshold is {self.threshold}; expected a fraction between 0 and 1, such as 0.02.")

    @property
    def processes(self) -> int:
        """How many workers."""
        return processes(self.workers, self.device)


def main(arguments: Sequence[str]) -> int:
    """Measure what is not in the store, print the table, write page, JSON and CSV; 1 if something failed."""
    asked = parse(Stability, arguments, command="stability")
    check_targets(asked.json, asked.csv, asked.page)
    store = open_store(asked.store)
    name, content = store.experiment(asked.experiment)
    measures = measures_of(
        content,
        steps=asked.steps,
        levels=asked.levels,
        shuffled=asked.shuffled,
        children=asked.children,
        points=asked.points,
        recompute=asked.recompute,
        examples=asked.train_examples,
    )
    console = open_console(asked.json, quiet=asked.quiet)
    known = study(store, name, name_of("stability", measures))
    whole = known.get("state") == "finished" and not missing(known, store)
    if whole and not asked.dry_run:
        return _conclude(known, 0, asked, store, content, console)
    made = _ready(name, content, measures, asked, store)
    if asked.dry_run:
        write_out(asked.json, _foretell(made, store, console))
        return 0
    command = shlex.join(["tombola", "stability", *arguments])
    found = _measured(made, store, asked, command)
    return 130 if found is None else _conclude(*found, asked, store, content, console)


def _ready(name: str, content: Mapping[str, Any], measures: Measures, asked: Stability, store: Store) -> Study:
    from tombola.experiment import prepare
    from tombola.stability.study import rebuilt, study_of

    quiet = asked.quiet or not sys.stderr.isatty()
    experiment = rebuilt(
        name,
        content,
        lambda recipe, engine: prepare(
            recipe, data_dir=asked.data_dir or None, device=asked.device, engine=engine, quiet=quiet
        ),
    )
    return study_of(experiment, measures, store)


def _foretell(made: Study, store: Store, console: Console) -> dict[str, Any]:
    """Say what is to be computed; the same as plain numbers."""
    from tombola.stability.study import trainings

    found = trainings(made, store)
    for line in (
        f"{made.experiment.recipe.name}: {counted(len(made.plans), 'state')} with {made.measures.children} children "
        f"each, {counted(found.fits, 'training')}, of which {found.stored:,} are stored.",
        f"To do: {counted(found.fits - found.stored, 'training')}, {found.steps:,} steps, about "
        f"{found.bytes / 1e6:,.0f} MB in {store.root}; then {made.measures.points} points on each line.",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    facts = {"fits": found.fits, "stored": found.stored, "steps": found.steps, "bytes": found.bytes}
    return {"schema": 1, "dry_run": True, "states": len(made.plans), **facts}


def _measured(made: Study, store: Store, asked: Stability, command: str) -> tuple[dict[str, Any], int] | None:
    """What the store now notes, and how many requests were computed; None: interrupted."""
    from tombola.stability.study import measure

    watcher, close = _watcher(made, asked)
    try:
        return measure(made, store, workers=asked.processes, device=asked.device, watcher=watcher, command=command)
    except KeyboardInterrupt:
        close()
        print(f"tombola: interrupted; what is finished is kept. Go on with: {command}", file=sys.stderr)
        return None
    finally:
        close()


def _watcher(made: Study, asked: Stability) -> tuple[Watcher, Callable[[], None]]:
    from rich.console import Console

    from tombola.commands.stability_progress import StabilityBars, StabilityLines
    from tombola.stability.study import trainings
    from tombola.watching import Silent

    if asked.quiet:
        return Silent(), lambda: None
    console, seats, children = Console(file=sys.stderr), list(made.plans), made.measures.children
    fits, pairs_each = trainings(made, None).fits, children * (children - 1) // 2
    if console.is_terminal:
        bars = StabilityBars(console, seats, fits, pairs_each)
        return bars, bars.close
    return StabilityLines(console, seats, fits, pairs_each), lambda: None


def _conclude(
    found: Mapping[str, Any],
    computed: int,
    asked: Stability,
    store: Store,
    content: Mapping[str, Any],
    console: Console,
) -> int:
    from tombola.commands import pages
    from tombola.report.files import rows_csv

    write_out(asked.json, stability_document(found, store, asked.threshold))
    every = pairs(found, store)
    if asked.csv and every:
        write_out(asked.csv, rows_csv(every))
    for failure in found["failures"]:
        place = (
            f"{failure['arm']}{f' of level {level}' if (level := failure['level']) else ''} from step {failure['step']}"
        )
        print(f"tombola: {place}, replicate {failure['replicate']}, failed: {failure['cause']}", file=sys.stderr)
    rows, name = barriers(found, store, asked.threshold), str(found["experiment"])
    if rows:
        print_stability(rows, asked.threshold, console)
    where = f"Page: tombola report {name[:12]} --store {asked.store}"
    if computed or asked.page:
        target = Path(asked.page) if asked.page else None
        document = results_document(name, content, store)
        where = f"Page: {pages.experiment_page(name, content, document, store, target)}"
    console.print(
        f"{counted(computed, 'request')} computed now. {where}", markup=False, highlight=False, soft_wrap=True
    )
    return int(bool(found["failures"]) or not rows)


def print_stability(rows: Sequence[BarrierRow], threshold: float, console: Console) -> None:
    """The table of barriers and distances, and from when on each network is stable."""
    from rich.table import Table

    normed = any(row.test_own is not None for row in rows)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("network", no_wrap=True)
    for title in ("k", "test", "train", *(["own"] if normed else []), "error", "apart", "angle", "pruned"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("stable", no_wrap=True)
    for row in rows:
        own = [_mean(row.test_own)] if normed else []
        apart = [_whole(row.relative, 100, " %"), _whole(row.angle, 1, "°"), _whole(row.pruned_angle, 1, "°")]
        cells = [f"{row.step:,}", _points(row.test), _mean(row.train), *own, _mean(row.test_error)]
        table.add_row(_named(row.arm, row.level, row.density), *cells, *apart, _word(row))
    console.print(table)
    for line in (
        f"Children start from step k. Test, train: barriers in points of error (± half of the 95 % interval); stable: "
        f"below {100 * threshold:g} on the test set (? the interval reaches over it). Error: of the children, in %.",
        "Apart: distance of two children / the way each has come. Angle: between them; pruned: between a ticket and "
        "the same weights inside the dense network trained likewise.",
        *(["Own: test, with batch-norm statistics interpolated in place of recomputed."] if normed else []),
        *(
            f"{_named(one.arm, one.level, one.density)}: "
            + ("not stable from any step studied" if one.test is None else f"stable from step {one.test:,} on")
            for one in onsets(rows, threshold)
        ),
    ):
        console.print(line, markup=False, highlight=False)


def _named(arm: str, level: int, density: float) -> str:
    return f"{arm} {per_cent(density)} %" if level else arm


def _points(found: Interval) -> str:
    return _mean(found) + ("" if found.half_width is None else f" ±{100 * found.half_width:.2f}")


def _mean(found: Interval | None) -> str:
    return "-" if found is None else f"{100 * found.mean:.2f}"


def _whole(found: Interval | None, scale: float, unit: str) -> str:
    return "-" if found is None else f"{scale * found.mean:.0f}{unit}"


def _word(row: BarrierRow) -> str:
    return ("yes" if row.stable else "no") + ("" if row.sure else "?")
