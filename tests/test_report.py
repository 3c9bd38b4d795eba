"""Reports: documents become tables, pictures, screens and pages that say what was measured."""

from __future__ import annotations

import csv
import io
import math
import random
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from tombola.errors import UsageError
from tombola.report.arms import looks
from tombola.report.columns import headline, loss
from tombola.report.figures import accuracy_versus_density, early_stop_versus_density, thinned, value_limits
from tombola.report.page import page, write_page
from tombola.report.spreadsheet import to_csv
from tombola.report.summary import LevelRow, dense, table
from tombola.report.terminal import render
from tombola.statistics import Interval, interval

METRICS = ("early_stop_step", "test_accuracy_at_early_stop", "test_accuracy", "train_accuracy", "validation_loss_min")


def make_document(
    *,
    arms: tuple[str, ...] = ("ticket", "reinit", "shuffled", "reinit-rewound"),
    replicates: int = 5,
    levels: int = 17,
    regression: bool = False,
    gaps: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """A results document with curves like those of LeNet on digits; with `gaps`, some fits diverge or are missing."""
    draw = random.Random(seed)
    rows: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for replicate in range(replicates):
        shift = draw.gauss(0, 0.002)
        for level in range(levels + 1):
            for arm in arms if level else arms[:1]:
                for number in range(2 if arm == "reinit" and level else 1):
                    if gaps and draw.random() < 0.03 and level:
                        continue
                    lost = gaps and arm != "ticket" and level > 12 and draw.random() < 0.15
                    row = make_row(arm, level, shift, draw, regression)
                    row |= {"replicate": replicate, "draw": number}
                    if lost:
                        row |= dict.fromkeys(METRICS) | {"diverged": True}
                    rows[arm].append(row)
    return {"schema": 1, "recipe": "digits-lenet", "experiment": "3f" * 16, "arms": rows}


def make_row(arm: str, level: int, shift: float, draw: random.Random, regression: bool) -> dict[str, Any]:
    density = 0.8**level
    gain = 0.004 * math.sin(min(level, 12) / 12 * math.pi) - 0.012 * max(0, level - 12) / 5
    loss = -0.0016 * level - 0.00012 * level**2.2
    change = {"ticket": gain, "reinit-rewound": 0.6 * loss + 0.001}.get(arm, loss)
    accuracy = 0.968 + shift + change + draw.gauss(0, 0.0015)
    slow = 40 * level if arm != "ticket" else -130 * math.sin(min(level, 14) / 14 * math.pi)
    kept = {"fc1.weight": round(235_200 * density), "fc2.weight": round(30_000 * density)}
    return {
        "diverged": False,
        "level": level,
        "density": density,
        "kept": sum(kept.values()),
        "prunable": 265_200,
        "kept_per_layer": kept,
        "early_stop_step": round(420 + slow + draw.gauss(0, 25), -1),
        "test_accuracy_at_early_stop": None if regression else accuracy,
        "test_accuracy": None if regression else accuracy - 0.002,
        "train_accuracy": None if regression else 1.0,
        "validation_loss_min": 4 * (1 - accuracy),
        "mask_digest": f"{level:02x}" * 8,
        "fit_digest": f"{level:02x}{arm}",
    }


Document = dict[str, Any]


def all_diverged() -> Document:
    document = make_document(gaps=False)
    for arm in ("ticket", "reinit"):
        for row in document["arms"][arm]:
            if row["level"] == 17:
                row.update(dict.fromkeys(METRICS), diverged=True)
    return document


def without_ticket() -> Document:
    document = make_document()
    del document["arms"]["ticket"]
    return document


def collapsed() -> Document:
    document = make_document(gaps=False)
    for row in document["arms"]["reinit"]:
        if row["level"] > 9:
            row["test_accuracy_at_early_stop"] = 0.11
    return document


DOCUMENTS = {
    "full": make_document(),
    "one replicate": make_document(replicates=1),
    "two replicates": make_document(replicates=2),
    "level 0 only": make_document(levels=0),
    "one arm": make_document(arms=("ticket",)),
    "new arms": make_document(arms=("ticket", "random-tickets", "synflow", "snip", "small-dense", "reinit", "a", "b")),
    "without ticket": without_ticket(),
    "all diverged": all_diverged(),
    "collapsed": collapsed(),
    "regression": make_document(regression=True),
    "an arm without rows": make_document() | {"arms": {"ticket": [], "reinit": []}},
    "no arms": {"schema": 1, "recipe": "empty", "experiment": "0", "arms": {}},
}
every_document = pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())


def on_screen(document: Document, width: int = 80, *, terminal: bool = False) -> str:
    screen = io.StringIO()
    render(
        document,
        Console(file=screen, width=width, force_terminal=terminal, color_system="truecolor" if terminal else "auto"),
    )
    return screen.getvalue()


def small_document() -> Document:
    """Two replicates at level 1 with two draws each, one of which diverged; the means can be worked out by hand."""
    rows: list[dict[str, Any]] = [
        {"replicate": 0, "draw": 0, "test_accuracy_at_early_stop": 0.90},
        {"replicate": 0, "draw": 1, "test_accuracy_at_early_stop": 0.94},
        {"replicate": 1, "draw": 0, "test_accuracy_at_early_stop": 0.96},
        {"replicate": 1, "draw": 1, "diverged": True},
    ]
    common: dict[str, Any] = dict.fromkeys(METRICS) | {
        "level": 1,
        "density": 0.8,
        "kept": 80,
        "prunable": 100,
        "diverged": False,
    }
    common |= {"kept_per_layer": {"fc": 80}, "mask_digest": "m", "fit_digest": "f"}
    return {"schema": 1, "recipe": "small", "experiment": "e", "arms": {"reinit": [common | row for row in rows]}}


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


@every_document
def test_page_is_one_file_that_fetches_nothing(document: Document) -> None:
    text = page(document, details={})
    assert not re.search(r"https?://|src=|@import|<link|<script", text)
    assert text.count("<svg") == text.count("<figcaption") == (2 if table(document) else 0)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    targets = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
    assert set(targets) <= set(ids)


def test_page_holds_every_number_of_the_table_and_the_details() -> None:
    document = make_document()
    details = {
        "recipe": 'task = "digits"\n',
        "versions": {"torch": "2.9.1", "nested": {"a": 1}},
        "seeds": [0, 1, 2],
        "gpu": None,
        "command": "tombola run digits-lenet",
    }
    text = page(document, details=details)
    assert text.count('<th scope="row"') == len(table(document))
    assert "prefers-color-scheme: dark" in text
    assert "currentColor" in text
    for part in ("task = &#34;digits&#34;", "2.9.1", "0, 1, 2", "<pre>tombola run digits-lenet</pre>"):
        assert part in text


def test_page_escapes_hostile_strings() -> None:
    hostile = "<script>alert('x')</script>\"&"
    document = make_document(arms=("ticket", hostile), levels=2) | {"recipe": hostile, "experiment": hostile}
    text = page(document, details={hostile: {hostile: [hostile, 1]}, "recipe": hostile})
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_page_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    document, details = make_document(), {"versions": {"torch": "2.9.1"}}
    first = write_page(document, tmp_path / "first.html", details=details).read_bytes()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_report import make_document;"
        "from tombola.report.page import write_page;"
        "write_page(make_document(), sys.argv[2], details={'versions': {'torch': '2.9.1'}})"
    )
    target = tmp_path / "second.html"
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent), str(target)], check=True)
    assert target.read_bytes() == first


def test_page_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "page.html"
    write_page(make_document(levels=0), target, details={})
    assert write_page(make_document(levels=1), str(target), details={}) == target
    assert "level 1" in target.read_text(encoding="utf-8")
    assert list(target.parent.iterdir()) == [target]


def test_a_page_that_cannot_be_written_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write the page .*choose another path"):
        write_page(make_document(levels=0), tmp_path / "file" / "page.html", details={})
    with pytest.raises(UsageError, match="cannot write the page"):
        write_page(make_document(levels=0), tmp_path, details={})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


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
