"""Figures of stability: errors on the line between two children, and barriers over the step that they start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tombola.analysis.stability import THRESHOLD, BarrierRow, LineRow
from tombola.report.arms import arm_words
from tombola.report.columns import per_cent
from tombola.report.drawing import INK, SHADES, canvas, legend, plain
from tombola.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["barriers_over_step", "errors_between"]

_SHOWN = 4  # steps with panels of their own; more would make a page of panels
_MARKERS = "os^Dv"


def errors_between(rows: Sequence[LineRow]) -> Figure:
    """Error (per cent) over alpha on test and training set, a row of panels for each step, a line for each network.

    Dotted lines: batch-norm statistics interpolated; full ones: computed anew at each point (or there are none).
    """
    steps = sorted({row.step for row in rows})[:_SHOWN]
    faces = _faces(rows)
    with canvas(1.0 + 2.3 * len(steps), len(steps), 2) as (figure, panels):
        for (left, right), step in zip(panels, steps, strict=True):
            for axes, test in ((left, True), (right, False)):
                _draw_lines(axes, [row for row in rows if row.step == step], faces, test)
                _limits(axes, [_points(row.test if test else row.train).mean for row in rows])
                last = step == steps[-1]
                title = f"{'test' if test else 'training'} set, from step {step:,}"
                plain(axes, up="error (%)" if test else "", across="alpha" if last else "", title=title)
        legend(figure, panels[0][0], 3)
    return figure


def barriers_over_step(rows: Sequence[BarrierRow]) -> Figure:
    """Barrier (percentage points of error) over the step that children start from, test set above, training set below.

    The dashed line is the threshold under which a network counts as stable.
    """
    steps = sorted({row.step for row in rows})
    faces = _faces(rows)
    with canvas(6.0, 2) as (figure, [[above], [below]]):
        for axes, test in ((above, True), (below, False)):
            for number, (name, look) in enumerate(faces.items()):
                here = [row for row in rows if _name(row) == name]
                aside = 0.06 * (number - (len(faces) - 1) / 2)  # intervals side by side, not over each other
                points = [(steps.index(row.step) + aside, _points(row.test if test else row.train)) for row in here]
                _draw_barriers(axes, points, {**look, "label": name})
            axes.axhline(100 * THRESHOLD, color=INK, linestyle=(0, (5, 3)), linewidth=1.3, label="2 %: stable below")
            axes.set_xticks(range(len(steps)), [f"{step:,}" for step in steps])
            values = [_points(row.test if test else row.train) for row in rows]
            ends = [end for value in values for end in (value.low, value.high) if end is not None]
            _limits(axes, [100 * THRESHOLD, *(value.mean for value in values)], ends)
            plain(
                axes,
                up="barrier (points of error)",
                across="" if test else "step k that children start from",
                title="test set" if test else "training set",
            )
        legend(figure, above, 3)
    return figure


def _name(row: LineRow | BarrierRow) -> str:
    if row.arm == "dense":
        return arm_words("ticket", 0)
    return f"{'ticket' if row.arm == 'ticket' else arm_words(row.arm)}, {per_cent(row.density)} %"


def _faces(rows: Sequence[LineRow] | Sequence[BarrierRow]) -> dict[str, dict[str, Any]]:
    """Network -> colour, line and marker: levels by colour, the control dashed."""
    levels = sorted({row.level for row in rows if row.level})
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        colour = SHADES[levels.index(row.level) % len(SHADES)] if row.level else INK
        look = {"color": colour, "linestyle": "--" if row.arm == "shuffled" else "-"}
        found.setdefault(_name(row), {**look, "marker": _MARKERS[len(found) % len(_MARKERS)]})
    return found


def _draw_lines(axes: Axes, rows: Sequence[LineRow], faces: Mapping[str, Mapping[str, Any]], test: bool) -> None:
    normed = any(row.recomputed for row in rows)
    for name, look in faces.items():
        for recomputed in (False, True):
            here = [row for row in rows if _name(row) == name and row.recomputed == recomputed]
            raw = normed and not recomputed
            line: dict[str, Any] = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 1.6}
            line |= {"linestyle": ":", "linewidth": 1.1} if raw else {"label": name}
            means = [_points(row.test if test else row.train).mean for row in here]
            if means:
                axes.plot([row.alpha for row in here], means, **line)


def _draw_barriers(axes: Axes, points: Sequence[tuple[float, Interval]], look: Mapping[str, Any]) -> None:
    means = [value.mean for _, value in points]
    half = [value.half_width or 0.0 for _, value in points]
    axes.errorbar([at for at, _ in points], means, yerr=half, markersize=4.5, linewidth=1.5, elinewidth=1.0, **look)


def _limits(axes: Axes, values: Sequence[float], ends: Sequence[float] = ()) -> None:
    """An axis of errors that shows all values, and interval ends as far as they leave them legible; so much at least
    that a flat line looks flat."""
    low, high = min(values), max(values)
    reach = max(100 * THRESHOLD, high - low)
    low, high = max(min([low, *ends]), low - reach / 4), min(max([high, *ends]), high + reach / 4)
    room = max(0.0, 1.2 * 100 * THRESHOLD - (high - low))
    axes.set_ylim(low - 0.05 * reach, high + 0.05 * reach + room)


def _points(found: Interval) -> Interval:
    low, high = (None if end is None else 100 * end for end in (found.low, found.high))
    return Interval(mean=100 * found.mean, low=low, high=high, n=found.n)
