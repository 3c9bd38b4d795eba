"""Every figure as files that stand alone: NAME.svg, NAME.png, NAME.csv."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.analysis.source import Source
from tombola.errors import UsageError
from tombola.report.drawing import INK
from tombola.report.gallery import gallery
from tombola.report.svg import STABLE
from tombola.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["for_paper", "rows_csv", "write_bytes", "write_figures"]

_BLACK = "#262626"


def write_figures(source: Source, folder: str | os.PathLike[str]) -> tuple[list[Path], Mapping[str, list[str]]]:
    """Write NAME.svg, NAME.png (200 dpi) and NAME.csv of every figure whose data are there, on white.

    Returns the paths, and for the figures that are left out: reason -> titles. Each file appears whole or not at all.

    Raises:
        UsageError: a file cannot be written.
    """
    target, paths = Path(folder), []
    shown, left_out = gallery(source)
    for one in shown:
        figure = for_paper(one.draw(one.rows))
        contents = {"svg": _drawn(figure, "svg"), "png": _drawn(figure, "png"), "csv": rows_csv(one.rows).encode()}
        for ending, content in contents.items():
            paths.append(target / f"{one.name}.{ending}")
            try:
                write_bytes(paths[-1], content)
            except OSError as error:
                why = f"The figure {paths[-1]} cannot be written: {error.strerror}; name another folder."
                raise UsageError(why) from error
    return paths, left_out


def for_paper(figure: Figure) -> Figure:
    """The same figure with black in place of the grey that suits dark pages too; changed in place."""
    from matplotlib.colors import same_color
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    for artist in figure.findobj():
        if isinstance(artist, Line2D | Text) and same_color(artist.get_color(), INK):
            artist.set_color(_BLACK)
    for axes in figure.axes:
        for spine in axes.spines.values():
            spine.set_color(_BLACK)
    return figure


def rows_csv(rows: Sequence[Any]) -> str:
    """Rows (frozen dataclasses of one kind) as comma-separated text; an interval is four columns: NAME, NAME_low,
    NAME_high, NAME_n. What does not exist is an empty cell; numbers keep every digit.

    >>> from tombola.analysis.weights import InputRow
    >>> print(rows_csv([InputRow(level=1, density=0.8, row=0, column=2, connections=5, possible=9)]), end="")
    level,density,row,column,connections,possible
    1,0.8,0,2,5,9
    """
    intervals = {
        field.name
        for field in (dataclasses.fields(rows[0]) if rows else ())
        if any(isinstance(getattr(row, field.name), Interval) for row in rows)
    }
    flat = [_cells(row, intervals) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _cells(row: Any, intervals: set[str]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if field.name in intervals:
            ends = (None,) * 4 if value is None else (value.mean, value.low, value.high, value.n)
            cells |= dict(
                zip((field.name, *(f"{field.name}_{end}" for end in ("low", "high", "n"))), ends, strict=True)
            )
        else:
            cells[field.name] = value
    return cells


def _drawn(figure: Figure, kind: str) -> bytes:
    import matplotlib

    out = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type") if kind == "svg" else ("Software",))
    with matplotlib.rc_context({**STABLE, "svg.hashsalt": "tombola"}):
        figure.savefig(out, format=kind, dpi=200, metadata=nothing, facecolor="white")
    return out.getvalue()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, with its folder. Raises `OSError`."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
