"""The tables of a league, once for everybody: terminal, page and Markdown write the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.league.words import accuracy, difference, facts, how, marks, per_cent

__all__ = ["Table", "markdown", "notes", "sanity", "standings", "versus"]

Part = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table of text: titles, rows, and how many columns at the left hold names."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1


def standings(division: Part, *, half: bool = True, ascii_only: bool = False) -> Table:
    """Competitors by rank: accuracy at each density with marks against each rival, and the mean."""
    densities = _densities(division)
    rivals = "/".join(division["rivals"])
    rows = [
        (
            "–" if one["rank"] is None else str(one["rank"]),
            one["name"],
            *(_score(score, one["name"], half=half, ascii_only=ascii_only) for score in one["scores"]),
            "–" if one["mean"] is None else f"{100 * one['mean']:.2f}",
        )
        for one in division["competitors"]
    ]
    titles = ("", f"vs. {rivals}" if rivals else "", *map(per_cent, densities), "mean")
    return Table(titles=titles, rows=_plain(rows, ascii_only), names=2)


def _score(score: Part, name: str, *, half: bool, ascii_only: bool) -> str:
    shown = "".join(
        "=" if rival == name else marks([found], ascii_only=ascii_only) for rival, found in score["against"].items()
    )
    return f"{accuracy(score['accuracy'], half=half)} {shown if score['accuracy'] else ''}".strip()


def sanity(division: Part, *, half: bool = True, ascii_only: bool = False) -> Table | None:
    """Ticket minus each of its controls, in points; None where the division has no controls."""
    if not division["controls"]:
        return None
    rows = []
    for one in division["competitors"]:
        for name in division["controls"]:
            parts = [score["controls"][name] for score in one["scores"]]
            if any(part["difference"] is not None for part in parts):
                rows.append((one["name"], name, *(_part(p, half=half, ascii_only=ascii_only) for p in parts)))
    titles = ("ticket", "minus its", *map(per_cent, _densities(division)))
    return Table(titles=titles, rows=_plain(rows, ascii_only), names=2) if rows else None


def versus(division: Part, rival: str) -> Table:
    """Competitor minus a rival, in points."""
    rows = [
        (one["name"], *(_part(score["against"][rival], half=True, ascii_only=False) for score in one["scores"]))
        for one in division["competitors"]
        if one["name"] != rival
    ]
    return Table(titles=(f"minus {rival}", *map(per_cent, _densities(division))), rows=rows)


def _part(found: Part, *, half: bool, ascii_only: bool) -> str:
    return f"{difference(found, half=half)} {marks([found], ascii_only=ascii_only)}".strip()


def _plain(rows: Sequence[Sequence[str]], ascii_only: bool) -> Sequence[Sequence[str]]:
    if not ascii_only:
        return rows
    return [[cell.replace("±", "+-").replace("–", "-") for cell in row] for row in rows]


def _densities(division: Part) -> list[float]:
    return [score["density"] for score in division["competitors"][0]["scores"]] if division["competitors"] else []


def notes(division: Part) -> list[str]:
    """What failed, competitor by competitor."""
    return [f"{one['name']}: {note}" for one in division["competitors"] for note in one["notes"]]


def markdown(document: Part) -> str:
    """All tables of a league document as Markdown, for a page of the documentation."""
    lines = [how(), ""]
    for division in document["divisions"]:
        lines += [f"### {division['title']}", "", *_markdown(standings(division)), ""]
        controls = sanity(division)
        if controls is not None:
            lines += ["Ticket minus its control, in points:", "", *_markdown(controls), ""]
        lines += [f"* {line}" for line in facts(division, document["margin"])]
        lines += [f"* {_escaped(line)}" for line in notes(division)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _markdown(table: Table) -> list[str]:
    lines = ["---"] * table.names + ["--:"] * (len(table.titles) - table.names)
    cells = [list(table.titles), lines, *([_escaped(cell) for cell in row] for row in table.rows)]
    return [f"| {' | '.join(row)} |" for row in cells]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("\n", " ")
