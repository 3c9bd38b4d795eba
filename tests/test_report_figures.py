"""Figures of reports: every one can be drawn, restyled and written, and shows what its table says."""

from __future__ import annotations

import csv
import io
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from report_helpers import (
    Document,
    collapsed,
    every_document,
    make_document,
    on_screen,
    source,
    store,
)

from tombola.analysis import curves
from tombola.analysis.source import Source
from tombola.errors import UsageError
from tombola.report import figures_training
from tombola.report.captions import TITLES
from tombola.report.drawing import INK, thinned, value_limits
from tombola.report.figures import accuracy_versus_density, early_stop_versus_density
from tombola.report.files import for_paper, rows_csv, write_figures
from tombola.report.gallery import FIGURES, gallery
from tombola.report.summary import LevelRow, table
from tombola.statistics import Interval
from tombola.store import Store


@every_document
@pytest.mark.parametrize("draw", [accuracy_versus_density, early_stop_versus_density])
def test_figures_can_be_saved(document: Document, draw: Callable[[list[LevelRow]], Figure]) -> None:
    out = io.BytesIO()
    draw(table(document)).savefig(out, format="png", dpi=40)
    assert out.getvalue().startswith(b"\x89PNG")


def test_figure_shows_every_arm_with_the_dense_network_on_the_left() -> None:
    rows = table(make_document())
    axes = accuracy_versus_density(rows).axes[0]
    left, right = axes.get_xlim()
    assert left > 1 > 0.8**17 > right
    assert axes.get_xscale() == "log"
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[0] == "100"
    assert labels[-1] == "2.3"
    names = axes.get_legend_handles_labels()[1]
    assert names == [
        "dense network",
        "ticket",
        "random re-initialisation",
        "shuffled mask",
        "re-initialised and rewound",
    ]
    assert axes.get_ylabel() == "test accuracy at early stop (%)"
    ticket = axes.get_lines()[names.index("ticket")]
    shown = [
        100 * row.accuracy_at_early_stop.mean for row in rows if row.arm == "ticket" and row.accuracy_at_early_stop
    ]
    assert np.asarray(ticket.get_ydata()).tolist() == pytest.approx(shown)


def test_regression_is_drawn_by_its_loss() -> None:
    axes = accuracy_versus_density(table(make_document(regression=True))).axes[0]
    assert axes.get_ylabel() == "lowest validation loss"


def test_means_far_below_are_counted_instead_of_drawn() -> None:
    axes = accuracy_versus_density(table(collapsed())).axes[0]
    assert axes.get_ylim()[0] > 80
    assert [text.get_text() for text in axes.texts] == ["8 means lie below this picture"]
    assert "8 means lie below this picture" in on_screen(collapsed())


def test_tick_labels_are_thinned_but_keep_both_ends() -> None:
    densities = [0.8**level for level in range(18)]
    chosen = thinned(densities, 0.4)
    assert (chosen[0], chosen[-1]) == (densities[0], densities[-1])
    assert all(math.log(a / b) >= 0.4 for a, b in pairwise(chosen))
    assert thinned([1.0], 0.0) == [1.0]


def test_one_wide_interval_does_not_flatten_the_picture() -> None:
    sharp = [Interval(mean=mean, low=mean - 0.1, high=mean + 0.1, n=5) for mean in (97.0, 97.5, 98.0)]
    low, high = value_limits([*sharp, Interval(mean=97.2, low=80.0, high=114.4, n=2)])
    assert 96 < low < 97
    assert 98 < high < 99


every_figure = pytest.mark.parametrize("name", FIGURES)


@every_figure
def test_every_figure_is_drawn_from_its_table_in_words_of_its_own(name: str) -> None:
    entry = FIGURES[name]
    rows = entry.table(source())
    figure, caption = entry.draw(rows), entry.caption(rows)
    assert isinstance(figure, Figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=40)
    assert out.getvalue().startswith(b"\x89PNG")
    assert caption.title == TITLES[name]
    assert all(text == "" or text.endswith(".") for text in (caption.see, caption.paper, caption.here))
    assert any(axes.has_data() for axes in figure.axes)


@every_figure
def test_a_figure_without_its_data_is_left_out_with_a_reason(name: str) -> None:
    shown, left_out = gallery(Source(document={"schema": 1, "arms": {}}))
    assert not shown
    (reason,) = [reason for reason, titles in left_out.items() if TITLES[name] in titles]
    assert reason
    assert not reason.endswith(".")


@every_document
def test_a_document_alone_gives_the_figures_it_has_data_for(document: Document) -> None:
    shown, left_out = gallery(Source(document=document))
    assert len(shown) + sum(map(len, left_out.values())) == len(FIGURES)
    assert "only the results document is at hand, not the store it came from" in left_out


def test_figures_are_written_as_three_files_each(tmp_path: Path) -> None:
    paths, left_out = write_figures(source(), tmp_path / "figures")
    names = sorted(path.name for path in paths)
    assert names == sorted(f"{name}.{ending}" for name in FIGURES for ending in ("svg", "png", "csv"))
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == names
    assert left_out == {}
    text = (tmp_path / "figures" / "accuracy.svg").read_text()
    assert "<text" in text


def test_the_same_rows_give_the_same_files(tmp_path: Path) -> None:
    document = Source(document=make_document(levels=2))
    first, second = (write_figures(document, tmp_path / name)[0] for name in "ab")
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_figures_that_cannot_be_written_are_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"figure .*accuracy.svg cannot be written"):
        write_figures(source(), tmp_path / "file")


def test_rows_become_columns_with_an_interval_in_four() -> None:
    rows = curves.train_test_gap(source())
    lines = list(csv.DictReader(io.StringIO(rows_csv(rows))))
    assert len(lines) == len(rows)
    assert float(lines[0]["gap"]) == rows[0].gap.mean
    assert float(lines[0]["gap_high"]) == rows[0].gap.high
    assert lines[0]["gap_n"] == "2"
    lone = replace(rows[0], gap=Interval(mean=0.5, low=None, high=None, n=1))
    assert next(csv.DictReader(io.StringIO(rows_csv([lone]))))["gap_low"] == ""
    assert rows_csv([]).strip() == ""


def test_a_figure_for_paper_is_dark_ink_on_white() -> None:
    figure = for_paper(accuracy_versus_density(table(make_document())))
    colours = {text.get_color() for axes in figure.axes for text in (axes.xaxis.label, axes.yaxis.label)}
    assert INK not in colours


def test_long_curves_are_thinned_in_the_picture_alone() -> None:
    level = [row for row in curves.learning_curves(source()) if row.level == 0]
    rows = [replace(level[-1], step=step) for step in range(1000)]
    line = figures_training.learning_curves(rows).axes[0].get_lines()[0]
    steps = np.asarray(line.get_xdata())
    assert len(steps) <= 120
    assert steps[-1] == 999


def test_what_the_store_has_lost_is_left_out(tmp_path: Path) -> None:
    shutil.copytree(store().root, tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "objects")
    shown, left_out = gallery(source(place=Store(tmp_path / "store", create=False)))
    reason = "the store no longer holds the states of the dense training"
    assert left_out[reason] == [TITLES["initial-weights"], TITLES["movement"]]
    assert {"accuracy", "learning-curves", "layers", "effort", "one-shot"} <= {one.name for one in shown}


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        ({"input_shape": [13]}, "inputs", "the inputs are no images"),
        ({"input_shape": [1, 4, 4]}, "inputs", "the first layer is not connected to single pixels"),
        ({"task": "another"}, "one-shot", "the store has no one-shot experiment that is otherwise the same"),
        ({"rows": []}, "learning-curves", "the store has no curve of a ticket"),
        ({"rows": []}, "effort", "the store has no fit of this experiment"),
        ({"rows": []}, "movement", "the store has no dense training of replicate 0"),
    ],
)
def test_the_reason_names_what_is_missing(changes: dict[str, Any], name: str, reason: str) -> None:
    _, left_out = gallery(source(**changes))
    assert TITLES[name] in left_out[reason]
