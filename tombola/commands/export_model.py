"""`tombola export-model`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from tombola.commands.arguments import JsonFile, check_targets, flag, parse, write_out
from tombola.commands.networks import InputShape, ModelPath, builder, example_of, shape_of, sizes_in
from tombola.commands.ticket_inspect import AtMost, TicketFile
from tombola.errors import UsageError
from tombola.tickets.container import AT_MOST
from tombola.tickets.plain import printable

if TYPE_CHECKING:
    from torch import nn

    from tombola.tickets.reading import Sealed
    from tombola.tickets.ticket import Ticket

__all__ = ["ExportModel", "main"]

_EXAMPLES = 2  # in the batch that is tried; the batch size stays open


@dataclass(frozen=True, kw_only=True)
class ExportModel:
    """Write the network of a ticket file as ONNX, as a torch.export program, or as dense weights.

    A graph is compared with torch before it is written.
    """

    file: tyro.conf.Positional[TicketFile]
    out: Annotated[
        str,
        flag("the file to write: .onnx, .pt2 (torch.export) or .safetensors (weights).", metavar="FILE", default=""),
    ] = ""
    model: ModelPath = ""
    weights: Annotated[Literal["trained", "start"], flag("which weights of the ticket.")] = "trained"
    form: Annotated[Literal["masked", "shrunk"], flag("the whole network with zeros, or a smaller one.")] = "masked"
    inputs: Annotated[Literal["keep", "gather"], flag("shrunk: pick the inputs that a first layer reads.")] = "keep"
    input_shape: InputShape = ""
    batch: Annotated[
        int | None, flag("examples at once, for good.", metavar="INT", default="(default: any number)")
    ] = None
    at_most: AtMost = AT_MOST
    json: JsonFile = ""


def main(arguments: Sequence[str]) -> int:
    """Write the file."""
    asked = parse(ExportModel, arguments, command="export-model")
    if asked.out in {"", "-"}:
        what = "is missing" if not asked.out else "is standard output, and this file is no text"
        raise UsageError(f"--out {what}; name a file: --out net.onnx (or .pt2, .safetensors).")
    if asked.batch is not None and asked.batch < 1:
        raise UsageError(f"--batch is {asked.batch}; expected 1 or more.")
    sizes_in(asked.input_shape)  # what is misspelt is said first
    out, file = Path(asked.out), Path(asked.file)
    if out.exists() and file.exists() and out.samefile(file):
        raise UsageError(f"--out {asked.out} is the ticket file itself; name another file.")
    check_targets(asked.out, asked.json)
    from tombola.exporting.entry import export_model, form_of
    from tombola.tickets.reading import read_ticket

    form = form_of(Path(asked.out))
    sealed = read_ticket(Path(asked.file), at_most=asked.at_most)
    build = builder(asked.file, asked.model, sealed)
    ticket = _ticket(asked, sealed, build)
    model = ticket.apply(build(sealed.start.seed or 0))
    before = sum(parameter.numel() for parameter in model.parameters())
    needed = form != "weights" or asked.form == "shrunk"
    shape = shape_of(asked.file, asked.input_shape, sealed) if needed else ()
    example = example_of(shape, asked.batch or _EXAMPLES, normal=True) if needed else None
    notes: list[str] = []
    if asked.form == "shrunk":
        model, notes = _shrunk(model, ticket, example, asked.inputs)
    done = export_model(model, asked.out, example, dynamic_batch=asked.batch is None)
    if asked.json != "-":
        mask = ticket.mask
        kept = f"{mask.alive:,} of {mask.total:,} weights ({mask.density:.2%})"
        print(f"{done}\n{asked.weights} weights under a mask that keeps {kept}; {before:,} parameters before.")
        print(*notes, sep="\n", end="\n" if notes else "")
    document = {"file": asked.out, "bytes": done.size, "form": done.form, "weights": asked.weights}
    sizes = {"parameters_before": before, "parameters": done.parameters, "shrunk": asked.form == "shrunk"}
    checks = {"difference": done.difference, "batch": done.batch, "opset": done.opset}
    write_out(asked.json, {"schema": 1, **document, **sizes, **checks, "notes": notes})
    return 0


def _ticket(asked: ExportModel, sealed: Sealed, build: Callable[[int], nn.Module]) -> Ticket:
    """A ticket whose weights are those to export."""
    from tombola.tickets.reading import start_weights, trained_weights
    from tombola.tickets.ticket import Ticket

    if asked.weights == "start":
        state = start_weights(sealed, build if asked.model or sealed.start.model is None else None)
    else:
        trained = trained_weights(sealed)
        if trained is None:
            raise UsageError(
                f"{printable(asked.file)} holds only the start weights, which are not trained. Save it again with the "
                f"trained ones (tombola ticket save ... --trained), or export the untrained: --weights start."
            )
        state = trained
    with sealed.named():
        return Ticket(mask=sealed.mask, weights=state)


def _shrunk(
    model: nn.Module, ticket: Ticket, example: Any, inputs: Literal["keep", "gather"]
) -> tuple[nn.Module, list[str]]:
    """The smaller network, and what is to be said about it."""
    from tombola.shrinking import shrink

    small = shrink(model, ticket.mask, example, inputs=inputs)
    first, *more = str(small).splitlines()
    return small.model, [f"shrunk: {first}", *(line for line in more if line.startswith("Not all"))]
