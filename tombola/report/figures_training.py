"""Figures along the training and of its cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from tombola.analysis.curves import CurveRow, EffortRow
from tombola.analysis.success import SuccessRow
from tombola.report.arms import arm_words, looks
from tombola.report.columns import per_cent
from tombola.report.drawing import INK, SHADES, band, canvas, density_axis, legend, plain
from tombola.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["effort_per_level", "learning_curves", "success_rates"]

_POINTS = 120  # of a line; more cannot be told apart and make a page large


def learning_curves(rows: Sequence[CurveRow]) -> Figure:
    """Validation loss (log) and test metric (accuracy in per cent) over the optimizer step, a line for each level."""
    by_accuracy = any(row.metric == "accuracy" for row in rows)
    with canvas(6.6, 2) as (figure, [[above], [below]]):
        for number, (level, group) in enumerate(groupby(rows, key=lambda row: row.level)):
            here = _few(list(group))
            colour = INK if level == 0 else SHADES[(number - 1) % len(SHADES)]
            name = f"{'dense' if level == 0 else 'ticket'}, {per_cent(here[0].density)} %"
            look: dict[str, Any] = {"colour": colour, "label": name, "linestyle": (0, (5, 3)) if level == 0 else "-"}
            band(above, _along(here, lambda row: row.validation_loss), **look)
            points = _along(
                here, lambda row: row.test_metric if by_accuracy else row.test_loss, 100 if by_accuracy else 1
            )
            band(below, points, **look)
        _loss_axis(above, [row.validation_loss.mean for row in rows if row.validation_loss is not None])
        if by_accuracy:
            _accuracy_axis(below, rows)
        plain(above, up="validation loss, log scale")
        plain(below, up="test accuracy (%)" if by_accuracy else "test loss", across="optimizer step")
        legend(figure, above, 3)
    return figure


def effort_per_level(rows: Sequence[EffortRow]) -> Figure:
    """Computing time and optimizer steps of each level, all replicates together, stacked by arm."""
    levels = sorted({row.level for row in rows})
    seconds = max(sum(row.seconds for row in rows if row.level == level) for level in levels)
    unit, scale = ("hours", 3600) if seconds > 3 * 3600 else ("minutes", 60) if seconds > 180 else ("seconds", 1)
    with canvas(5.6, 2) as (figure, [[above], [below]]):
        _stack(above, rows, levels, lambda row: row.seconds / scale)
        _stack(below, rows, levels, lambda row: row.steps / 1000)
        plain(above, up=f"computing ({unit})")
        plain(below, up="steps (thousands)", across="level (prunings so far)")
        legend(figure, above)
    return figure


def success_rates(rows: Sequence[SuccessRow]) -> Figure:
    """Share of trainings (per cent) within the margin of the dense network over density, tickets and small networks."""
    named = looks(row.arm for row in rows)
    with canvas(4.2) as (figure, [[axes]]):
        for arm, look in named.items():
            here = [row for row in rows if row.arm == arm]
            across, up = [row.density for row in here], [100 * row.rate for row in here]
            axes.plot(
                across, up, color=look.colour, marker=look.marker, markersize=4.5, linewidth=1.5, label=look.words
            )
        density_axis(axes, [row.density for row in rows])
        axes.set_ylim(-4, 104)
        plain(axes, up="trainings within the margin (%)")
        legend(figure, axes)
    return figure


def _stack(axes: Axes, rows: Sequence[EffortRow], levels: Sequence[int], value: Callable[[EffortRow], float]) -> None:
    from matplotlib.ticker import MaxNLocator

    base = dict.fromkeys(levels, 0.0)
    for arm, look in looks(row.arm for row in rows).items():
        here = {row.level: value(row) for row in rows if row.arm == arm}
        name = f"{arm_words(arm)} (level 0: dense)" if arm == "ticket" else arm_words(arm)
        axes.bar(list(here), list(here.values()), bottom=[base[level] for level in here], color=look.colour, label=name)
        for level, height in here.items():
            base[level] += height
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set_axisbelow(True)


def _few(rows: Sequence[CurveRow]) -> list[CurveRow]:
    """At most about `_POINTS` of the rows, the last one among them."""
    every = math.ceil(len(rows) / _POINTS)
    return list(rows[::-1][::every][::-1])


def _along(
    rows: Sequence[CurveRow], value: Callable[[CurveRow], Interval | None], scale: float = 1
) -> list[tuple[float, Interval]]:
    points = []
    for row in rows:
        found = value(row)
        if found is not None:
            low, high = (None if end is None else end * scale for end in (found.low, found.high))
            points.append((float(row.step), Interval(mean=found.mean * scale, low=low, high=high, n=found.n)))
    return points


def _loss_axis(axes: Axes, heights: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    if not heights or min(heights) <= 0:
        return
    axes.set_yscale("log")
    # The lower end of an interval may lie below 0, where a log scale ends.
    axes.set_ylim(min(heights) * 0.8, max(heights) * 1.15)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def _accuracy_axis(axes: Axes, rows: Sequence[CurveRow]) -> None:
    """From a little below where the trainings end: the climb from chance would flatten what sets them apart."""
    last = {row.level: row.test_metric.mean for row in rows if row.test_metric is not None}
    highest = max((row.test_metric.mean for row in rows if row.test_metric is not None), default=1.0)
    if last:
        low = min(last.values()) - max(0.05, 1.5 * (highest - min(last.values())))
        axes.set_ylim(100 * max(0.0, low), 100 * highest + 0.08 * 100 * (highest - low))
