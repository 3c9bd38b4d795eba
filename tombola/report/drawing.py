"""What all figures share: a canvas, quiet axes, the axis of densities, ink for light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tombola.report.columns import per_cent
from tombola.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "INK",
    "SHADES",
    "WIDTH",
    "Canvas",
    "band",
    "canvas",
    "density_axis",
    "legend",
    "no_data",
    "plain",
    "thinned",
    "value_limits",
]

INK = "#767676"  # text and axes: contrast above 4 : 1 on white and on near-black
WIDTH = 5.6  # inches, of every figure: a page scales them all alike
SHADES = ("#1b7fc4", "#00936b", "#d55e00", "#c061a0")
"""Colours of levels, from the densest on; the dense network has the ink's."""

Canvas = tuple["Figure", "list[list[Axes]]"]


@contextmanager
def canvas(height: float, rows: int = 1, columns: int = 1) -> Iterator[Canvas]:
    """An empty transparent figure `height` inches high, and its panels, to be drawn on inside the context.

    A reader's own matplotlib settings do not change what a document looks like.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context("default"):
        figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="none")
        yield figure, figure.subplots(rows, columns, squeeze=False).tolist()


def thinned(densities: Iterable[float], gap: float) -> list[float]:
    """Densities for tick labels, at least a factor exp(`gap`) apart: the largest, the smallest and what fits between.

    >>> thinned([1.0, 0.9, 0.5, 0.25, 0.22], 0.3)
    [1.0, 0.5, 0.22]
    """
    chosen: list[float] = []
    ordered = sorted(set(densities), reverse=True)
    for density in ordered:
        room = math.log(density / ordered[-1]) >= gap or density in (ordered[0], ordered[-1])
        if room and (not chosen or math.log(chosen[-1] / density) >= gap):
            chosen.append(density)
    return chosen


def value_limits(values: Sequence[Interval]) -> tuple[float, float]:
    """Lower and upper end of an axis that shows every mean, and intervals as far as they leave the means legible.

    An interval of two or three replicates can be ten times as wide as all the differences between arms.
    """
    means = [value.mean for value in values]
    low, high = min(means), max(means)
    ends = [end for value in values for end in (value.low, value.high) if end is not None]
    widths = sorted(value.half_width or 0.0 for value in values)
    reach = max((high - low) / 2, 2 * widths[len(widths) // 2])
    low, high = max(min([low, *ends]), low - reach), min(max([high, *ends]), high + reach)
    margin = 0.05 * (high - low) or abs(high) * 0.01 or 1.0
    return low - margin, high + margin


def density_axis(axes: Axes, densities: Sequence[float], *, label: bool = True) -> None:
    """Weights remaining in per cent on a log scale, the dense network on the left."""
    from matplotlib.ticker import FixedLocator, NullLocator

    largest, smallest = max(densities), min(densities)
    span = math.log(largest / smallest)
    ticks = thinned(densities, span / 9)
    axes.set_xscale("log")
    edge = math.exp(max(0.03 * span, 0.02))
    axes.set_xlim(largest * edge, smallest / edge)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [per_cent(tick) for tick in ticks])
    if label:
        axes.set_xlabel("weights remaining (%), log scale")


def plain(axes: Axes, *, across: str = "", up: str = "", title: str = "") -> None:
    """Quiet axes: two spines, a faint grid, everything in ink, with labels and a small title where given."""
    axes.set_facecolor("none")
    axes.set_xlabel(across or axes.get_xlabel(), color=INK, fontsize=10.5)
    axes.set_ylabel(up, color=INK, fontsize=10.5)
    if title:
        axes.set_title(title, color=INK, fontsize=10.5, loc="left")
    axes.tick_params(colors=INK, which="both", labelsize=9.5)
    axes.grid(visible=True, color=INK, alpha=0.2, linewidth=0.6)
    for name, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(name in ("left", "bottom"))


def legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """The names of what one panel shows, below the figure."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            labelcolor=INK,
            fontsize=9.5,
        )


def no_data(axes: Axes) -> None:
    """A panel that has nothing to show says so."""
    axes.text(0.5, 0.5, "no results yet", color=INK, ha="center", va="center", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def band(axes: Axes, points: Sequence[tuple[float, Interval]], *, colour: str, **line: Any) -> None:
    """A line through the means of `points` (place, interval), with a band for the intervals."""
    across = [place for place, _ in points]
    low = [at.mean if at.low is None else at.low for _, at in points]
    high = [at.mean if at.high is None else at.high for _, at in points]
    axes.fill_between(across, low, high, color=colour, alpha=0.16, linewidth=0)
    look: dict[str, Any] = {"color": colour, "linewidth": 1.5, **line}
    axes.plot(across, [at.mean for _, at in points], **look)
