"""Figures of the table of a results document, for matplotlib, legible on light and on dark backgrounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tombola.report.arms import Look, looks
from tombola.report.columns import per_cent
from tombola.report.summary import DENSE_ARM, LevelRow, accuracy_floor, dense, has_accuracy
from tombola.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INK", "accuracy_versus_density", "early_stop_versus_density", "thinned", "value_limits"]

INK = "#767676"  # text and axes: contrast above 4 : 1 on white and on near-black
_SIZE_INCHES = (5.6, 4.2)

Value = Callable[[LevelRow], Interval | None]


def accuracy_versus_density(rows: Sequence[LevelRow]) -> Figure:
    """Test accuracy at early stop (per cent) over density (per cent, log, dense on the left).

    `rows` come from `summary.table`. Each arm is a line through its means with a band, the 95 % interval; the
    dense network is a dashed line with a band. What lies far below the ticket is counted in a note instead of drawn.
    Without accuracies the lowest validation loss is drawn.
    Returns a figure that belongs to no window; save it with `savefig`.
    """
    if rows and not has_accuracy(rows):
        return _figure(rows, lambda row: row.validation_loss_min, "lowest validation loss")
    floor = 100 * accuracy_floor(rows)
    return _figure(rows, lambda row: row.accuracy_at_early_stop, "test accuracy at early stop (%)", 100.0, floor)


def early_stop_versus_density(rows: Sequence[LevelRow]) -> Figure:
    """Early-stop step (optimizer steps) over density (per cent, log, dense on the left), drawn like the accuracy."""
    return _figure(rows, lambda row: row.early_stop, "early-stop step (optimizer steps)")


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


def _figure(rows: Sequence[LevelRow], value: Value, label: str, scale: float = 1.0, floor: float = -math.inf) -> Figure:
    from matplotlib import style
    from matplotlib.figure import Figure

    # A reader's own matplotlib settings must not change what a document looks like.
    with style.context("default"):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained", facecolor="none")
        axes = figure.subplots()
        drawn = [row for row in rows if value(row) is not None]
        if drawn:
            _draw(axes, drawn, value, scale, looks(row.arm for row in rows))
            _density_axis(axes, [row.density for row in drawn])
            _value_axis(axes, [_scaled(row, value, scale) for row in drawn], floor)
        else:
            axes.text(0.5, 0.5, "no results yet", color=INK, ha="center", va="center", transform=axes.transAxes)
            axes.set_xticks([])
            axes.set_yticks([])
        _plain_axes(axes, label)
        handles, _ = axes.get_legend_handles_labels()
        if handles:
            figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=9.5)
    return figure


def _draw(axes: Axes, rows: Sequence[LevelRow], value: Value, scale: float, faces: Mapping[str, Look]) -> None:
    reference = dense(rows)
    if reference is not None:
        _draw_dense(axes, _scaled(reference, value, scale))
    for arm, look in faces.items():
        points = [(row.density, _scaled(row, value, scale)) for row in rows if row.arm == arm]
        if points:
            _draw_arm(axes, points, look, front=arm == DENSE_ARM)


def _value_axis(axes: Axes, values: Sequence[Interval], floor: float) -> None:
    low, high = value_limits(values)
    below = sum(value.mean < floor for value in values)
    axes.set_ylim(max(low, floor) if below else low, high)
    axes.ticklabel_format(axis="y", useOffset=False)
    if below:
        note = f"{below} {'mean lies' if below == 1 else 'means lie'} below this picture"
        axes.text(0.01, 0.02, note, color=INK, fontsize=9, transform=axes.transAxes)


def _draw_arm(axes: Axes, points: Sequence[tuple[float, Interval]], look: Look, *, front: bool) -> None:
    across = [density for density, _ in points]
    low = [at.mean if at.low is None else at.low for _, at in points]
    high = [at.mean if at.high is None else at.high for _, at in points]
    axes.fill_between(across, low, high, color=look.colour, alpha=0.16, linewidth=0)
    axes.plot(
        across,
        [at.mean for _, at in points],
        color=look.colour,
        marker=look.marker,
        markersize=4.5,
        linewidth=1.5,
        label=look.words,
        zorder=4 if front else 3,
    )


def _draw_dense(axes: Axes, at: Interval) -> None:
    if at.low is not None and at.high is not None:
        axes.axhspan(at.low, at.high, color=INK, alpha=0.14, linewidth=0)
    axes.axhline(at.mean, color=INK, linestyle=(0, (5, 3)), linewidth=1.3, label="dense network")


def _density_axis(axes: Axes, densities: Sequence[float]) -> None:
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


def _plain_axes(axes: Axes, label: str) -> None:
    axes.set_facecolor("none")
    axes.set_xlabel("weights remaining (%), log scale", color=INK, fontsize=10.5)
    axes.set_ylabel(label, color=INK, fontsize=10.5)
    axes.tick_params(colors=INK, labelsize=9.5)
    axes.grid(visible=True, color=INK, alpha=0.2, linewidth=0.6)
    for name, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(name in ("left", "bottom"))


def _scaled(row: LevelRow, value: Value, scale: float) -> Interval:
    found = value(row)
    assert found is not None  # rows without a value are left out before anything is drawn
    low, high = (None if end is None else end * scale for end in (found.low, found.high))
    return Interval(mean=found.mean * scale, low=low, high=high, n=found.n)
