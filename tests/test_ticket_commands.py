"""`tombola ticket`: out of a store into a file, and what people read about it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_helpers import MODELS, NET, SMALL, arrays, call, document, good, undrawn
from helpers import same_state

from tombola.answers import Pruned, Trained
from tombola.commands.arguments import open_store
from tombola.masks import Mask
from tombola.store import Store
from tombola.tickets import Level, Ticket, stored_ticket

RUN = ("run", "digits-lenet", *NET, *SMALL, "--levels", "3", "--replicates", "2", "--quiet", "--json", "-")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A store with one experiment, and its digest."""
    store = tmp_path_factory.mktemp("made") / "store"
    with undrawn():
        yield store, good(*RUN, "--store", store).json["experiment"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(store: Store, digest: str, level: int, replicate: int) -> tuple[Trained, Trained, Mask | None]:
    """By hand: the dense training, the ticket's and its mask."""
    rows = {(r["arm"], r["level"], r["replicate"]): r["request"] for r in store.noted(digest)["rows"]}
    dense, own = (store.get(rows["ticket", at, replicate]) for at in (0, level))
    cut = store.get(rows["cut", level, replicate]) if level else None
    assert isinstance(dense, Trained) and isinstance(own, Trained)
    return dense, own, cut.mask if isinstance(cut, Pruned) else None


@pytest.mark.parametrize("flags", [(), ("--seed",), ("--trained",), ("--seed", "--trained")], ids=" ".join)
@pytest.mark.parametrize(("level", "replicate"), [(3, 0), (2, 1), (0, 1)])
def test_a_ticket_of_an_experiment(
    made: tuple[Path, str], level: int, replicate: int, flags: tuple[str, ...], here: Path
) -> None:
    place, digest = made
    at = ("--level", level, "--replicate", replicate)
    said = good("ticket", "save", digest[:8], "t", *at, *flags, "--store", place)
    ticket, store = Ticket.load("t"), open_store(place)
    dense, own, mask = answers(store, digest, level, replicate)
    start, end = store.state(dense.states[0]), store.state(own.states[own.last])
    assert ticket.mask == mask or (mask is None and ticket.mask.density == 1)
    for name, kept in ticket.mask.items():
        start[name] = torch.where(kept, start[name], 0)
    assert same_state(ticket.weights, start) and list(ticket.weights)[:2] == ["fc1.weight", "fc1.bias"]
    assert (ticket.trained is not None) == ("--trained" in flags)
    assert ticket.trained is None or same_state(ticket.trained, end)
    rows = good("export", digest, "--store", place, "--json", "-").json["arms"]["ticket"]
    numbers = [(r["level"], r["kept"], r["density"], r["test_accuracy_at_early_stop"]) for r in rows]
    told = [n for n, r in zip(numbers, rows, strict=True) if r["replicate"] == replicate and r["level"] <= level]
    assert [(one.level, one.kept, one.density, one.metric) for one in ticket.history] == told
    assert {one.replicate for one in ticket.history} == {replicate} and {one.steps for one in ticket.history} == {5}
    notes = ticket.metadata
    assert (notes["experiment"], notes["level"], notes["replicate"]) == (digest, level, replicate)
    judged = good("verdict", digest, "--store", place, "--json", "-").json
    assert notes["sentence"] == judged["overall"]["sentence"] and notes["recipe"]["steps"] == 5
    assert (notes.get("verdict") or {}).get("verdict") == ("inconclusive" if level else None)
    size = Path("t").stat().st_size
    assert said.out == f"t: {ticket.mask.alive:,} of 592 weights ({ticket.mask.density:.2%}), level {level}, " + (
        f"replicate {replicate}; {size:,} bytes.\n"
    )


def test_the_ticket_that_is_chosen(made: tuple[Path, str], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, digest = open_store(made[0]), made[1]
    assert (stored_ticket(store, digest).level, stored_ticket(store, digest).replicate) == (3, 0)
    verdict: Any = {"overall": {"level": 1, "sentence": "."}, "levels": []}
    monkeypatch.setattr("tombola.tickets.stored.experiment_verdict", lambda *_: verdict)
    assert stored_ticket(store, digest).level == 1
    asked = good("ticket", "save", digest, "t", "--store", made[0], "--json", "-").json
    kept = Ticket.load("t").mask.alive
    size = Path("t").stat().st_size
    assert asked == {
        "schema": 1,
        "file": "t",
        "bytes": size,
        "kept": kept,
        "prunable": 592,
        "density": kept / 592,
        "level": 1,
        "replicate": 0,
    }


@pytest.mark.parametrize("how", ["rewound", "fine-tuned", "own"])
def test_tickets_that_no_seed_makes(how: str, here: Path) -> None:
    np.savez("mine.npz", **arrays())
    Path("nets.py").write_text(MODELS)
    flags = {
        "rewound": ("--rewind-to", "2", "--search-steps", "4"),
        "fine-tuned": ("--reset", "fine-tune"),
        "own": ("--data", "mine.npz", "--model", "nets:good", "--net.hidden"),
    }[how]
    with undrawn():
        digest = good(*RUN, *flags, "--controls", "--store", "store").json["experiment"]
    called = call("ticket", "save", digest, "t", "--seed", "--store", "store")
    words = "those of a network of your own" if how == "own" else "come from a training"
    assert called.code == 2 and words in called.err and not Path("t").exists()
    good("ticket", "save", digest, "t", "--trained", "--level", "2", "--store", "store")
    ticket, store = Ticket.load("t"), open_store(Path("store"))
    dense, own, mask = answers(store, digest, 2, 0)
    _, before, _ = answers(store, digest, 1, 0)
    states = {"rewound": dense.states.get(2), "fine-tuned": before.states[before.last], "own": dense.states[0]}
    start = store.state(str(states[how]))
    assert mask is not None and ticket.mask == mask
    assert same_state(ticket.weights, {n: torch.where(mask[n], v, 0) if n in mask else v for n, v in start.items()})
    assert ticket.trained and same_state(ticket.trained, store.state(own.states[own.last]))


def test_what_a_store_has_lost(made: tuple[Path, str], here: Path) -> None:
    shutil.copytree(made[0], "store")
    store = open_store(Path("store"))
    dense, _, _ = answers(store, made[1], 3, 0)
    store.object_path(dense.states[0]).unlink()
    called = call("ticket", "save", made[1], "t", "--store", "store")
    assert (
        called.code == 2
        and "no longer holds" in called.err
        and "run the same experiment again: tombola run" in called.err
    )
    good("ticket", "save", made[1], "t", "--store", "store", "--replicate", "1")


@pytest.fixture
def two(made: tuple[Path, str], here: Path) -> tuple[Ticket, Ticket]:
    for name, replicate in (("a", 0), ("b", 1)):
        good("ticket", "save", made[1], name, "--replicate", replicate, "--store", made[0], "--trained")
    return Ticket.load("a"), Ticket.load("b")


def test_inspecting(two: tuple[Ticket, Ticket], made: tuple[Path, str]) -> None:
    shown = good("ticket", "inspect", "a", "--json", "x.json")
    found, size = document("x.json"), Path("a").stat().st_size
    assert shown.out.startswith(f"a: {two[0].mask.alive} of 592 weights kept (")
    assert f"{size:,} bytes" in shown.out and f"experiment: {made[1]}" in shown.out
    assert found == good("ticket", "inspect", "a", "--json", "-").json
    assert (found["bytes"], found["mask"], found["trained"], found["start"]) == (size, two[0].mask.digest, True, {})
    assert found["dense_bytes"] == 4 * sum(value.numel() for value in two[0].weights.values())
    assert [(row["name"], row["kept"]) for row in found["layers"] if row["density"] is not None] == [
        *two[0].mask.kept.items()
    ]
    assert found["metadata"] == two[0].metadata and len(found["history"]) == len(two[0].history) == 4
    for layer in found["layers"]:
        assert any(line.split()[0] == layer["name"] for line in shown.out.splitlines() if line)
    good("ticket", "save", made[1], "s", "--seed", "--store", made[0])
    assert "made by mlp from the seed" in good("ticket", "inspect", "s").out
    assert good("ticket", "inspect", "s", "--json", "-").json["start"]["model"]["name"] == "mlp"


def test_comparing(two: tuple[Ticket, Ticket]) -> None:
    shown = good("ticket", "diff", "a", "b", "--json", "x.json")
    found = document("x.json")
    assert found == good("ticket", "diff", "a", "b", "--json", "-").json
    for row in found["layers"]:
        a, b = two[0].mask[row["name"]], two[1].mask[row["name"]]
        assert row["jaccard"] == int((a & b).sum()) / int((a | b).sum())
        assert row["ratio"] == row["jaccard"] / row["chance"]
        assert f"{row['jaccard']:.4f}" in shown.out and f"{row['ratio']:.2f}x" in shown.out
    assert found["total"]["name"] is None and found["only_first"] == found["only_second"] == []
    other = Mask({"fc1.weight": two[0].mask["fc1.weight"], "more": torch.ones(2, 2) > 0})
    weights = {"fc1.weight": two[0].weights["fc1.weight"], "more": torch.ones(2, 2)}
    Ticket(mask=other, weights=weights).save("c")
    assert "Only in c, or of another shape: more." in good("ticket", "diff", "a", "c").out
    assert [row["jaccard"] for row in good("ticket", "diff", "a", "a", "--json", "-").json["layers"]] == [1.0, 1.0]


def test_nothing_in_a_file_steers_a_terminal(here: Path) -> None:
    evil = "\x1b[2J\x1b]0;title\x07\r\n[bold red]\u202e\x9b31m" + "x" * 5000
    mask = Mask({f"layer{evil}": torch.ones(2, 2) > 0})
    metadata = {evil: evil, "nested": {evil: [evil]}, "lone": "\udcff", **{f"note {n}": n for n in range(100)}}
    history = (Level(level=0, density=1.0, kept=4, metric=float("nan"), steps=1, seconds=0.0, arm=evil),)
    ticket = Ticket(mask=mask, weights={f"layer{evil}": torch.ones(2, 2)}, metadata=metadata, history=history)
    ticket.save("t")
    for command in (("inspect", "t"), ("diff", "t", "t")):
        shown = good("ticket", *command)
        assert all(line.isprintable() for line in shown.out.splitlines()) and "\r" not in shown.out
        assert max(map(len, shown.out.splitlines())) < 1000 and len(shown.out.splitlines()) < 70
        told = good("ticket", *command, "--json", "-")
        assert all(line.isprintable() for line in told.out.splitlines())
    assert good("ticket", "inspect", "t", "--json", "-").json["metadata"] == metadata
    assert good("ticket", "inspect", "t", "--json", "-").json["history"][0]["metric"] is None
    assert "(103 in all; --json FILE writes them)" in good("ticket", "inspect", "t").out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), "Name one of save, inspect, diff. More: tombola ticket --help"),
        (("inspct",), "Unknown action 'inspct'. Did you mean 'inspect'?"),
        (("inspect",), "FILE is missing: tombola ticket inspect FILE"),
        (("inspect", "nowhere"), "There is no ticket file nowhere; tombola ticket save or Ticket.save writes one."),
        (("inspect", "."), ". is no file; name a ticket file."),
        (("inspect", "text"), "text cannot be read as a ticket: it is no safetensors file, or a cut one."),
        (("inspect", "cut"), "It is truncated, altered, or something else; copy it again"),
        (("inspect", "altered"), "its checksum does not fit: it was altered. Copy it again"),
        (("inspect", "a", "--at-most", "100"), "at most 100 are allowed"),
        (("inspect", "a", "--at-most", "x"), "--at-most is 'x'; expected a whole number."),
        (("inspect", "a", "--jsn", "x"), "Unknown flag '--jsn'. Did you mean '--json'?"),
        (("inspect", "a", "--json", "no/x"), "The folder of no/x does not exist"),
        (("inspect", "\x1b[2J"), r"There is no ticket file \x1b[2J"),
        (("diff", "a"), "OTHER is missing"),
        (("diff", "a", "other"), "no tensor of one name and shape"),
        (("diff", "a", "altered"), "altered cannot be read as a ticket"),
        (("save", "EXPERIMENT"), "FILE is missing"),
        (("save", "zz", "t", "--store", "STORE"), "No experiment in"),
        (("save", "EXPERIMENT", "t"), "There is no store at tombola-store"),
        (
            ("save", "EXPERIMENT", "t", "--store", "STORE", "--level", "9"),
            "no ticket of level 9 of replicate 0. Did you",
        ),
        (("save", "EXPERIMENT", "t", "--store", "STORE", "--replicate", "-1"), "no ticket of level 0 of replicate -1"),
        (("save", "EXPERIMENT", "-", "--store", "STORE"), "A ticket file is no text; name a FILE"),
        (("save", "EXPERIMENT", "no/t", "--store", "STORE"), "The folder of no/t does not exist"),
        (("save", "EXPERIMENT", ".", "--store", "STORE"), ". is a directory; name a file"),
        (("save", "EXPERIMENT", "t", "--json", "t", "--store", "STORE"), "cannot go to the same file"),
        (("save", "EXPERIMENT", "t", "--level", "x", "--store", "STORE"), "--level is 'x'; expected a whole number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes(command: tuple[str, ...], words: str, two: tuple[Ticket, Ticket], made: tuple[Path, str]) -> None:
    data = Path("a").read_bytes()
    Path("text").write_text("hello")
    Path("cut").write_bytes(data[:-30])
    Path("altered").write_bytes(data[:-30] + b"~" + data[-29:])
    Ticket(mask=Mask({"x": torch.ones(1, 1) > 0}), weights={"x": torch.ones(1, 1)}).save("other")
    names = {"STORE": str(made[0]), "EXPERIMENT": made[1]}
    before = sorted(path.name for path in Path().iterdir())
    called = call("ticket", *(names.get(word, word) for word in command))
    assert called.code == 2 and called.out == "" and words in called.err, called.err
    assert "Traceback" not in called.err and len(called.lines) <= 12 and "\x1b" not in called.err
    assert sorted(path.name for path in Path().iterdir()) == before


def test_a_full_disk(two: tuple[Ticket, Ticket], made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    called = call("ticket", "save", made[1], "t", "--store", made[0])
    assert called.code == 2 and "t cannot be written: No space left on device; name a file elsewhere" in called.err
    assert not Path("t").exists() and not list(Path().glob(".*"))
