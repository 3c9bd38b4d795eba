"""`tombola ticket diff`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from tombola.commands.arguments import JsonFile, check_targets, flag, parse, write_out
from tombola.commands.ticket_inspect import AtMost, columns
from tombola.tickets.container import AT_MOST
from tombola.tickets.plain import printable

__all__ = ["Diff", "main"]


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Compare the masks of two ticket files, tensor by tensor: Jaccard index, beside what chance gives."""

    first: tyro.conf.Positional[Annotated[str, flag("a ticket file.", metavar="FILE")]]
    second: tyro.conf.Positional[Annotated[str, flag("another ticket file.", metavar="OTHER")]]
    at_most: AtMost = AT_MOST
    json: JsonFile = ""


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    asked = parse(Diff, arguments, command="ticket diff")
    check_targets(asked.json)
    from tombola.tickets.jaccard import overlap
    from tombola.tickets.reading import read_ticket

    masks = [read_ticket(Path(file), at_most=asked.at_most).mask for file in (asked.first, asked.second)]
    found = [asdict(one) for one in overlap(masks[0], masks[1])]
    compared = {row["name"] for row in found}
    left = {
        name: [tensor for tensor in mask if tensor not in compared]
        for name, mask in zip(("only_first", "only_second"), masks, strict=True)
    }
    if asked.json != "-":
        rows = [("tensor", "kept", "other", "both", "Jaccard", "chance", "ratio"), *map(_row, found)]
        print(columns(rows, left=1))
        print("Jaccard: both / either. Chance: its mean for random masks with as many weights in each tensor.")
        for name, file in (("only_first", asked.first), ("only_second", asked.second)):
            if left[name]:
                tensors = ", ".join(printable(tensor, 60) for tensor in left[name][:5])
                more = f", ... ({len(left[name])} in all)" if len(left[name]) > 5 else ""
                print(f"Only in {printable(file, 60)}, or of another shape: {tensors}{more}.")
    *layers, total = found
    files = {"first": asked.first, "second": asked.second}
    write_out(asked.json, {"schema": 1, "files": files, "layers": layers, "total": total, **left})
    return 0


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    name = "all" if one["name"] is None else printable(one["name"], 44)
    counts = (f"{one[key]:,}" for key in ("first", "second", "both"))
    jaccard, chance, ratio = (one[key] for key in ("jaccard", "chance", "ratio"))
    shares = ("-" if value is None else f"{value:.4f}" for value in (jaccard, chance))
    return (name, *counts, *shares, "-" if ratio is None else f"{ratio:.2f}x")
