"""A picture of accuracy over density in letters, for terminals and plain text files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tombola.report.arms import Look, looks
from tombola.report.columns import per_cent
from tombola.report.drawing import thinned
from tombola.report.summary import DENSE_ARM, LevelRow, accuracy_floor, dense, has_accuracy

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["picture"]

_HEIGHT = 14
_WIDEST = 60
_GUTTER = 9  # characters left of the drawing
_UNICODE = {"axis": "│", "tick": "┤", "corner": "└", "floor": "─", "dense": "╌", "path": "·"}
_ASCII = {"axis": "|", "tick": "+", "corner": "+", "floor": "-", "dense": "-", "path": "."}

Signs = dict[str, str]
Cell = tuple[int, int]  # line from the top, column from the left


@dataclass(frozen=True, kw_only=True)
class _Canvas:
    """Where a density and a value lie on a grid of characters: log scale, 100 % on the left."""

    width: int
    largest: float
    smallest: float
    low: float
    high: float
    letters: dict[Cell, list[str]] = field(default_factory=dict)
    paths: dict[Cell, str] = field(default_factory=dict)

    def column(self, density: float) -> int:
        span = math.log(self.largest / self.smallest)
        return round(math.log(self.largest / density) / span * (self.width - 1)) if span else 0

    def line(self, value: float) -> int:
        return round((self.high - value) / (self.high - self.low) * (_HEIGHT - 1))

    def value(self, line: int) -> float:
        return self.high - (self.high - self.low) * line / (_HEIGHT - 1)

    def add(self, arm: str, points: Sequence[tuple[float, float]]) -> None:
        places = [(self.line(value), self.column(density)) for density, value in points]
        for line, column in places:
            here = self.letters.setdefault((line, column), [])
            if arm not in here:
                here.append(arm)
        for (line, column), (next_line, next_column) in pairwise(places):
            for between in range(column + 1, next_column):
                share = (between - column) / (next_column - column)
                self.paths.setdefault((round(line + share * (next_line - line)), between), arm)


def picture(rows: Sequence[LevelRow], width: int, *, ascii_only: bool = False) -> Text:
    """Means over density as a letter per arm with a legend, at most 60 x 14 characters and its axes.

    Shows test accuracy at early stop in per cent, or the lowest validation loss where there are no accuracies;
    density is on a log scale, the dense network on the left and as a dashed line. Where arms share a character,
    their letters take turns. `rows` come from `summary.table`, `width` is that of the terminal.
    """
    from rich.text import Text

    by_accuracy = has_accuracy(rows)
    points = [(row, mean) for row in rows if (mean := _mean(row, by_accuracy)) is not None]
    if not points:
        return Text("No results to draw yet.")
    floor = 100 * accuracy_floor(rows) if by_accuracy else -math.inf
    canvas = _canvas(points, floor, max(8, min(_WIDEST, width - _GUTTER - 1)))
    names = [row.arm for row, _ in points]
    for arm in dict.fromkeys(sorted(names, key=lambda name: name != DENSE_ARM)):
        canvas.add(arm, [(row.density, mean) for row, mean in points if row.arm == arm])
    reference = dense(rows)
    level = _mean(reference, by_accuracy) if reference else None
    signs = _ASCII if ascii_only else _UNICODE
    faces = looks(row.arm for row in rows)
    text = Text("test accuracy at early stop (%)\n" if by_accuracy else "lowest validation loss\n")
    _draw(text, canvas, signs, faces, None if level is None else canvas.line(level))
    text.append(_density_labels(canvas, [row.density for row, _ in points]))
    below = sum(mean < canvas.low for _, mean in points)
    if below:
        text.append(f"{' ' * _GUTTER}{below} {'mean lies' if below == 1 else 'means lie'} below this picture\n")
    shown = [faces[name] for name in dict.fromkeys(names)]
    return text.append_text(_legend(shown, width, "" if level is None else f"{signs['dense'] * 3} dense network"))


def _mean(row: LevelRow, by_accuracy: bool) -> float | None:
    if by_accuracy:
        return 100 * row.accuracy_at_early_stop.mean if row.accuracy_at_early_stop else None
    return row.validation_loss_min.mean if row.validation_loss_min else None


def _canvas(points: Sequence[tuple[LevelRow, float]], floor: float, width: int) -> _Canvas:
    means = [mean for _, mean in points if mean >= floor]
    densities = [row.density for row, _ in points]
    low, high = min(means), max(means)
    if high - low <= 1e-9 * abs(high):
        low, high = low - (abs(low) * 0.01 or 1.0), high + (abs(high) * 0.01 or 1.0)
    return _Canvas(width=width, largest=max(densities), smallest=min(densities), low=low, high=high)


def _draw(text: Text, canvas: _Canvas, signs: Signs, faces: Mapping[str, Look], dense_line: int | None) -> None:
    decimals = min(6, max(0, 1 - math.floor(math.log10(canvas.high - canvas.low))))
    for line in range(_HEIGHT):
        label = _short(canvas.value(line), decimals) if line % 4 == 1 else ""
        text.append(f"{label:>{_GUTTER - 2}} {signs['tick' if label else 'axis']}")
        for column in range(canvas.width):
            arms = canvas.letters.get((line, column))
            path = canvas.paths.get((line, column))
            if arms:
                face = faces[arms[column % len(arms)]]
                text.append(face.letter, style=f"bold {face.ansi}")
            elif path:
                text.append(signs["path"], style=faces[path].ansi)
            else:
                text.append(signs["dense"] if line == dense_line else " ")
        text.append("\n")
    text.append(f"{signs['corner']:>{_GUTTER}}{signs['floor'] * canvas.width}\n")


def _short(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text if len(text) <= _GUTTER - 2 else f"{value:.1e}"


def _density_labels(canvas: _Canvas, densities: Sequence[float]) -> str:
    span = math.log(canvas.largest / canvas.smallest)
    labels = [" "] * (canvas.width + 12)
    for density in thinned(densities, 8 * span / canvas.width):
        text = per_cent(density)
        start = canvas.column(density) + _GUTTER - len(text) // 2
        labels[start : start + len(text)] = text
    return "".join(labels).rstrip() + "\n" + " " * _GUTTER + "weights remaining (%), log scale\n"


def _legend(faces: Sequence[Look], width: int, reference: str) -> Text:
    """Letters and words of the arms, on as many lines as they need."""
    from rich.text import Text

    entries = [Text(reference)] if reference else []
    for face in faces:
        entry = Text().append(face.letter, style=f"bold {face.ansi}")
        entries.append(entry.append(f" {face.words}"))
    lines = [Text(" " * _GUTTER)]
    for entry in entries:
        if len(lines[-1]) > _GUTTER and len(lines[-1]) + len(entry) > width:
            lines.append(Text(" " * _GUTTER))
        lines[-1].append_text(entry).append("   ")
    for line in lines:
        line.rstrip()
    return Text("\n").join(lines)
