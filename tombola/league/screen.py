"""A league document on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tombola.league.tables import Table, notes, sanity, standings
from tombola.league.words import facts, how
from tombola.report.arms import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render"]

_CLIPPED = 160  # characters of a note; the page has the whole


def render(document: Mapping[str, Any], console: Console) -> None:
    """Print the tables of every division, what they show, and what failed.

    Intervals are left out where the width of `console` has no room for them; no cell is ever cut.
    """
    ascii_only = console.options.ascii_only

    def say(line: str) -> None:
        text = printable(line)
        plain = text.replace("±", "+-").replace("–", "-") if ascii_only else text
        console.print(plain, markup=False, highlight=False, soft_wrap=True)

    def table(forms: Sequence[Table | None]) -> None:
        for line in _fitting(forms, console.width):
            say(line)

    for division in document["divisions"]:
        say(division["title"])
        table([standings(division, half=half, ascii_only=ascii_only) for half in (True, False)])
        controls = [sanity(division, half=half, ascii_only=ascii_only) for half in (True, False)]
        if controls[0] is not None:
            say("Ticket minus its control, in points:")
            table(controls)
        for line in facts(division, document["margin"]):
            say(line)
        for line in notes(division):
            say(f"note: {line if len(line) <= _CLIPPED else line[: _CLIPPED - 4] + ' ...'}")
        say("")
    say(how(ascii_only=ascii_only))


def _fitting(forms: Sequence[Table | None], width: int) -> list[str]:
    """The lines of the first form, the widest, that fits; else of the last."""
    found = [_lines(content) for content in forms if content is not None]
    return next((lines for lines in found if len(lines[0]) <= width), found[-1])


def _lines(content: Table) -> list[str]:
    rows = [content.titles, *content.rows]
    widths = [max(len(row[place]) for row in rows) for place in range(len(content.titles))]
    return [
        "  ".join(
            f"{cell:<{width}}" if place < content.names else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
