"""The store: whole files or none, states under masks, damage that is found, and refusals in one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import same_bits, same_state
from torch import Tensor

from tombola.answers import Answer, Curve, Point, Pruned, Trained
from tombola.errors import StoreError, UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import Fit, Prune, Request
from tombola.starts import Init
from tombola.store import Damaged, Store
from tombola.store.files import read_json, write, write_json
from tombola.training.checkpoint import Checkpoint

MASK = Mask({"a.weight": torch.arange(12).view(3, 4) % 3 == 0, "b.weight": torch.ones(2, 2, dtype=torch.bool)})


def odd_state() -> dict[str, Tensor]:
    """Every kind of tensor that a network may keep; the masked one is 0 where the mask says so."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.where(MASK["a.weight"], torch.randn(3, 4, generator=generator), 0)
    weight[0, 0] = -0.0
    return {
        "a.weight": weight,
        "b.weight": torch.tensor([[float("inf"), float("nan")], [1e-40, -1e38]]),
        "half": torch.randn(3, generator=generator).half(),
        "brain": torch.randn(2, 1, 2, generator=generator).bfloat16(),
        "double": torch.randn((), generator=generator, dtype=torch.float64),
        "batches": torch.tensor(7),
        "small": torch.tensor([-3, 4], dtype=torch.int8),
        "flags": torch.tensor([True, False, True]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "empty": torch.zeros(0, 3),
    }


def trained(states: dict[int, str]) -> Trained:
    points = (Point(step=0, test_loss=0.1), Point(step=10, train_loss=float("nan"), validation_loss=1 / 3))
    return Trained(request="f" * 32, first=0, last=10, curve=Curve(points), states=states, kept={"w": 3}, prunable=4)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


FIT = Fit(start=Init(seed=1), mask=None, last=10, order=1, noise=2)
CUT = Prune(start=Init(seed=1), mask=MASK, pruner=Pruner(), keep=3, seed=0)


@pytest.fixture
def lines() -> list[str]:
    """What the store has reported."""
    return []


@pytest.fixture
def store(tmp_path: Path, lines: list[str]) -> Store:
    return Store(tmp_path / "store", report=lines.append)


@pytest.mark.parametrize("failing", ["replace", "fsync", "open"])
@pytest.mark.parametrize("before", [b"", b"the old content"], ids=["new", "old"])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, before: bytes
) -> None:
    path = tmp_path / "deep" / "file.json"
    if before:
        write(path, before)

    def full(*args: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(*{"replace": (Path, "replace"), "fsync": (os, "fsync"), "open": (Path, "open")}[failing], full)
        with pytest.raises(StoreError, match="the disk is full") as caught:
            write(path, b"the new content")
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert files(tmp_path) == (["deep/file.json"] if before else [])
    assert not before or path.read_bytes() == before
    write(path, b"the new content")
    assert files(tmp_path) == ["deep/file.json"] and path.read_bytes() == b"the new content"


def test_a_killed_write_leaves_a_part_that_nobody_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after kill -9 between writing and renaming: no exception handler runs."""
    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", lambda *_: None)
        store.put("ab" * 16, FIT, trained({}))
        store.put_experiment("cd" * 16, {"rows": []})
    parts = [name for name in files(store.root) if name != "format.json"]
    assert len(parts) == 2 and all(Path(name).name.startswith(".") and name.endswith(".part") for name in parts)
    assert all(f".{os.getpid()}." in name for name in parts)
    assert store.get("ab" * 16) is None and list(store.experiments()) == []
    store.put("ab" * 16, FIT, trained({}))
    assert store.get("ab" * 16) is not None


@pytest.mark.parametrize("mask", [None, MASK])
def test_states_come_back_bit_for_bit(store: Store, mask: Mask | None) -> None:
    state = odd_state()
    digest = store.keep(state, mask)
    assert same_state(store.state(digest), state) and store.has(digest)
    assert same_state(Store(store.root).state(digest), state)
    twin = {name: state[name].clone() for name in reversed(state)}
    assert store.keep(twin, mask) == digest, "equal content, equal bytes, whatever the order"
    assert store.keep(state | {"batches": torch.tensor(8)}, mask) != digest


def test_a_masked_state_is_stored_without_its_zeros(store: Store) -> None:
    kept = torch.zeros(100, 100, dtype=torch.bool)
    kept[::10] = True
    state = {"w": torch.where(kept, torch.ones(100, 100), 0)}
    sizes = [store.object_path(store.keep(state, m)).stat().st_size for m in (None, Mask({"w": kept}))]
    assert sizes[1] < sizes[0] / 8
    whole = Mask({"w": torch.ones(100, 100, dtype=torch.bool)})
    assert store.keep(state, whole) == store.keep(state, None), "a dense mask removes nothing"


def test_answers_come_back_equal(store: Store) -> None:
    states = {0: store.keep(odd_state(), None), 10: "e" * 64}
    store.put("ab" * 16, FIT, trained(states))
    found = store.get("ab" * 16)
    assert (
        isinstance(found, Trained) and found.states == states and found.kept == {"w": 3} and found.request == "ab" * 16
    )
    assert repr(found.curve) == repr(trained(states).curve)  # NaN too
    store.put("cd" * 16, CUT, Pruned(request="cd" * 16, mask=MASK, seconds=1.5))
    again = store.get("cd" * 16)
    assert again == Pruned(request="cd" * 16, mask=MASK, seconds=1.5) and store.get("ef" * 16) is None
    assert isinstance(again, Pruned) and list(again.mask) == list(MASK)
    content = json.loads(store.answer_path("ab" * 16).read_text())
    assert content["request"]["class"] == "Fit" and content["request"]["last"] == 10


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    half = len(data) // 2
    changed = {
        "truncated": data[:half],
        "empty": b"",
        "altered": data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :],
    }
    path.write_bytes(changed[how])


@pytest.mark.parametrize("how", ["truncated", "empty", "altered"])
@pytest.mark.parametrize("what", ["answer", "pruned", "object", "mask object", "mask link", "checkpoint", "experiment"])
def test_damage_is_found_reported_once_set_aside_and_made_good(
    store: Store, lines: list[str], what: str, how: str
) -> None:
    state = odd_state()
    checkpoint = Checkpoint(step=3, tensors={"model/w": torch.ones(3)}, notes="{}")

    def fill() -> str:
        store.put("ab" * 16, FIT, trained({}))
        store.put("cd" * 16, CUT, Pruned(request="cd" * 16, mask=MASK))
        store.save_checkpoint("ab" * 16, checkpoint, {0: "a" * 64})
        store.put_experiment("12" * 16, {"rows": [1, 2]})
        return store.keep(state, MASK)

    digest, mask_file = fill(), store.keep_mask(MASK)

    def lost(read: Callable[[], object]) -> bool:
        try:
            return read() in (None, [])
        except Damaged as error:
            assert error.exit_code == 1
            return True

    places: dict[str, tuple[Path, Callable[[], object]]] = {
        "answer": (store.answer_path("ab" * 16), lambda: store.get("ab" * 16)),
        "pruned": (store.answer_path("cd" * 16), lambda: store.get("cd" * 16)),
        "object": (store.object_path(digest), lambda: store.state(digest).keys()),
        "mask object": (store.object_path(mask_file), lambda: store.get("cd" * 16)),
        "mask link": (store.root / "masks" / f"{MASK.digest}.json", lambda: store.state(digest).keys()),
        "checkpoint": (store.root / "checkpoints" / f"{'ab' * 16}.safetensors", lambda: store.checkpoint("ab" * 16)),
        "experiment": (store.root / "experiments" / f"{'12' * 16}.json", lambda: list(store.experiments())),
    }
    path, read = places[what]
    assert not lost(read)
    damage(path, how)
    assert lost(read) and lost(read) and lost(read)
    assert len(lines) == 1 and str(path.relative_to(store.root)) in lines[0] and "\n" not in lines[0]
    assert not path.exists() and path.with_name(f".{path.name}.damaged").exists()
    assert fill() == digest and not lost(read) and len(lines) == 1
    assert same_state(store.state(digest), state) and store.get("cd" * 16) == Pruned(request="cd" * 16, mask=MASK)
    saved = store.checkpoint("ab" * 16)
    assert saved is not None and saved[0].step == 3 and saved[1] == {0: "a" * 64}
    assert same_bits(saved[0].tensors["model/w"], torch.ones(3))


def test_an_object_that_is_gone_is_missing(store: Store, lines: list[str]) -> None:
    digest = store.keep(odd_state(), MASK)
    store.object_path(digest).unlink()
    assert not store.has(digest)
    with pytest.raises(Damaged, match="has lost"):
        store.state(digest)
    assert lines == []


def test_a_file_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "format.json", {"format": "tombola-store", "version": 2})
    with pytest.raises(StoreError, match="has format") as caught:
        Store(tmp_path)
    assert caught.value.exit_code == 1 and files(tmp_path) == ["format.json"]
    damage(tmp_path / "format.json", "truncated")
    with pytest.raises(StoreError, match=r"format\.json is damaged"):
        Store(tmp_path)


def test_places_that_are_no_store_are_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for place, message in (("mine", "holds other files"), ("file", "is a file"), ("file/deep", "is a file")):
        with pytest.raises(StoreError, match=message) as caught:
            Store(tmp_path / place)
        assert caught.value.exit_code == 1 and "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    with pytest.raises(UsageError, match="no store") as missing:
        Store(tmp_path / "none", create=False)
    assert missing.value.exit_code == 2
    assert files(tmp_path) == ["file", "mine/thesis.txt"] and not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    assert files(Store(tmp_path / "empty").root) == ["format.json"]


def test_a_store_that_another_process_makes_at_the_same_moment_is_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one writes between our first look and our second."""
    first_look = Store._format

    def look(store: Store) -> dict[str, object] | None:
        monkeypatch.setattr(Store, "_format", first_look)
        found = first_look(store)
        Store(tmp_path / "store").put_experiment("12" * 16, {"rows": []})
        return found

    monkeypatch.setattr(Store, "_format", look)
    assert [name for name, _ in Store(tmp_path / "store").experiments()] == ["12" * 16]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.EROFS, "read-only"), (errno.ENOSPC, "disk is full"), (errno.EACCES, "permission denied")],
)
def test_a_store_that_cannot_be_written_says_so_in_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise OSError(code, os.strerror(code))

    checkpoint = Checkpoint(step=3, tensors={}, notes="{}")
    monkeypatch.setattr(Path, "mkdir", refuse)
    writes: list[Callable[[], object]] = [
        lambda: store.put("ab" * 16, FIT, trained({})),
        lambda: store.keep(odd_state(), MASK),
        lambda: store.save_checkpoint("ab" * 16, checkpoint, {}),
        lambda: store.put_experiment("ab" * 16, {}),
        lambda: store.lock("ab" * 16).__enter__(),
        lambda: Store(store.root.parent / "other"),
    ]
    for attempt in writes:
        with pytest.raises(StoreError, match=reason) as caught:
            attempt()
        assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    assert files(store.root) == ["format.json"]


def test_reading_what_cannot_be_read_says_so(store: Store) -> None:
    path = store.answer_path("ab" * 16)
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot read"):
        store.get("ab" * 16)


def test_two_stores_are_merged_by_copying(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "first"), Store(tmp_path / "second")
    both: tuple[tuple[Store, str, Request, Answer], ...] = (
        (first, "ab" * 16, FIT, trained({10: first.keep(odd_state(), MASK)})),
        (second, "cd" * 16, CUT, Pruned(request="cd" * 16, mask=MASK)),
    )
    for number, (store, digest, request, answer) in enumerate(both):
        store.put(digest, request, answer)
        store.put_experiment(f"{number}2" * 16, {"begun": number, "rows": []})
    shutil.copytree(second.root, first.root, dirs_exist_ok=True)
    merged = Store(first.root)
    found = merged.get("ab" * 16)
    assert isinstance(found, Trained) and same_state(merged.state(found.states[10]), odd_state())
    assert merged.get("cd" * 16) == second.get("cd" * 16)
    assert [digest for digest, _ in merged.experiments()] == ["02" * 16, "12" * 16]


def test_experiments_are_found_by_the_beginning_of_their_digest(store: Store) -> None:
    with pytest.raises(UsageError, match="has none yet"):
        store.experiment("ab")
    for digest in ("ab" + "0" * 30, "ab" + "1" * 30, "cd" * 16):
        store.put_experiment(digest, {"name": digest})
    assert store.experiment("c")[0] == store.experiment("cd" * 16)[0] == "cd" * 16
    assert store.experiment("ab1")[1]["name"] == "ab" + "1" * 30
    for prefix, message in (("ab", "2 experiments .* begin with 'ab'"), ("ef", "No experiment"), ("", "No experiment")):
        with pytest.raises(UsageError, match=message) as caught:
            store.experiment(prefix)
        assert caught.value.exit_code == 2
    assert read_json(store.root / "experiments" / "none.json") is None
