"""What people do with the command line, and what comes of it."""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import MODELS, NET, SMALL, arrays, call, document, files, good, images, targets, undrawn
from helpers import ended

from tombola.commands import pages
from tombola.executors import inline

RUN = ("run", "digits-lenet", *NET, *SMALL)
DRAWN = pages.experiment_page
ROW = [
    *(
        "replicate",
        "draw",
        "level",
        "diverged",
        "density",
        "kept",
        "prunable",
        "kept_per_layer",
        "effective",
        "early_stop_step",
    ),
    *("test_accuracy_at_early_stop", "test_accuracy", "train_accuracy", "validation_loss_min"),
    *("mask_digest", "fit_digest"),
]


def rows_of(found: Any) -> list[Any]:
    """All rows of a document."""
    return [row for rows in found["arms"].values() for row in rows]


@pytest.fixture(autouse=True, scope="module")
def _undrawn() -> Iterator[None]:
    with undrawn():
        yield


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is computed is a failure."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr(inline, "compute", refuse)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A store with one experiment, and its document. Copied by those who change it."""
    root = tmp_path_factory.mktemp("made")
    good(*RUN, "--store", root / "store", "--json", root / "x.json", "--quiet")
    return root / "store", document(root / "x.json")


@pytest.fixture
def store(made: tuple[Path, Any], here: Path) -> Path:
    """A copy of that store."""
    return Path(shutil.copytree(made[0], here / "copy"))


def test_a_run_shows_a_table_and_writes_page_json_and_store(here: Path) -> None:
    called = good(*RUN, "--json", "x.json")
    assert "lottery-ticket results" in called.out and "dense" in called.out and "tombola-store" in called.out
    first, *levels = called.err.splitlines()
    assert first == "engine: torch (not native: these are tests of the reference loop)"
    assert [line[:8] for line in levels] == ["level  0", "level  1"]
    found = document("x.json")
    [page] = (here / "tombola-store" / "reports").glob("*.html")
    assert str(page.relative_to(here)) in called.out and found["experiment"] in page.read_text()
    assert list(found) == ["schema", "recipe", "experiment", "arms"] and found["schema"] == 1
    assert {name: len(rows) for name, rows in found["arms"].items()} == {"ticket": 2, "reinit": 1, "shuffled": 1}
    for row in rows_of(found):
        assert list(row) == ROW
    dense, ticket = found["arms"]["ticket"]
    assert (dense["density"], dense["kept"]) == (1.0, dense["prunable"]) and dense["prunable"] == 8 * 64 + 8 * 10
    assert ticket["kept"] == sum(ticket["kept_per_layer"].values()) == 512 - 102 + 80 - 8


def test_the_same_command_again_computes_nothing(store: Path, made: tuple[Path, Any], idle: None) -> None:
    assert good(*RUN, "--store", store, "--json", "-").json == made[1]


def test_json_to_standard_output_is_nothing_but_json(here: Path) -> None:
    called = good(*RUN, "--json", "-")
    assert called.json["recipe"] == "digits-lenet" and "lottery-ticket results" in called.err
    assert list(good(*RUN, "--json", "-", "--dry-run").json)[:2] == ["schema", "dry_run"]


def test_an_explicit_engine_is_another_experiment(store: Path, made: tuple[Path, Any]) -> None:
    called = good(*RUN, "--engine", "torch", "--store", store, "--json", "x.json")
    assert "engine:" not in called.err  # what was asked for needs no word
    found = document("x.json")
    assert found["experiment"] != made[1]["experiment"]
    assert [row["test_accuracy"] for row in rows_of(found)] == [row["test_accuracy"] for row in rows_of(made[1])]
    shown = good("show", found["experiment"], "--store", store)
    assert "engine      torch (4 fits; not native: torch was asked for)\n" in shown.out
    again = good(*RUN, "--engine", "torch", "--store", store, "--dry-run", "--json", "-").json
    assert (again["fits"], again["stored"]) == (4, 4)


def test_the_page_is_drawn(store: Path, made: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "experiment_page", DRAWN)
    good("report", made[1]["experiment"], "--store", store, "--out", "p.html")
    assert made[1]["experiment"] in Path("p.html").read_text() and "<svg" in Path("p.html").read_text()


def test_quiet_says_nothing(here: Path) -> None:
    called = good(*RUN, "--quiet", "--page", "p.html")
    assert called.out == called.err == "" and (here / "p.html").exists()
    assert good(*RUN, "--dry-run", "--quiet").out == ""


def test_a_dry_run_writes_nothing(here: Path, idle: None) -> None:
    called = good(*RUN, "--dry-run")
    assert "4 fits, of which 0 are stored" in called.out and "20 steps" in called.out
    assert list(here.iterdir()) == []


def test_a_dry_run_knows_what_is_stored(store: Path, idle: None) -> None:
    before = files(store)
    called = good(*RUN, "--dry-run", "--store", store, "--draws", "2", "--json", "-")
    assert called.json == {**called.json, "fits": 5, "stored": 4, "steps": 5}
    assert files(store) == before


SETTINGS: dict[str, dict[str, int]] = {
    "--controls": {"ticket": 2},
    "--controls shuffled --seed 1": {"ticket": 2, "shuffled": 1},
    "--draws 2": {"ticket": 2, "reinit": 2, "shuffled": 1},
    "--search oneshot --levels 2": {"ticket": 3, "reinit": 2, "shuffled": 2},
    "--search gradual --schedule cubic:final=0.5,every=1 --levels 2": {
        "ticket": 2,
        "gradual": 1,
        "reinit": 1,
        "shuffled": 1,
    },
    "--allocation global": {"ticket": 2, "reinit": 1, "shuffled": 1},
    "--rewind-to 3": {"ticket": 2, "reinit": 1, "reinit-rewound": 1, "shuffled": 1},
    "--reset fine-tune --controls reinit": {"ticket": 2, "reinit": 1},
    "--score-at early-stop": {"ticket": 2, "reinit": 1, "shuffled": 1},
    "--score-at end": {"ticket": 2, "reinit": 1, "shuffled": 1},
    "--score-at init": {"ticket": 2, "reinit": 1, "shuffled": 1},
    "--score-at 3": {"ticket": 2, "reinit": 1, "shuffled": 1},
    "--search-steps 2": {"ticket": 2, "reinit": 1, "shuffled": 1},
    "--criterion random": {"ticket": 2, "reinit": 1, "shuffled": 1},
    "--optimizer.lr 0.01": {"ticket": 2, "reinit": 1, "shuffled": 1},
    "--optimizer.name sgd --optimizer.momentum 0.9 --optimizer.nesterov": {"ticket": 2, "reinit": 1, "shuffled": 1},
    "--net.hidden 30 20 --net.activation tanh": {"ticket": 2, "reinit": 1, "shuffled": 1},
    "--lr-schedule.name step --lr-schedule.milestones 2 3": {"ticket": 2, "reinit": 1, "shuffled": 1},
    "--batch_size 7 --levels=2 --rate=0.5": {"ticket": 3, "reinit": 2, "shuffled": 2},
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_reach_the_experiment(settings: str, store: Path, made: tuple[Path, Any]) -> None:
    called = good(*RUN, *settings.split(), "--store", store, "--json", "-")
    assert {name: len(rows) for name, rows in called.json["arms"].items()} == SETTINGS[settings]
    assert called.json["experiment"] != made[1]["experiment"]
    assert {row["draw"] for row in called.json["arms"].get("reinit", [])} in ({0}, {0, 1}, set())
    text = good("show", called.json["experiment"][:10], "--toml", "--store", store).out
    Path("again.toml").write_text(text)
    again = good("run", "again.toml", "--workers", "1", "--store", store, "--json", "-").json
    assert again == called.json


@pytest.mark.parametrize(
    ("data", "further", "accuracy"),
    [
        (images(), (), True),
        (arrays(), (), True),
        (arrays(), ("--loss", "mean-squared-error"), True),
        (arrays(), ("--model", "nets:good", "--net.hidden"), True),
        (targets(2), ("--loss", "mean-squared-error"), False),
        (targets(), ("--loss", "mean-squared-error"), False),
        (targets(2), ("--loss", "mean-squared-error", "--model", "nets:narrow", "--net.hidden"), False),
        (targets(), ("--loss", "mean-squared-error", "--model", "nets:one", "--net.hidden"), False),
    ],
    ids=["images", "features", "one-hot", "own network", "outputs", "output", "own outputs", "own output"],
)
def test_data_and_networks_of_ones_own(data: Any, further: tuple[str, ...], accuracy: bool, here: Path) -> None:
    np.savez("mine.npz", **data)
    Path("nets.py").write_text(MODELS)
    found = good(*RUN, "--data", "mine.npz", *further, "--json", "-").json
    for row in rows_of(found):
        assert row["validation_loss_min"] > 0
        assert (row["test_accuracy"] is not None) == accuracy == (row["train_accuracy"] is not None)


def test_a_network_of_ones_own_in_two_workers(here: Path) -> None:
    np.savez("mine.npz", **arrays())
    Path("nets.py").write_text(MODELS)
    command = (*RUN, "--data", "mine.npz", "--model", "nets:good", "--net.hidden", "--quiet", "--json", "-")
    many = good(*command, "--workers", "2", "--store", "two").json
    assert many == good(*command, "--store", "one").json


def test_a_recipe_as_a_file_is_the_same_experiment(store: Path, made: tuple[Path, Any], idle: None) -> None:
    Path("my.toml").write_text(good("show", "digits-lenet", "--toml").out)
    assert good("show", "my.toml", "--json", "-").out == good("show", "digits-lenet", "--json", "-").out
    assert good("run", "my.toml", *RUN[2:], "--store", store, "--json", "-").json == made[1]


def test_reading_a_store(store: Path, made: tuple[Path, Any]) -> None:
    digest = made[1]["experiment"]
    listed = good("ls", "--store", store)
    assert listed.out.startswith(digest[:12]) and "finished" in listed.out
    assert [row["experiment"] for row in good("ls", "--store", store, "--json", "-").json["experiments"]] == [digest]
    shown = good("show", digest[:6], "--store", store)
    assert digest in shown.out and "tombola run digits-lenet" in shown.out and 'data = "digits"' in shown.out
    facts = good("show", digest[:6], "--store", store, "--json", "-").json
    assert (facts["experiment"], facts["levels"], facts["diverged"]) == (digest, 1, 0)
    reason = "these are tests of the reference loop"
    assert f"engine      torch (4 fits; not native: {reason})\n" in shown.out
    assert facts["engines"] == [{"engine": "torch", "not_native": reason, "fits": 4}]
    assert good("report", digest[:6], "--store", store, "--json", "-").json == made[1]
    assert good("report", digest[:6], "--store", store, "--out", "p.html", "--quiet").out == "p.html\n"
    assert digest in Path("p.html").read_text()
    assert good("export", digest[:6], "--store", store, "--csv", "x.csv", "--json", "x.json").out == ""
    assert document("x.json") == made[1]
    rows = list(csv.DictReader(io.StringIO(good("export", digest, "--store", store, "--csv", "-").out)))
    assert Path("x.csv").read_text().splitlines()[0].startswith("arm,replicate") and len(rows) == 4
    assert [float(row["test_accuracy"]) for row in rows if row["arm"] == "ticket"] == [
        row["test_accuracy"] for row in made[1]["arms"]["ticket"]
    ]
    assert good("recipes", "--json", "-").json["recipes"][0]["name"] == "digits-lenet"
    assert good("recipes").out.startswith("digits-lenet ")


def test_collecting(store: Path, made: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    other = good(*RUN, "--seed", "1", "--store", store, "--json", "-").json["experiment"]
    (store / "objects" / ".left.part").write_bytes(b"half")
    before = files(store)
    told = good("gc", "--drop", other[:8], "--dry-run", "--store", store, "--json", "-").json
    assert files(store) == before and told["experiments"] == 1 and told["files"] > 5
    assert "1 file" in good("gc", "--store", store).out and not (store / "objects" / ".left.part").exists()
    assert good("gc", "--drop", other[:8], "--store", store, "--json", "-").json["files"] == told["files"] - 1
    assert len(good("ls", "--store", store, "--json", "-").json["experiments"]) == 1
    monkeypatch.setattr(inline, "compute", None)
    assert good(*RUN, "--store", store, "--json", "-").json == made[1]  # nothing was missing


def test_stores_are_moved_and_merged(store: Path, made: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    other = good(*RUN, "--seed", "1", "--store", "other", "--json", "-").json
    shutil.copytree(store.rename("moved"), "other", dirs_exist_ok=True)
    monkeypatch.setattr(inline, "compute", None)
    for seed, wanted in (("0", made[1]), ("1", other)):
        assert good(*RUN, "--seed", seed, "--store", "other", "--json", "-").json == wanted
    several = call("show", "", "--store", "other")
    assert several.code == 2 and "Traceback" not in several.err


@pytest.mark.parametrize("how", ["truncated", "altered", "empty"])
@pytest.mark.parametrize("kind", ["answers", "objects", "experiments"])
def test_damage_is_found_said_and_repaired(kind: str, how: str, store: Path, made: tuple[Path, Any]) -> None:
    before = files(store / "objects")
    for path in sorted((store / kind).rglob("*.*")):
        data = path.read_bytes()
        half = len(data) // 2
        path.write_bytes({"truncated": data[:-1], "empty": b""}.get(how, data[:half] + b"~" + data[half + 1 :]))
        called = good(*RUN, "--store", store, "--quiet", "--json", "x.json")
        [line] = called.err.splitlines()
        assert path.name in line and line.endswith("it is computed again")
        assert document("x.json") == made[1]
    assert {name: data for name, data in files(store / "objects").items() if not name.endswith(".damaged")} == before


def test_divergence_is_a_result(here: Path) -> None:
    called = good(*RUN, "--optimizer.name", "sgd", "--optimizer.lr", "1e30", "--json", "x.json")
    assert "diverged" in called.out
    [row] = document("x.json")["arms"]["ticket"]
    assert row["diverged"] and {name for name in ROW if row[name] is None} == {
        *("early_stop_step", "test_accuracy_at_early_stop", "test_accuracy", "train_accuracy", "validation_loss_min")
    }


@pytest.mark.parametrize("quiet", [(), ("--quiet",)], ids=["", "quiet"])
def test_a_network_that_raises_fails_its_requests_alone(quiet: tuple[str, ...], here: Path) -> None:
    np.savez("mine.npz", **arrays())
    Path("nets.py").write_text(MODELS)
    command = (*RUN, "--data", "mine.npz", "--model", "nets:Fragile", "--net.hidden", "--replicates", "2")
    called = call(*command, "--json", "x.json", *quiet)
    assert called.code == 1 and "ValueError: I am too sparse" in called.err and "nets.py, line" in called.err
    assert "Traceback" not in called.err and len(called.lines) <= 13 and "tries the rest again" in called.err
    assert {name: len(rows) for name, rows in document("x.json")["arms"].items()} == {"ticket": 2}  # the dense ones
    assert len(good("ls", "--json", "-").json["experiments"]) == 1


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the file system is read-only")]
)
@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_store_that_cannot_be_written(
    number: int, words: str, after: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(*RUN, "--controls", "--json", "whole.json", "--store", "whole")
    real, left = os.fsync, [after]

    def refuse(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(number, os.strerror(number))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        called = call(*RUN, "--controls", "--json", "x.json")
    assert called.code == 1 and words in called.err and "Traceback" not in called.err and len(called.lines) <= 12
    assert not [name for name in files(here) if ".part" in name] and not Path("x.json").exists()
    good(*RUN, "--controls", "--json", "x.json")
    assert document("x.json") == document("whole.json")


def test_a_page_that_cannot_be_written_loses_no_numbers(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", _full)
    called = call(*RUN, "--store", store, "--json", "-")
    assert called.code == 1 and "cannot be written: No space left" in called.err and called.json["schema"] == 1


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_special_files_are_written_to_and_never_replaced(store: Path, made: tuple[Path, Any]) -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        good("export", made[1]["experiment"], "--store", store, "--json", "pipe")
        assert os.read(reader, 20).startswith(b"{") and Path("pipe").is_fifo()
    finally:
        os.close(reader)
    Path("link").symlink_to("target.json")
    good("export", made[1]["experiment"], "--store", store, "--json", "link")
    assert Path("link").is_symlink() and document("target.json") == made[1]


@pytest.mark.parametrize("command", [("recipes",), ("show",), ("export", "--csv", "-")], ids=lambda c: c[0])
def test_a_reader_that_has_seen_enough(command: tuple[str, ...], made: tuple[Path, Any]) -> None:
    further = [made[1]["experiment"], "--store", str(made[0])] if command[0] != "recipes" else []
    given = [sys.executable, "-m", "tombola.cli", *command, *further]
    process = subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0
    process.stderr.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What an interrupted run must come to in the end."""
    return good(*LONGER, "--workers", "1", "--store", tmp_path_factory.mktemp("whole") / "store").json


LONGER = (*RUN, "--replicates", "2", "--steps", "400", "--eval-every", "100", "--quiet", "--json", "-")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interruption_ends_in_order_and_the_same_command_goes_on(workers: str, here: Path, undisturbed: Any) -> None:
    given = ["nice", sys.executable, "-m", "tombola.cli", *LONGER, "--workers", workers]  # not ahead of who watches it
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "TOMBOLA_NATIVE": "off"}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and so do children
    process = subprocess.Popen(given, **pipes, text=True, start_new_session=True, env=environment)
    signal.signal(signal.SIGINT, before)
    with ended(process.pid):
        deadline = time.monotonic() + 60
        while not list(here.glob("tombola-store/answers/*/*.json")) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        [line] = err.splitlines()
        assert line.startswith("tombola: interrupted; what is finished is kept. Go on with: tombola run digits-lenet")
        assert out == ""
        while _alive(process.pid) and time.monotonic() < deadline:  # Python's own helper process ends a bit later
            time.sleep(0.01)
        assert not _alive(process.pid)
    assert len(rows_of(undisturbed)) == 8
    assert good(*LONGER, "--workers", "1").json == undisturbed


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
