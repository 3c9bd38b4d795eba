"""The figure of a division: every competitor in a line, its accuracy at each density with the interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tombola.league.words import per_cent
from tombola.report.drawing import INK, canvas, legend, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["accuracies"]

_COLOURS = ("#1b7fc4", "#00936b", "#d55e00", "#c061a0", "#9a7a1e", "#8569d1")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINE = 0.19  # inches


def accuracies(division: Mapping[str, Any]) -> Figure:
    """Competitors from the first rank down; the dashed line is the dense network."""
    rows = [one for one in division["competitors"] if any(score["accuracy"] for score in one["scores"])]
    with canvas(1.3 + _LINE * max(3, len(rows))) as (figure, [[axes]]):
        densities = [score["density"] for score in rows[0]["scores"]] if rows else []
        for place, density in enumerate(densities):
            colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
            for line, one in enumerate(rows):
                found = one["scores"][place]["accuracy"]
                if found is None:
                    continue
                if found["low"] is not None:
                    ends = [100 * max(0.0, found["low"]), 100 * min(1.0, found["high"])]
                    axes.plot(ends, [line, line], color=colour, linewidth=1.2, alpha=0.55)
                label = per_cent(density) if line == 0 else None
                axes.plot(
                    [100 * found["mean"]], [line], marker, color=colour, markersize=4, linestyle="none", label=label
                )
        if division["dense"]:
            axes.axvline(100 * division["dense"]["mean"], color=INK, linewidth=1, linestyle="--", label="dense")
        axes.set_yticks(range(len(rows)), [one["name"] for one in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        plain(axes, across="test accuracy (%)")
        legend(figure, axes, columns=6)
    return figure
