"""A league document on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tombola.league.tables import Table, notes, sanity, standings
from tombola.league.words import facts, how
from tombola.report.arms import printable

if TYPE_CHECKING:
    from rich import table
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
        console.print(plain, markup=False, highlight=False)

    for division in document["divisions"]:
        say(division["title"])
        _fitting([standings(division, half=half, ascii_only=ascii_only) for half in (True, False)], console)
        controls = [sanity(division, half=half, ascii_only=ascii_only) for half in (True, False)]
        if controls[0] is not None:
            say("Ticket minus its control, in points:")
            _fitting(controls, console)
        for line in facts(division, document["margin"]):
            say(line)
        for line in notes(division):
            say(f"note: {line if len(line) <= _CLIPPED else line[: _CLIPPED - 4] + ' ...'}")
        say("")
    say(how(ascii_only=ascii_only))


def _fitting(forms: Sequence[Table | None], console: Console) -> None:
    """The first form, the widest, that fits; else the last."""
    found = [_rich(content) for content in forms if content is not None]
    chosen = next((one for one in found if console.measure(one).maximum <= console.width), found[-1])
    console.print(chosen, crop=False, no_wrap=True, overflow="ignore", soft_wrap=True)


def _rich(content: Table) -> table.Table:
    from rich.table import Table as Rich
    from rich.text import Text

    made = Rich(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, title in enumerate(content.titles):
        made.add_column(title, justify="left" if place < content.names else "right", no_wrap=True)
    for row in content.rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made
