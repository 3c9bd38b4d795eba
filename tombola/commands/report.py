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
    check_targets,
    flag,
    open_store,
    parse,
    write_out,
)

__all__ = ["Report", "main"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the self-contained HTML page of an experiment, and show its table."""

    experiment: tyro.conf.Positional[ExperimentName]
    out: Annotated[str, flag("where the page goes.", metavar="FILE", default="(default: in the store's reports)")] = ""
    json: JsonFile = ""
    quiet: Annotated[bool, flag("print the path alone.", default="")] = False
    store: StorePath = STORE


def main(arguments: Sequence[str]) -> int:
    """Write the page and say where it is."""
    asked = parse(Report, arguments, command="report")
    check_targets(asked.out, asked.json)
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
