"""Figures over density: what tickets, their controls and the dense network reach as weights go."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from tombola.analysis.curves import GapRow, LayerRow, SearchRow
from tombola.report.arms import Look, arm_words, looks
from tombola.report.drawing import INK, SHADES, band, canvas, density_axis, legend, no_data, plain, value_limits
from tombola.report.summary import DENSE_ARM, LevelRow, accuracy_floor, has_accuracy
from tombola.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "accuracy_versus_density",
    "density_per_layer",
    "early_stop_versus_density",
    "gap_versus_density",
    "oneshot_versus_iterative",
]

_ACCURACY = "test accuracy at early stop (%)"
_EARLY_STOP = "early-stop step (optimizer steps)"


class _Row(Protocol):
    """One arm at one level."""

    @property
    def arm(self) -> str: ...
    @property
    def level(self) -> int: ...
    @property
    def density(self) -> float: ...


_Points = Sequence[tuple[_Row, Interval]]


def accuracy_versus_density(rows: Sequence[LevelRow]) -> Figure:
    """Test accuracy at early stop (per cent) over density (per cent, log, dense on the left).

    `rows` come from `summary.table`. Each arm is a line through its means with a band, the 95 % interval; the
    dense network is a dashed line with a band. What lies far below the ticket is counted in a note instead of drawn.
    Without accuracies the lowest validation loss is drawn.
    Returns a figure that belongs to no window; save it with `savefig`.
    """
    if rows and not has_accuracy(rows):
        return _over_density(_measured(rows, lambda row: row.validation_loss_min), "lowest validation loss")
    points = _measured(rows, lambda row: row.accuracy_at_early_stop, 100.0)
    return _over_density(points, _ACCURACY, 100 * accuracy_floor(rows))


def early_stop_versus_density(rows: Sequence[LevelRow]) -> Figure:
    """Early-stop step (optimizer steps) over density (per cent, log, dense on the left), drawn like the accuracy."""
    return _over_density(_measured(rows, lambda row: row.early_stop), _EARLY_STOP)


def gap_versus_density(rows: Sequence[GapRow]) -> Figure:
    """Training minus test accuracy at the end (percentage points) over density, drawn like the accuracy."""
    points = [(row, _times(row.gap, 100.0)) for row in rows]
    return _over_density(points, "training - test accuracy (points)")


def density_per_layer(rows: Sequence[LayerRow]) -> Figure:
    """Weights that each prunable tensor keeps (per cent, log) over those of the whole network (per cent, log)."""
    with canvas(4.2) as (figure, [[axes]]):
        layers = list(dict.fromkeys(row.layer for row in rows))
        for number, layer in enumerate(layers):
            here = [row for row in rows if row.layer == layer and row.kept > 0]
            size = max(4.0, 9.0 - 2.0 * number)  # lines that coincide stay visible
            look: dict[str, Any] = {"color": _layer_colour(number, len(layers)), "marker": "os^Dv"[number % 5]}
            named = len(layers) <= 8 or number in (0, len(layers) // 2, len(layers) - 1)
            name = layer if named else "_"
            across, up = [row.density for row in here], [100 * row.layer_density for row in here]
            axes.plot(across, up, label=name, markersize=size, linewidth=size / 3, **look)
        densities = [row.density for row in rows]
        ends = sorted({min(densities), max(densities)})
        axes.plot(ends, [100 * end for end in ends], color=INK, linestyle=(0, (5, 3)), label="whole network", zorder=1)
        density_axis(axes, densities)
        _per_cent_scale(axes)
        plain(axes, up="weights of the layer remaining (%)")
        legend(figure, axes, 3)
    return figure


def oneshot_versus_iterative(rows: Sequence[SearchRow]) -> Figure:
    """Test accuracy at early stop (per cent) and early-stop step of the tickets of two searches over density."""
    named = {"imp": ("iterative", SHADES[0], "o"), "oneshot": ("one-shot", SHADES[2], "s")}
    with canvas(6.4, 2) as (figure, [[above], [below]]):
        for search, group in groupby(rows, key=lambda row: row.search):
            here = list(group)
            words, colour, marker = named.get(search, (search, SHADES[1], "^"))
            look: dict[str, Any] = {"colour": colour, "marker": marker, "markersize": 4.5, "label": words}
            right = [(row.density, _times(row.accuracy, 100.0)) for row in here if row.accuracy is not None]
            band(above, right, **look)
            band(below, [(row.density, row.early_stop) for row in here if row.early_stop is not None], **look)
        for axes, values in (
            (above, [_times(row.accuracy, 100.0) for row in rows if row.accuracy]),
            (below, [row.early_stop for row in rows if row.early_stop]),
        ):
            if values:
                _value_axis(axes, values, -math.inf)
        for axes, label in ((above, _ACCURACY), (below, _EARLY_STOP)):
            density_axis(axes, [row.density for row in rows], label=axes is below)
            plain(axes, up=label)
        legend(figure, above)
    return figure


def _measured(rows: Sequence[LevelRow], value: Callable[[LevelRow], Interval | None], scale: float = 1.0) -> _Points:
    """The rows that have a value, with that value in the unit of the picture."""
    return [(row, _times(found, scale)) for row in rows if (found := value(row)) is not None]


def _over_density(points: _Points, label: str, floor: float = -math.inf) -> Figure:
    with canvas(4.2) as (figure, [[axes]]):
        if points:
            _draw(axes, points, looks(row.arm for row, _ in points))
            density_axis(axes, [row.density for row, _ in points])
            _value_axis(axes, [value for _, value in points], floor)
        else:
            no_data(axes)
        plain(axes, up=label, across="weights remaining (%), log scale")
        legend(figure, axes)
    return figure


def _draw(axes: Axes, points: _Points, faces: Mapping[str, Look]) -> None:
    for row, value in points:
        if row.arm == DENSE_ARM and row.level == 0:
            _draw_dense(axes, value)
    for arm, look in faces.items():
        here = [(row.density, value) for row, value in points if row.arm == arm]
        style: dict[str, Any] = {
            "marker": look.marker,
            "markersize": 4.5,
            "label": look.words,
            "zorder": 4 if arm == DENSE_ARM else 3,
        }
        band(axes, here, colour=look.colour, **style)


def _draw_dense(axes: Axes, at: Interval) -> None:
    if at.low is not None and at.high is not None:
        axes.axhspan(at.low, at.high, color=INK, alpha=0.14, linewidth=0)
    axes.axhline(at.mean, color=INK, linestyle=(0, (5, 3)), linewidth=1.3, label=arm_words(DENSE_ARM, 0))


def _value_axis(axes: Axes, values: Sequence[Interval], floor: float) -> None:
    low, high = value_limits(values)
    below = sum(value.mean < floor for value in values)
    axes.set_ylim(max(low, floor) if below else low, high)
    axes.ticklabel_format(axis="y", useOffset=False)
    if below:
        note = f"{below} {'mean lies' if below == 1 else 'means lie'} below this picture"
        axes.text(0.01, 0.02, note, color=INK, fontsize=9, transform=axes.transAxes)


def _per_cent_scale(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _layer_colour(number: int, layers: int) -> str:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return SHADES[number] if layers <= len(SHADES) else to_hex(colormaps["viridis"](0.1 + 0.75 * number / (layers - 1)))


def _times(value: Interval, scale: float) -> Interval:
    low, high = (None if end is None else end * scale for end in (value.low, value.high))
    return Interval(mean=value.mean * scale, low=low, high=high, n=value.n)
