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
    open_console,
    open_store,
    parse,
    write_out,
)
from tombola.errors import UsageError

__all__ = ["Report", "main"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the self-contained HTML page of an experiment, and show its table."""

    experiment: tyro.conf.Positional[ExperimentName]
    out: Annotated[str, flag("where the page goes.", metavar="FILE", default="(default: in the store's reports)")] = ""
    figures: Annotated[
        str, flag("write every figure there as NAME.svg, NAME.png and NAME.csv too.", metavar="DIR", default="")
    ] = ""
    json: JsonFile = ""
    quiet: Annotated[bool, flag("print the path alone.", default="")] = False
    store: StorePath = STORE


def main(arguments: Sequence[str]) -> int:
    """Write the page and say where it is."""
    asked = parse(Report, arguments, command="report")
    check_targets(asked.out, asked.json)
    _check_folder(asked.figures)
    store = open_store(asked.store)
    digest, content = store.experiment(asked.experiment)
    document = results_document(digest, content, store)

    from tombola.analysis.source import Source
    from tombola.commands.pages import experiment_page
    from tombola.report.files import write_figures
    from tombola.report.terminal import render

    write_out(asked.json, document)
    path = experiment_page(digest, content, document, store, Path(asked.out) if asked.out else None)
    stream = sys.stderr if asked.json == "-" else sys.stdout
    if not asked.quiet:
        render(document, open_console(asked.json))
    if asked.figures:
        source = Source(document=document, digest=digest, content=content, store=store)
        paths, left_out = write_figures(source, asked.figures)
        lines = [f"Figures: {len(paths)} files in {asked.figures}"]
        lines += [f"Left out: {', '.join(titles)} ({reason})" for reason, titles in left_out.items()]
        for line in [] if asked.quiet else lines:
            print(line, file=stream)
    print(path if asked.quiet else f"Page: {path}", file=stream)
    return 0


def _check_folder(target: str) -> None:
    """Refuse a folder for figures that cannot be one, before long work begins."""
    place = Path(target)
    if target and place.exists() and not place.is_dir():
        raise UsageError(f"{place} is a file; name a folder for the figures.")
    if target and not place.parent.is_dir():
        raise UsageError(f"The folder of {place} does not exist; make it first.")
