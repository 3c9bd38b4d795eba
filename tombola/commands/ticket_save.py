"""`tombola ticket save`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

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

__all__ = ["Save", "main"]


@dataclass(frozen=True, kw_only=True)
class Save:
    """Write the ticket of an experiment, with its history and verdict, to a file that Ticket.load reads."""

    experiment: tyro.conf.Positional[ExperimentName]
    file: tyro.conf.Positional[Annotated[str, flag("the file to write.", metavar="FILE")]]
    level: Annotated[
        int | None, flag("which ticket.", metavar="INT", default="(default: the smallest that wins, else the last)")
    ] = None
    replicate: Annotated[int, flag("of which replicate.")] = 0
    trained: Annotated[bool, flag("keep the trained weights too.", default="")] = False
    seed: Annotated[bool, flag("keep the seed in place of the start weights: the smallest file.", default="")] = False
    json: JsonFile = ""
    store: StorePath = STORE


def main(arguments: Sequence[str]) -> int:
    """Write the file."""
    asked = parse(Save, arguments, command="ticket save")
    if asked.file == "-":
        raise UsageError("A ticket file is no text; name a FILE, not -.")
    check_targets(asked.file, asked.json)
    store = open_store(asked.store)
    from tombola.tickets.stored import stored_ticket

    found = stored_ticket(store, asked.experiment, level=asked.level, replicate=asked.replicate)
    if asked.seed and found.build is None:
        reason = "come from a training" if found.seed is None else "are those of a network of your own"
        raise UsageError(f"No seed can stand for these start weights: they {reason}. Leave out --seed.")
    seeded = {"seed": found.seed, "build": found.build} if asked.seed else {}
    path = found.ticket.save(asked.file, trained=asked.trained, **seeded)  # type: ignore[arg-type]
    mask, size = found.ticket.mask, path.stat().st_size
    if asked.json != "-":
        where = f"level {found.level}, replicate {found.replicate}"
        print(f"{asked.file}: {mask.alive:,} of {mask.total:,} weights ({mask.density:.2%}), {where}; {size:,} bytes.")
    document = {"file": asked.file, "bytes": size, "kept": mask.alive, "prunable": mask.total, "density": mask.density}
    write_out(asked.json, {"schema": 1, **document, "level": found.level, "replicate": found.replicate})
    return 0
