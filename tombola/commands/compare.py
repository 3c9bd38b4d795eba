"""`tombola compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tombola.analysis.comparison import Budget, Compared, at_equal, compared_document, labelled
from tombola.analysis.document import results_document
from tombola.analysis.source import Source
from tombola.commands.arguments import (
    STORE,
    JsonFile,
    StorePath,
    check_targets,
    flag,
    open_console,
    open_store,
    parse,
    write_out,
    write_whole,
)

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Compare", "main"]


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Lay several experiments over each other: by level, at equal weights, at equal multiply-adds."""

    experiments: tyro.conf.Positional[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="EXPERIMENT", help="digests, or their beginnings.")]
    ]
    arm: Annotated[str, flag("which arm of each.", metavar="ARM")] = "ticket"
    out: Annotated[str, flag("where the page goes.", metavar="FILE", default="(default: in the store's reports)")] = ""
    json: JsonFile = ""
    store: StorePath = STORE


def main(arguments: Sequence[str]) -> int:
    """Print the tables and write the page."""
    asked = parse(Compare, arguments, command="compare")
    check_targets(asked.json, asked.out)
    store = open_store(asked.store)
    found = []
    for prefix in asked.experiments:
        digest, content = store.experiment(prefix)
        found.append((digest, content, results_document(digest, content, store)))
    compared = labelled(found, arm=asked.arm)
    document = compared_document(compared)
    weights = at_equal(compared, Compared.weights)
    adds = at_equal(compared, Compared.multiply_adds)

    from tombola.report.page import page
    from tombola.report.terminal import render

    console = open_console(asked.json)
    render(document, console)
    _print(console, "equal weights", weights)
    if [b.budget for b in adds] != [b.budget for b in weights]:
        _print(console, "equal multiply-adds", adds)
    path = Path(asked.out) if asked.out else store.root / "reports" / f"comparison-{document['experiment'][:12]}.html"
    details = {"Experiments": {c.label: c.digest for c in compared}}
    write_whole(path, page(Source(document=document), details=details))
    console.print(f"Page: {path}", markup=False, highlight=False, soft_wrap=True)
    plain = {"equal_weights": _plain(weights), "equal_multiply_adds": _plain(adds)}
    names = [{"label": c.label, "experiment": c.digest} for c in compared]
    write_out(asked.json, {"schema": 1, "arm": asked.arm, "experiments": names, **plain, "arms": document["arms"]})
    return 0


def _print(console: Console, title: str, budgets: Sequence[Budget]) -> None:
    from rich.table import Table

    table = Table(title=f"test accuracy (%) at {title}, within 15 %", title_justify="left", box=None)
    table.add_column(title.removeprefix("equal "), justify="right")
    for label in budgets[0].accuracy if budgets else ():
        table.add_column(label, justify="right")
    for budget in budgets:
        cells = []
        for entry in budget.accuracy.values():
            half = entry[1].half_width if entry else None
            cells.append(
                "-" if entry is None else f"{100 * entry[1].mean:.2f}" + (f" ± {100 * half:.2f}" if half else "")
            )
        table.add_row(f"{budget.budget:,}", *cells)
    console.print(table)


def _plain(budgets: Sequence[Budget]) -> list[dict[str, Any]]:
    def cell(entry: Any) -> Mapping[str, Any] | None:
        if entry is None:
            return None
        size, found = entry
        return {"size": size, "accuracy": found.mean, "low": found.low, "high": found.high, "replicates": found.n}

    return [{"budget": b.budget, "experiments": {label: cell(e) for label, e in b.accuracy.items()}} for b in budgets]
