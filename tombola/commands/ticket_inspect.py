"""`tombola ticket inspect`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tombola.commands.arguments import JsonFile, check_targets, flag, parse, write_out
from tombola.tickets.container import AT_MOST
from tombola.tickets.plain import printable

if TYPE_CHECKING:
    from tombola.tickets.reading import Sealed

__all__ = ["AtMost", "Inspect", "TicketFile", "columns", "main"]

TicketFile = Annotated[str, flag("a ticket file.", metavar="FILE")]
AtMost = Annotated[int, flag("bytes that its weights may fill when unpacked.", metavar="BYTES")]

_NOTES = 40  # lines of metadata on a screen
_NAME = 44


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Show what is in a ticket file: layers, history, metadata. All of the file is checked first."""

    file: tyro.conf.Positional[TicketFile]
    at_most: AtMost = AT_MOST
    json: JsonFile = ""


def main(arguments: Sequence[str]) -> int:
    """Print it."""
    asked = parse(Inspect, arguments, command="ticket inspect")
    check_targets(asked.json)
    from tombola.tickets.reading import checked_values, read_ticket

    sealed = read_ticket(Path(asked.file), at_most=asked.at_most)
    checked_values(sealed)
    found = _document(asked.file, sealed)
    if asked.json != "-":
        _print(found)
    write_out(asked.json, found)
    return 0


def _document(file: str, sealed: Sealed) -> dict[str, Any]:
    from tombola.tickets.streams import DTYPES

    mask, start = sealed.mask, sealed.start
    dense = sum(entry.count * DTYPES[entry.dtype].itemsize for entry in sealed.entries)
    levels = [asdict(level) for level in sealed.history]
    for level in levels:
        metric = level["metric"]
        level["metric"] = metric if metric is not None and math.isfinite(metric) else None
    return {
        "schema": 1,
        "file": file,
        "bytes": sealed.size,
        "dense_bytes": dense,
        "kept": mask.alive,
        "prunable": mask.total,
        "density": mask.density,
        "mask": mask.digest,
        "layers": [
            {
                "name": entry.name,
                "dtype": entry.dtype,
                "shape": list(entry.shape),
                "kept": entry.stored,
                "density": None if entry.kept is None else entry.kept / max(1, entry.count),
                "coding": entry.coding,
            }
            for entry in sealed.entries
        ],
        "start": start.note(),
        "trained": sealed.trained,
        "history": levels,
        "metadata": sealed.metadata,
        "versions": sealed.versions,
    }


def _print(found: Mapping[str, Any]) -> None:
    share = found["bytes"] / max(1, found["dense_bytes"])
    kept = f"{found['kept']:,} of {found['prunable']:,} weights kept ({found['density']:.2%})"
    print(f"{printable(found['file'])}: {kept}")
    print(f"size     {found['bytes']:,} bytes, {share:.2%} of the dense tensors' {found['dense_bytes']:,}")
    print(f"start    {_start(found['start'])}")
    print(f"trained  {'in the file' if found['trained'] else 'not in the file'}")
    print(f"mask     {found['mask']}")
    made = ", ".join(f"{printable(k, 40)} {printable(str(v), 40)}" for k, v in found["versions"].items())
    print(f"made by  {made}\n")
    rows = [("tensor", "dtype", "shape", "kept", "density")]
    for layer in found["layers"]:
        shape = " x ".join(map(str, layer["shape"])) or "-"
        density = "-" if layer["density"] is None else f"{layer['density']:.2%}"
        rows.append((printable(layer["name"], _NAME), layer["dtype"], shape, f"{layer['kept']:,}", density))
    print(columns(rows, left=3))
    if found["history"]:
        rows = [("arm", "replicate", "level", "density", "kept", "metric", "steps", "seconds")]  # type: ignore[list-item]
        for level in found["history"]:
            metric = "-" if level["metric"] is None else f"{level['metric']:.4f}"
            numbers = (f"{level['density']:.2%}", f"{level['kept']:,}", metric, f"{level['steps']:,}")
            place = (printable(level["arm"], 20), str(level["replicate"]), str(level["level"]))
            rows.append((*place, *numbers, f"{level['seconds']:.1f}"))  # type: ignore[arg-type]
        print(f"\n{columns(rows, left=1)}")
    if found["metadata"]:
        print()
    for name, value in list(found["metadata"].items())[:_NOTES]:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        print(f"{printable(name, _NAME)}: {printable(text)}")
    if len(found["metadata"]) > _NOTES:
        print(f"... ({len(found['metadata'])} in all; --json FILE writes them)")


def _start(start: Mapping[str, Any]) -> str:
    if "seed" not in start:
        return "weights in the file"
    model = start.get("model") or {}
    maker = model.get("name") or start.get("build") or "a function that is not named"
    return f"made by {printable(str(maker), 60)} from the seed {start['seed']}, compared when it is loaded"


def columns(rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Rows of text in columns; the first `left` columns begin at the left, the others end at the right.

    >>> print(columns([("layer", "kept"), ("fc1", "10")], left=1))
    layer  kept
    fc1      10
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if n < left else c.rjust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
