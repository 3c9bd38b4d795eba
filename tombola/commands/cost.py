"""`tombola cost`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tombola.commands.arguments import JsonFile, check_targets, flag, parse, write_out
from tombola.commands.networks import InputShape, ModelPath, builder, example_of, shape_of
from tombola.commands.ticket_inspect import AtMost, TicketFile
from tombola.errors import UsageError
from tombola.tickets.container import AT_MOST

__all__ = ["Cost", "main"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Weigh up a ticket file: parameters, multiply-adds, bytes, and times of its network and smaller forms.

    Times are measured here and now, with random inputs.
    """

    file: tyro.conf.Positional[TicketFile]
    batch: Annotated[int, flag("examples in one call.")] = 1
    model: ModelPath = ""
    input_shape: InputShape = ""
    rounds: Annotated[int, flag("timed rounds.")] = 30
    threads: Annotated[int | None, flag("of torch and ONNX Runtime.", metavar="INT", default="(default: torch's)")] = (
        None
    )
    onnx: Annotated[Literal["auto", "yes", "no"], flag("time ONNX Runtime; auto: where it is installed.")] = "auto"
    at_most: AtMost = AT_MOST
    json: JsonFile = ""


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    asked = parse(Cost, arguments, command="cost")
    if asked.batch < 1:
        raise UsageError(f"--batch is {asked.batch}; expected 1 or more.")
    check_targets(asked.json)
    from tombola.costing import cost
    from tombola.tickets.reading import read_ticket, start_weights, trained_weights
    from tombola.tickets.ticket import Ticket

    sealed = read_ticket(Path(asked.file), at_most=asked.at_most)
    shape = shape_of(asked.file, asked.input_shape, sealed)
    build = builder(asked.file, asked.model, sealed)
    weights = trained_weights(sealed) or start_weights(sealed, build if asked.model else None)
    model = Ticket(mask=sealed.mask, weights=weights).apply(build(0))
    example = example_of(shape, asked.batch)
    onnx = {"auto": None, "yes": True, "no": False}[asked.onnx]
    found = cost(model, sealed.mask, example, rounds=asked.rounds, threads=asked.threads, onnx=onnx)
    if asked.json != "-":
        print(found)
    write_out(asked.json, {"file": asked.file, **found.document()})
    return 0
