"""`tombola export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from tombola.errors import UsageError

__all__ = ["Export", "main"]


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write every number of an experiment: one row for each arm, level, replicate and draw."""

    experiment: tyro.conf.Positional[ExperimentName]
    csv: Annotated[str, flag("write CSV; - is standard output.", metavar="FILE", default="")] = ""
    json: JsonFile = ""
    store: StorePath = STORE


def main(arguments: Sequence[str]) -> int:
    """Write the files that were asked for."""
    asked = parse(Export, arguments, command="export")
    if not (asked.csv or asked.json):
        raise UsageError("Say what to write: --csv FILE or --json FILE (- is standard output).")
    check_targets(asked.csv, asked.json)
    store = open_store(asked.store)
    digest, content = store.experiment(asked.experiment)
    document = results_document(digest, content, store)
    if asked.csv:
        from tombola.report.spreadsheet import to_csv

        write_out(asked.csv, to_csv(document))
    write_out(asked.json, document)
    return 0
