"""`tombola report`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tombola.analysis.document import results_document
from tombola.commands.arguments import (
    STORE,
    ExperimentName,
    JsonFile,
    StorePath,
    check_target,
    open_store,
    parse,
    write_out,
)

__all__ = ["Report", "main"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the self-contained HTML page of an experiment, and show its table."""

    experiment: tyro.conf.Positional[ExperimentName]
    out: Annotated[str, tyro.conf.arg(metavar="FILE", help="The page; without it, in the store's reports folder.")] = ""
    json: JsonFile = ""
    quiet: Annotated[bool, tyro.conf.arg(help="Print the path alone.")] = False
    store: StorePath = STORE


def main(arguments: Sequence[str]) -> int:
    """Write the page and say where it is."""
    asked = parse(Report, arguments, command="report")
    check_target(asked.out)
    check_target(asked.json)
    store = open_store(asked.store)
    digest, content = store.experiment(asked.experiment)
    document = results_document(digest, content, store)

    from rich.console import Console

    from tombola.commands.pages import experiment_page
    from tombola.report.terminal import render

    stream = sys.stderr if asked.json == "-" else sys.stdout
    if not asked.quiet:
        render(document, Console(file=stream))
    path = experiment_page(digest, content, document, store, Path(asked.out) if asked.out else None)
    print(path if asked.quiet else f"Page: {path}", file=stream)
    write_out(asked.json, document)
    return 0
