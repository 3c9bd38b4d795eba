"""All figures of a report, in order: where each one's table comes from, how it is drawn, what is said beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tombola.analysis import curves, stability, weights
from tombola.analysis.source import Absent, Source
from tombola.analysis.success import small_dense_success
from tombola.report import captions, figures, figures_stability, figures_training, figures_weights
from tombola.report.captions import Caption
from tombola.report.summary import LevelRow, table
from tombola.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "Entry", "Shown", "gallery"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One figure of the report.

    Args:
        table: the rows (frozen dataclasses) that it shows; raises `Absent` where the data are not there.
        draw: the rows as a matplotlib figure.
        caption: title and words, from the rows.
    """

    table: Callable[[Source], Sequence[Any]]
    draw: Callable[[Sequence[Any]], Figure]
    caption: Callable[[Sequence[Any]], Caption]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A figure that can be drawn: its name, rows, words and drawing function."""

    name: str
    rows: Sequence[Any]
    caption: Caption
    draw: Callable[[Sequence[Any]], Figure]


def _results(source: Source) -> list[LevelRow]:
    rows = table(source.document)
    if not rows:
        raise Absent("there are no results yet")
    return rows


def _study(rows: Callable[[stability.Study, Store], Sequence[Any]]) -> Callable[[Source], Sequence[Any]]:
    """Rows of the study of stability that was written last."""

    def found(source: Source) -> Sequence[Any]:
        made = rows(stability.latest(source), source.place)
        if not made:
            raise Absent("no stability has been measured: tombola stability")
        return made

    return found


FIGURES: dict[str, Entry] = {
    "accuracy": Entry(table=_results, draw=figures.accuracy_versus_density, caption=captions.accuracy),
    "early-stop": Entry(table=_results, draw=figures.early_stop_versus_density, caption=captions.early_stop),
    "learning-curves": Entry(
        table=curves.learning_curves, draw=figures_training.learning_curves, caption=captions.learning_curves
    ),
    "gap": Entry(table=curves.train_test_gap, draw=figures.gap_versus_density, caption=captions.gap),
    "layers": Entry(table=curves.layer_densities, draw=figures.density_per_layer, caption=captions.layers),
    "initial-weights": Entry(
        table=weights.initial_weights, draw=figures_weights.initial_weights, caption=captions.initial_weights
    ),
    "movement": Entry(table=weights.movement, draw=figures_weights.movement, caption=captions.movement),
    "inputs": Entry(table=weights.input_connections, draw=figures_weights.input_connections, caption=captions.inputs),
    "one-shot": Entry(table=curves.searches, draw=figures.oneshot_versus_iterative, caption=captions.one_shot),
    "small-dense": Entry(table=small_dense_success, draw=figures_training.success_rates, caption=captions.small_dense),
    "barriers": Entry(table=_study(stability.lines), draw=figures_stability.errors_between, caption=captions.barriers),
    "instability": Entry(
        table=_study(stability.barriers), draw=figures_stability.barriers_over_step, caption=captions.instability
    ),
    "effort": Entry(table=curves.effort, draw=figures_training.effort_per_level, caption=captions.effort),
}
"""Name -> figure. Page, files and tests go through this."""


def gallery(source: Source) -> tuple[list[Shown], Mapping[str, list[str]]]:
    """The figures whose data are there; and for the others, reason -> their titles."""
    shown: list[Shown] = []
    left_out: dict[str, list[str]] = {}
    for name, entry in FIGURES.items():
        try:
            rows = entry.table(source)
        except Absent as reason:
            left_out.setdefault(str(reason), []).append(captions.TITLES[name])
        else:
            shown.append(Shown(name=name, rows=rows, caption=entry.caption(rows), draw=entry.draw))
    return shown, left_out
