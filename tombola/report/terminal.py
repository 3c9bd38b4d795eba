"""A results document on the terminal: the table, a small picture, the headline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tombola.report.arms import looks, printable
from tombola.report.columns import COLUMNS, Column, diverged, headline
from tombola.report.plot import picture
from tombola.report.summary import DENSE_ARM, LevelRow, has_accuracy, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["render"]

_TITLES = {
    "level": "level",
    "density": "weights\n%",
    "kept": "weights\nkept",
    "early_stop": "early-stop\nstep",
    "accuracy_at_early_stop": "test acc. %\nearly stop",
    "accuracy_end": "test acc. %\nat the end",
    "validation_loss_min": "validation\nloss min",
}
# What a row shows, the widest first; the first that fits is taken.
_LAYOUTS = (
    ("level", "density", "kept", "arm", "early_stop", "accuracy_at_early_stop", "accuracy_end"),
    ("level", "density", "arm", "early_stop", "accuracy_at_early_stop", "accuracy_end"),
    ("level", "density", "arm", "early_stop", "accuracy_at_early_stop"),
    ("density", "arm", "accuracy_at_early_stop"),
)


def render(document: Mapping[str, Any], console: Console) -> None:
    """Print the table of a results document, then a picture of accuracy over density, then the plain facts.

    The table comes first so that the picture is what stays on the screen. Fits the width of `console`; without a
    terminal behind it the output has no colours or other control codes, and every line of the table is complete.
    Raises `UsageError` for a document that cannot be read.
    """
    from rich.text import Text

    rows = table(document)
    ascii_only = console.options.ascii_only
    title = f"{document.get('recipe', '')}: lottery-ticket results"
    console.print(Text(_encodable(title, ascii_only), style="bold"), end="\n\n")
    if rows:
        console.print(_fitting_table(rows, console))
        console.print()
        console.print(picture(rows, console.width, ascii_only=ascii_only))
        console.print()
    console.print(Text(_encodable(headline(rows), ascii_only)))


def _fitting_table(rows: Sequence[LevelRow], console: Console) -> Table:
    wide = console.options.update_width(1000)
    for names in _LAYOUTS:
        grid = _table(rows, _columns(rows, names), repeat=not console.is_terminal, ascii_only=wide.ascii_only)
        if console.measure(grid, options=wide).maximum <= console.width:
            break
    return grid


def _columns(rows: Sequence[LevelRow], names: Sequence[str]) -> list[Column]:
    if not has_accuracy(rows):
        names = (*names[:-1], "validation_loss_min")
    by_name = {column.name: column for column in COLUMNS}
    return [by_name[name] for name in names]


def _table(rows: Sequence[LevelRow], columns: Sequence[Column], *, repeat: bool, ascii_only: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.number else "left"
        grid.add_column(_TITLES.get(column.name, column.title), justify=justify, overflow="fold")
    colours = {arm: look.ansi for arm, look in looks(row.arm for row in rows).items()}
    before: LevelRow | None = None
    for row in rows:
        cells = [
            _arm_cell(row, colours[row.arm], ascii_only)
            if column.name == "arm"
            else Text(_encodable(_number(column, row, None if repeat else before), ascii_only))
            for column in columns
        ]
        grid.add_row(*cells)
        before = row
    return grid


def _number(column: Column, row: LevelRow, before: LevelRow | None) -> str:
    """The text of a cell; what the line above says of the same level is not said again."""
    text = column.cell(row)
    same = before is not None and before.level == row.level and column.cell(before) == text
    return "" if same and column.name in ("level", "density", "kept") else text


def _arm_cell(row: LevelRow, colour: str, ascii_only: bool) -> Text:
    from rich.text import Text

    if row.arm == DENSE_ARM and row.level == 0:
        cell = Text("dense", style="bold")
    else:
        cell = Text(_encodable(row.arm, ascii_only), style=colour)
    return cell.append(f"\n{diverged(row)}", style="bold") if row.diverged else cell


def _encodable(text: str, ascii_only: bool) -> str:
    """A text without control characters, and in ASCII where the terminal takes no other."""
    text = printable(text.replace("\u00a0", " "))
    return text.replace(" ± ", "+-").encode("ascii", "replace").decode() if ascii_only else text
