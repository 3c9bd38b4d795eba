"""Figures of weights and masks: where survivors began, how far they went, which inputs they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tombola.analysis.weights import HistogramRow, InputRow
from tombola.report.columns import per_cent
from tombola.report.drawing import INK, SHADES, WIDTH, canvas, legend, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["initial_weights", "input_connections", "movement"]

_MEASURES = {"distance": "distance moved", "growth": "growth of the size"}


def initial_weights(rows: Sequence[HistogramRow]) -> Figure:
    """Share of weights over the initial weight, all of them and survivors of some levels; a panel for each layer."""
    layers = list(dict.fromkeys(row.layer for row in rows))
    with canvas(0.6 + 2.0 * len(layers), len(layers)) as (figure, panels):
        for layer, [axes] in zip(layers, panels, strict=True):
            here = [row for row in rows if row.layer == layer]
            for number, level in enumerate(dict.fromkeys(row.level for row in here)):
                group = [row for row in here if row.level == level]
                every = group[0].group == "all"
                name = "all weights" if every else f"survivors at {per_cent(group[0].density)} %"
                _steps(axes, group, INK if every else SHADES[(number - 1) % len(SHADES)], name, filled=every)
            plain(axes, up="share (%)", title=layer)
        plain(panels[-1][0], up="share (%)", across="weight before training")
        legend(figure, panels[0][0])
    return figure


def movement(rows: Sequence[HistogramRow]) -> Figure:
    """Share of survivors and of pruned weights over |end - start| and |end| - |start| of the dense training."""
    layers = list(dict.fromkeys(row.layer for row in rows))
    with canvas(0.6 + 2.0 * len(layers), len(layers), 2) as (figure, panels):
        for layer, pair in zip(layers, panels, strict=True):
            for (measure, words), axes in zip(_MEASURES.items(), pair, strict=True):
                here = [row for row in rows if row.layer == layer and row.measure == measure]
                for group, colour in (("survivors", SHADES[0]), ("pruned", SHADES[2])):
                    _steps(axes, [row for row in here if row.group == group], colour, group)
                if measure == "growth":
                    axes.axvline(0, color=INK, linewidth=0.8)
                across = words if layer == layers[-1] else ""
                plain(axes, up="share (%)" if measure == "distance" else "", title=layer, across=across)
                axes.locator_params(axis="x", nbins=4)
        legend(figure, panels[0][0])
    return figure


def input_connections(rows: Sequence[InputRow]) -> Figure:
    """Weights left to each input unit, as an image for each of up to four levels with its own scale."""
    levels = list(dict.fromkeys(row.level for row in rows))[:4]
    columns = 1 if len(levels) == 1 else 2
    lines = -(-len(levels) // columns)
    with canvas(0.2 + lines * WIDTH / 2, lines, columns) as (figure, panels):
        flat = [axes for line in panels for axes in line]
        for level, axes in zip(levels, flat, strict=False):
            _image(figure, axes, [row for row in rows if row.level == level])
        for axes in flat[len(levels) :]:
            axes.set_axis_off()
    return figure


def _image(figure: Figure, axes: Axes, rows: Sequence[InputRow]) -> None:
    height, width = 1 + max(row.row for row in rows), 1 + max(row.column for row in rows)
    grid = [[0] * width for _ in range(height)]
    for row in rows:
        grid[row.row][row.column] = row.connections
    shown = axes.imshow(grid, cmap="viridis", vmin=0, vmax=max(1, *map(max, grid)), interpolation="nearest")
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, ticks=[0, max(1, *map(max, grid))])
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, labelsize=9.5, length=0)
    plain(axes, title=f"{per_cent(rows[0].density)} % of the weights")
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)


def _steps(axes: Axes, rows: Sequence[HistogramRow], colour: str, name: str, *, filled: bool = False) -> None:
    """The outline of a histogram; an empty group shows nothing."""
    if not any(row.weights for row in rows):
        axes.plot([], [], color=colour, label=name)
        return
    edges = [row.low for row in rows] + [rows[-1].high]
    heights = [100 * row.share for row in rows]
    if filled:
        axes.stairs(heights, edges, color=colour, alpha=0.35, fill=True, label=name)
    else:
        axes.stairs(heights, edges, color=colour, linewidth=1.5, label=name)
