"""Results documents for the tests of reports, and a small stored experiment with its one-shot counterpart."""

from __future__ import annotations

import atexit
import functools
import io
import math
import random
import tempfile
from typing import Any

import pytest
from rich.console import Console

from tombola.analysis.document import results_document
from tombola.analysis.source import Source
from tombola.experiment import prepare, run
from tombola.report.terminal import render
from tombola.stability.measures import measures_of
from tombola.stability.study import measure, rebuilt, study_of
from tombola.store import Store

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


CONTROLS = ("reinit", "shuffled", "small-dense")
SMALL: dict[str, Any] = {"levels": 2, "replicates": 2, "steps": 40, "eval_every": 10}


@functools.cache
def store() -> Store:
    """Two replicates of two levels on 8x8 images, iterative and one-shot, trained for 40 steps; with the stability of
    the former."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    for search in ("oneshot", "imp"):
        run("digits-lenet", store=folder.name, search=search, controls=CONTROLS, **SMALL)
    place = Store(folder.name, create=False)
    name, content = next((n, c) for n, c in place.experiments() if 'search = "imp"' in c["settings"])
    experiment = rebuilt(name, content, lambda recipe, engine: prepare(recipe, engine=engine))
    asked = measures_of(content, levels=(2,), shuffled=True, points=3, recompute=2, examples=100)
    measure(study_of(experiment, asked, place), place)
    return place


def source(search: str = "imp", place: Store | None = None, **changes: Any) -> Source:
    """The stored experiment of this search; `changes` are to what the store notes about it."""
    place = place or store()
    for digest, content in place.experiments():
        if f'search = "{search}"' in content["settings"]:
            document = results_document(digest, content, place)
            return Source(document=document, digest=digest, content={**content, **changes}, store=place)
    raise AssertionError(search)
