"""Reports: documents become tables, screens and spreadsheets that say what was measured."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys

import pytest
from report_helpers import (
    Document,
    all_diverged,
    every_document,
    make_document,
    on_screen,
    small_document,
)
from rich.console import Console

from tombola.errors import UsageError
from tombola.report.arms import looks
from tombola.report.columns import headline, loss
from tombola.report.spreadsheet import to_csv
from tombola.report.summary import dense, table
from tombola.report.terminal import render
from tombola.statistics import interval


def test_table_averages_draws_first_and_counts_what_diverged() -> None:
    (row,) = table(small_document())
    assert (row.arm, row.level, row.density, row.kept) == ("reinit", 1, 0.8, 80)
    assert (row.replicates, row.fits, row.diverged) == (2, 4, 1)
    assert row.accuracy_at_early_stop == interval([(0.90 + 0.94) / 2, 0.96])
    assert row.early_stop is None
    assert row.accuracy_end is None


def test_table_is_sorted_by_level_then_by_the_order_of_arms() -> None:
    document = make_document(arms=("ticket", "shuffled", "b", "a"), levels=2, gaps=False)
    rows = table(document)
    assert [(row.level, row.arm) for row in rows] == [(0, "ticket")] + [
        (level, arm) for level in (1, 2) for arm in ("ticket", "shuffled", "b", "a")
    ]
    reference = dense(rows)
    assert reference is rows[0]
    assert reference.density == 1


def test_a_level_where_everything_diverged_keeps_its_row() -> None:
    row = next(row for row in table(all_diverged()) if row.arm == "ticket" and row.level == 17)
    assert (row.diverged, row.fits, row.accuracy_at_early_stop) == (5, 5, None)
    assert row.density == pytest.approx(0.8**17)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"schema": 2, "arms": {}}, "schema 2, expected 1"),
        ({}, "schema None, expected 1"),
        ({"schema": 1}, "no 'arms'"),
        ({"schema": 1, "arms": {"ticket": [{"replicate": 0, "level": 0}]}}, "arm 'ticket' has no 'density'"),
    ],
)
def test_other_documents_are_refused(document: Document, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        table(document)


def test_headline_states_the_facts_at_the_sparsest_level_without_a_verdict() -> None:
    text = headline(table(make_document(gaps=False))).replace("\u00a0", " ")
    assert text.startswith("At 2.3 % of the weights (level 17), test accuracy at early stop")
    assert re.search(r"ticket 9\d\.\d\d ± 0\.\d\d %; dense network 9\d\.\d\d ± 0\.\d\d %; random re-init", text)
    assert not re.search("winning|matching|losing|better|worse", text)
    assert "ticket diverged 5/5" in headline(table(all_diverged()))
    assert headline(table(make_document(levels=0))).startswith("Before any pruning")
    assert "lowest validation loss" in headline(table(make_document(regression=True)))


def test_losses_keep_decimals_that_mean_something() -> None:
    assert loss(interval([0.12345])) == "0.1235"
    assert loss(interval([0.00001234])) == "1.23e-05"
    assert loss(interval([123456.7])) == "123,457"
    assert loss(interval([0.0, 0.0])) == "0.0000 ± 0.0000"
    assert loss(None) == "-"


def test_arms_never_share_a_letter_and_keep_their_look() -> None:
    faces = looks(["zebra", "ticket", "reinit", "random", "shuffled", "tango"])
    assert len({face.letter for face in faces.values()}) == 6
    assert len({(face.colour, face.marker) for face in faces.values()}) == 6
    assert faces["ticket"] == looks(["ticket"])["ticket"]


@every_document
@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize("terminal", [True, False])
def test_terminal_fits_any_width(document: Document, width: int, terminal: bool) -> None:
    text = on_screen(document, width, terminal=terminal)
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert max(map(len, plain.splitlines())) <= width
    assert ("\x1b" in text) is terminal


@pytest.mark.parametrize("width", [40, 80, 120])
def test_terminal_shows_the_numbers(width: int) -> None:
    document = make_document()
    text = on_screen(document, width)
    row = next(row for row in table(document) if row.arm == "ticket" and row.level == 17)
    assert row.accuracy_at_early_stop is not None
    assert (
        f"{100 * row.accuracy_at_early_stop.mean:.2f} ± {100 * (row.accuracy_at_early_stop.half_width or 0):.2f}"
        in text
    )
    assert "2.25" in text
    assert re.search(r"diverged \d/\d", text)
    assert "┤" in text
    assert "T ticket" in text


def test_terminal_shows_a_dash_and_the_loss_for_regression() -> None:
    text = on_screen(make_document(regression=True))
    assert re.search(r"dense +\d+ ± \d+ +- +0\.\d{4} ± 0\.\d{4}", text)


def test_terminal_survives_hostile_names_and_ascii() -> None:
    document = make_document(arms=("ticket", "[red]\x1b[2J"), levels=2) | {"recipe": "[bold]x[/bold]\x1b]0;y\x07"}
    text = on_screen(document)
    assert "[bold]x[/bold]?]0;y?" in text
    assert "\x1b" not in text
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    render(make_document(), Console(file=raw, width=80))
    raw.flush()


def test_spreadsheet_has_one_line_per_row_with_layers_as_columns() -> None:
    document = make_document()
    document["arms"]["reinit"][0]["kept_per_layer"] = {'odd, "name"': 7}
    lines = list(csv.DictReader(io.StringIO(to_csv(document))))
    assert len(lines) == sum(map(len, document["arms"].values()))
    first = document["arms"]["ticket"][0]
    assert lines[0]["arm"] == "ticket"
    assert float(lines[0]["test_accuracy"]) == first["test_accuracy"]
    assert lines[0]["kept:fc1.weight"] == "235200"
    assert lines[0]["diverged"] == "false"
    assert [line['kept:odd, "name"'] for line in lines].count("7") == 1
    lost = next(line for line in lines if line["diverged"] == "true")
    assert lost["test_accuracy"] == ""
    assert to_csv({"arms": {}}) == "arm\n"


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    modules = "page, figures, terminal, spreadsheet, svg, plot"
    code = f"import sys; from tombola.report import {modules}; print([m for m in HEAVY if m in sys.modules])"
    heavy = ("matplotlib", "jinja2", "rich", "scipy", "numpy", "torch")
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {heavy}; {code}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
