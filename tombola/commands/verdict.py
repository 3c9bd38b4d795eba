"""`tombola verdict`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tombola.analysis.bootstrap import bootstrap_intervals
from tombola.analysis.document import results_document
from tombola.analysis.verdict import UNADJUSTED, experiment_verdict, fallback
from tombola.commands.arguments import (
    STORE,
    ExperimentName,
    JsonFile,
    StorePath,
    check_targets,
    flag,
    open_console,
    open_store,
    parse,
    write_out,
)
from tombola.errors import UsageError
from tombola.report.columns import per_cent

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Verdict", "main", "print_verdict"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Judge an experiment: is each ticket a winning ticket, and how sure is that? By the recipe's declared margin."""

    experiment: tyro.conf.Positional[ExperimentName]
    fallback: Annotated[
        bool, flag("what choosing between ticket and dense on validation data guarantees.", default="")
    ] = False
    bca: Annotated[bool, flag("BCa bootstrap intervals too, with their simulated coverage.", default="")] = False
    json: JsonFile = ""
    store: StorePath = STORE


def print_verdict(found: Mapping[str, Any], console: Console) -> None:
    """The table of levels, what is missing, and the sentence; intervals stand in the page and in the JSON."""
    from rich.table import Table

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    if found["levels"]:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for title in ("lv", "%"):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        for title in ("dense", "reinit", "shuffled"):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("early stop", no_wrap=True)
        for level in found["levels"]:
            table.add_row(*_cells(level))
        console.print(table)
        say("Columns dense, reinit, shuffled: ticket - other in points, and p (dense: not below it by the margin).")
        say("Early stop: the ticket's step / the dense network's; ? inconclusive. *: winning and no slower.")
        metric = found.get("metric", "accuracy")
        say(f"Margin {100 * found['margin']:g} points, declared in the recipe; {metric} at {found['endpoint']}.")
        say(UNADJUSTED)
    for note in found["notes"]:
        say(f"Note: {note}")
    say(found["overall"]["sentence"])


def _cells(level: Mapping[str, Any]) -> tuple[str, ...]:
    compared = (level["accuracy"], level["controls"].get("reinit"), level["controls"].get("shuffled"))
    density, speed = level["density"], level["speed"]
    return (
        str(level["level"]),
        "-" if density is None else per_cent(density),
        level["verdict"] + ("*" if level["strict"] else ""),
        *(_difference(one) for one in compared),
        ("" if speed["ratio"] is None else f"{speed['ratio']:.2f}x ") + speed["verdict"].replace("inconclusive", "?"),
    )


def _difference(found: Mapping[str, Any] | None) -> str:
    if not found or found["difference"] is None:
        return "-"
    p = found["p"]
    words = "" if p is None else " (<.001)" if p < 0.001 else f" ({p:.3f})".replace("0.", ".", 1)
    return f"{100 * found['difference']:+.2f}{words}"


def _bootstrap_lines(intervals: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each level, then what such intervals are worth at that many replicates."""
    lines = [
        f"level {one['level']:2d}: ticket - dense {100 * one['difference']:+.2f} points, BCa 95 % interval "
        f"{100 * one['low']:+.2f} to {100 * one['high']:+.2f}"
        for one in intervals
        if one["low"] is not None
    ]
    return lines + sorted({one["words"] for one in intervals})


def main(arguments: Sequence[str]) -> int:
    """Print the verdict."""
    asked = parse(Verdict, arguments, command="verdict")
    check_targets(asked.json)
    store = open_store(asked.store)
    digest, content = store.experiment(asked.experiment)
    document = results_document(digest, content, store)
    found = experiment_verdict(content, document)
    if (asked.bca or asked.fallback) and "metric" in found:
        raise UsageError(f"--bca and --fallback are for accuracies; this experiment measures {found['metric']}.")
    console = open_console(asked.json)
    print_verdict(found, console)
    if asked.bca:
        intervals = bootstrap_intervals(document, endpoint=found["endpoint"])
        for line in _bootstrap_lines(intervals):
            console.print(line, markup=False, highlight=False)
        found = {**found, "bca": intervals}
    if asked.fallback:
        promise = fallback(document, examples=content["examples"]["validation"])
        console.print(promise["sentence"], markup=False, highlight=False)
        found = {**found, "fallback": promise}
    write_out(asked.json, found)
    return 0
