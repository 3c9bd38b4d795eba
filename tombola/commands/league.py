"""`tombola league`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tombola.commands.arguments import (
    STORE,
    JsonFile,
    StorePath,
    check_store,
    check_targets,
    counted,
    flag,
    open_console,
    open_store,
    parse,
    write_out,
    write_whole,
)
from tombola.recipes import find_recipe, to_toml
from tombola.training.engine import EngineName
from tombola.training.scale import check_together, processes

if TYPE_CHECKING:
    from rich.console import Console

    from tombola.experiment import Experiment
    from tombola.league.entries import Terms
    from tombola.league.estimate import Estimate
    from tombola.league.running import League as Made
    from tombola.league.running import Played, Seat
    from tombola.runner import Watcher
    from tombola.store import Store

__all__ = ["League", "main"]


@dataclass(frozen=True, kw_only=True)
class League:
    """Rank all criteria, allocations, resets, at-init methods, one-shot, with intervals. The same command goes on."""

    recipe: Annotated[str, flag("a name or a TOML file.", metavar="RECIPE")] = "digits-lenet"
    divisions: Annotated[
        tuple[str, ...],
        flag("criteria, allocations, resets, at-init, supermasks.", metavar="DIVISION ...", default="(default: all)"),
    ] = ()
    densities: Annotated[tuple[float, ...], flag("kept / prunable, falling.", metavar="FLOAT ...")] = (
        *(0.2, 0.1, 0.05),
        *(0.02, 0.01),
    )
    replicates: Annotated[int, flag("seeds, the same for everybody.")] = 5
    steps: Annotated[int | None, flag("of a training.", metavar="INT", default="(default: those of the recipe)")] = None
    data_dir: Annotated[
        str, flag("where data are; else TOMBOLA_DATA names it, else ./data.", metavar="DIR", default="")
    ] = ""
    store: StorePath = STORE
    workers: Annotated[
        int | None, flag("processes.", metavar="INT", default="(default: one a core on the CPU, else 1)")
    ] = None
    device: Annotated[str, flag("cpu, cuda, cuda:1, mps, or auto.")] = "cpu"
    engine: Annotated[EngineName, flag("auto: native where it knows the network, else torch.")] = "auto"
    dry_run: Annotated[bool, flag("only say how many fits and steps, how long, how much disk.", default="")] = False
    page: Annotated[
        str, flag("where the HTML page goes.", metavar="FILE", default="(default: in the store's reports)")
    ] = ""
    json: JsonFile = ""
    quiet: Annotated[bool, flag("print errors alone.", default="")] = False

    def __post_init__(self) -> None:
        check_together(workers=self.workers)

    @property
    def processes(self) -> int:
        """How many workers."""
        return processes(self.workers, self.device)


def main(arguments: Sequence[str]) -> int:
    """Say what it costs, run, print the tables, write page and JSON; 1 where no competitor has a single number."""
    asked = parse(League, arguments, command="league")
    check_targets(asked.json, asked.page)
    check_store(asked.store)
    terms = _terms(asked)
    from tombola.league.divisions import check_names, divisions_of

    check_names(asked.divisions)
    from tombola.league.estimate import estimate
    from tombola.league.running import ready

    console = open_console(asked.json, quiet=asked.quiet)
    made = ready(
        terms,
        divisions_of(asked.divisions),
        data_dir=asked.data_dir or None,
        device=asked.device,
        engine=asked.engine,
        quiet=asked.quiet or not sys.stderr.isatty(),
    )
    there = (asked.store / "format.json").exists()
    found = estimate(made.experiments().values(), open_store(asked.store) if there else None)
    facts = _foretell(made, found, asked, console)
    if asked.dry_run:
        write_out(asked.json, facts)
        return 0
    return _play(made, found, asked, console, shlex.join(["tombola", "league", *arguments]))


def _terms(asked: League) -> Terms:
    from tombola.league.entries import Terms

    recipe = find_recipe(asked.recipe)
    whole = recipe if asked.steps is None else replace(recipe, steps=asked.steps)
    return Terms(recipe=whole, densities=asked.densities, replicates=asked.replicates)


def _foretell(made: Made, found: Estimate, asked: League, console: Console) -> dict[str, Any]:
    """Say what is to be computed; the same as plain numbers."""
    from tombola.league.estimate import measure_pass
    from tombola.preview import measure

    todo = found.fits.fits - found.fits.stored
    idle = not todo and found.prunes == found.stored_prunes
    seconds = 0.0 if idle else found.seconds(measure(made.task), measure_pass(made.task)) / asked.processes
    duration = f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:,.0f} seconds"
    competitors = sum(len(division.competitors) for division in made.divisions)
    for line in (
        f"{made.terms.recipe.name}: {competitors:,} competitors in {counted(len(made.divisions), 'division')}, "
        f"{found.fits.fits:,} fits, of which {found.fits.stored:,} are stored.",
        f"To do: {todo:,} fits, {found.fits.steps:,} steps, {found.prunes - found.stored_prunes:,} cuts with "
        f"{found.passes:,.0f} forward-backward passes of criteria:",
        f"about {duration} with {counted(asked.processes, 'worker')}, about {found.fits.bytes / 1e6:,.0f} MB in "
        f"{asked.store}; more where a pruning fails and is done again with a fallback.",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    fits = {"fits": found.fits.fits, "stored": found.fits.stored, "steps": found.fits.steps}
    cuts = {"cuts": found.prunes, "stored_cuts": found.stored_prunes, "passes": found.passes}
    size = {"seconds": round(seconds), "bytes": found.fits.bytes}
    return {"schema": 1, "dry_run": True, "competitors": competitors, **fits, **cuts, **size}


def _play(made: Made, found: Estimate, asked: League, console: Console, command: str) -> int:
    from tombola.league.running import play

    store = open_store(asked.store, create=True)
    watching, close = _watching(found, asked)
    try:
        played, computed = play(
            made, store, workers=asked.processes, device=asked.device, watcher=watching, command=command
        )
    except KeyboardInterrupt:
        close()
        print(f"tombola: interrupted; what is finished is kept. Go on with: {command}", file=sys.stderr)
        return 130
    finally:
        close()
    return _conclude(made, played, computed, store, asked, console, command)


def _watching(
    found: Estimate, asked: League
) -> tuple[Callable[[Sequence[Seat], Mapping[str, Experiment]], Watcher], Callable[[], None]]:
    """Who is told how it goes on, first for all entries, then for the fallbacks; and how to end that."""
    from rich.console import Console

    from tombola.commands.league_progress import LeagueBars, LeagueLines
    from tombola.league.estimate import estimate
    from tombola.watching import Silent

    console = Console(file=sys.stderr)
    shown: list[LeagueBars] = []

    def close() -> None:
        while shown:
            shown.pop().close()

    def watcher(seats: Sequence[Seat], experiments: Mapping[str, Experiment]) -> Watcher:
        close()
        if asked.quiet:
            return Silent()
        known = experiments.keys() <= found.reported.keys()
        reported = (found if known else estimate(experiments.values(), None)).reported
        if not console.is_terminal:
            return LeagueLines(console, seats, reported)
        shown.append(LeagueBars(console, seats, reported))
        return shown[-1]

    return watcher, close


def _conclude(
    made: Made,
    played: Sequence[Played],
    computed: int,
    store: Store,
    asked: League,
    console: Console,
    command: str,
) -> int:
    from tombola.executors.work import provenance
    from tombola.league.page import league_page
    from tombola.league.screen import render
    from tombola.league.standings import league_document
    from tombola.specs import digest

    document = league_document(made.terms, made.divisions, played)
    write_out(asked.json, document)  # first: nothing that fails later takes the numbers away
    name = digest(sorted({one.experiment for one in played}))[:12]
    path = Path(asked.page) if asked.page else store.root / "reports" / f"league-{document['recipe']}-{name}.html"
    made_with = "\n".join(f"{key}: {value}" for key, value in provenance(asked.device, 1).items())
    details = {"Run again": command, "Made with": made_with, "Recipe": to_toml(made.terms.recipe)}
    write_whole(path, league_page(document, details=details))
    render(document, console)
    console.print(f"{computed:,} requests computed now. Page: {path}", markup=False, highlight=False, soft_wrap=True)
    scored = [one for division in document["divisions"] for one in division["competitors"] if one["scores"]]
    return int(not any(score["accuracy"] for one in scored for score in one["scores"]))
