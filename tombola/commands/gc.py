"""`tombola gc`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from tombola.commands.arguments import (
    STORE,
    JsonFile,
    StorePath,
    check_targets,
    counted,
    flag,
    open_store,
    parse,
    write_out,
)
from tombola.store.collect import collect

__all__ = ["Gc", "main"]


@dataclass(frozen=True, kw_only=True)
class Gc:
    """Remove what no experiment in the store names: answers, states, masks, leftovers of interrupted runs."""

    drop: Annotated[
        tuple[str, ...], flag("remove these experiments first.", metavar="EXPERIMENT [EXPERIMENT ...]", default="")
    ] = ()
    dry_run: Annotated[bool, flag("only say what would go.", default="")] = False
    json: JsonFile = ""
    store: StorePath = STORE


def main(arguments: Sequence[str]) -> int:
    """Remove, and say how much."""
    asked = parse(Gc, arguments, command="gc")
    check_targets(asked.json)
    found = collect(open_store(asked.store), drop=asked.drop, dry_run=asked.dry_run)
    if asked.json != "-":
        verb = "Would remove" if asked.dry_run else "Removed"
        what = f"{counted(found.experiments, 'experiment')} and {counted(found.files, 'file')}"
        print(f"{verb} {what}, {found.bytes / 1e6:,.1f} MB.")
    write_out(asked.json, {"schema": 1, **asdict(found), "dry_run": asked.dry_run})
    return 0
