"""Ticket files: what goes in comes out bit for bit."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from ticket_helpers import LENET, SMALL, random_places, rich_ticket, same_ticket, seeded_ticket
from torch import Tensor, nn

from tombola.errors import TicketError
from tombola.masks import Mask
from tombola.streams import seeded
from tombola.tickets import Level, NamedModel, Ticket, container, streams
from tombola.tickets.seed import made
from tombola.tickets.streams import DTYPES
from tombola.training.state import State, state_of

# --- what goes in comes out


def bits(count: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Any bit patterns: NaN with payloads, -0.0, infinities, denormals."""
    generator = torch.Generator().manual_seed(seed)
    size = count * dtype.itemsize
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (size,), dtype=torch.uint8, generator=generator)
    return raw.view(dtype)


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
    shape=st.lists(st.integers(0, 7), min_size=0, max_size=4),
    density=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
    trained=st.booleans(),
)
def test_every_bit_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: torch.dtype,
    shape: list[int],
    density: float,
    seed: int,
    trained: bool,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = {name: torch.rand(size, generator=generator) < density for name, size in (("a", shape), ("b/c", [300, 3]))}

    def state(shift: int) -> State:
        found = {name: bits(5, kind, seed + shift) for name, kind in DTYPES.items()}
        found |= {"count": torch.tensor(7), "twin": torch.tensor(7), "none": torch.zeros(0, 3)}
        for number, (name, kept) in enumerate(masks.items()):
            found[name] = torch.zeros(kept.shape, dtype=dtype)
            found[name][kept] = bits(int(kept.sum()), dtype, seed + number + shift)
        return found

    ticket = Ticket(mask=Mask(masks), weights=state(0), trained=state(9) if trained else None)
    path = tmp_path_factory.getbasetemp() / "any.ticket"
    assert same_ticket(Ticket.load(ticket.save(path)), ticket)


def test_metadata_and_history_come_back(tmp_path: Path) -> None:
    ticket = rich_ticket()
    assert same_ticket(Ticket.load(ticket.save(tmp_path / "a")), ticket)
    apart = (
        Level(level=0, density=1.0, kept=30, metric=math.inf, steps=1, seconds=0.0),
        Level(level=1, density=0.3, kept=9, metric=None, steps=2, seconds=0.1, arm="reinit", replicate=4),
    )
    odd = Ticket(
        mask=ticket.mask, weights=ticket.weights, history=apart, metadata={"odd": "\ud800\u202e\x00", "0" * 64: 1}
    )
    assert same_ticket(Ticket.load(odd.save(tmp_path / "b")), odd)
    nan = Level(level=0, density=1.0, kept=30, metric=math.nan, steps=1, seconds=0.0)
    [found] = Ticket.load(Ticket(mask=ticket.mask, weights=ticket.weights, history=(nan,)).save(tmp_path / "c")).history
    assert found.metric is not None and math.isnan(found.metric)
    assert same_ticket(
        Ticket.load(ticket.save(tmp_path / "d", trained=False)),
        seeded_ticket(history=ticket.history, metadata=ticket.metadata),
    )


def test_a_tensor_that_is_tied_is_kept_once(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(50, 50), nn.Linear(50, 50)
            self.decoder.weight = self.encoder.weight

    def build(seed: int) -> nn.Module:
        return Tied()

    mask = random_mask(Tied())
    ticket = Ticket(mask=mask, weights=made(build, 4, mask))
    path = ticket.save(tmp_path / "tied")
    assert same_ticket(Ticket.load(path), ticket) and path.stat().st_size < 1.2 * 4 * mask.alive + 2000
    assert same_ticket(Ticket.load(ticket.save(tmp_path / "seed", seed=4, build=build), build), ticket)


def test_equal_tickets_are_equal_files_that_safetensors_reads(tmp_path: Path) -> None:
    ticket = rich_ticket()
    first, second = (ticket.save(tmp_path / name).read_bytes() for name in "ab")
    assert first == second
    assert {str(value.dtype) for value in load_file(tmp_path / "a").values()} == {"torch.uint8"}
    with safe_open(tmp_path / "a", "pt") as file:
        assert json.loads(file.metadata()["tombola"])["metadata"] == ticket.metadata


# --- seeds


def test_a_seed_in_place_of_the_weights(tmp_path: Path) -> None:
    ticket = seeded_ticket(LENET, 5)
    path = ticket.save(tmp_path / "named", seed=5, build=LENET)
    assert same_ticket(Ticket.load(path), ticket) and same_ticket(Ticket.load(path, LENET), ticket)

    def build(seed: int) -> nn.Module:
        return nn.Linear(6, 3)  # takes its numbers from the global generators

    mask = random_mask(build(0))
    own = Ticket(mask=mask, weights=made(build, 5, mask))
    path = own.save(tmp_path / "own", seed=5, build=build)
    assert same_ticket(Ticket.load(path, build), own)
    with pytest.raises(TicketError, match=r"own .*seed 5 .* Ticket.load\(path, build=...\).*:test_a_seed.*build'"):
        Ticket.load(path)
    for other, words in {
        "other weights": (
            lambda seed: nn.Linear(6, 3, dtype=torch.float32).requires_grad_(False).apply(_double),
            "makes other start",
        ),
        "other shape": (lambda seed: nn.Linear(6, 4), r"'weight' expected float32 \(3, 6\), got float32 \(4, 6\)"),
        "other names": (lambda seed: nn.Sequential(nn.Linear(6, 3)), "'weight' expected float32 .*, got nothing"),
        "error": (lambda seed: 1 / 0, "failed for the seed 5: ZeroDivisionError"),
        "no module": (lambda seed: 3, "returned a int"),
    }.values():
        with pytest.raises(TicketError, match=words) as caught:
            Ticket.load(path, other)  # type: ignore[arg-type]
        assert str(path) in str(caught.value)


@torch.no_grad()
def _double(module: nn.Module) -> None:
    for value in module.parameters():
        value.mul_(2)


def test_global_generators_are_put_back(tmp_path: Path) -> None:
    def build(seed: int) -> nn.Module:
        return nn.Linear(6, 3)

    with seeded(5):
        model = build(5)
    ticket = Ticket(mask=Mask.dense(model), weights=state_of(model))
    before = torch.get_rng_state()
    Ticket.load(ticket.save(tmp_path / "t", seed=5, build=build), build)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("further", "words"),
    [
        ({"seed": 4, "build": SMALL}, r"build\(4\) does not make .* \('fc1.weight' differs\)"),
        ({"seed": 3}, "build missing"),
        ({"build": SMALL}, "seed is 'None' and build given"),
        ({"seed": -1, "build": SMALL}, "seed is '-1'"),
        ({"seed": True, "build": SMALL}, "seed is 'True'"),
        ({"seed": 3, "build": NamedModel(name="mpl", input_shape=(6,), outputs=3)}, "Did you mean 'mlp'"),
    ],
)
def test_seeds_that_are_not_kept(further: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(TicketError, match=words):
        seeded_ticket().save(tmp_path / "t", **further)
    assert list(tmp_path.iterdir()) == []


# --- sizes


def test_sizes_of_lenet_at_3_6_per_cent(tmp_path: Path) -> None:
    mask = random_places(LENET(0), 8275, 1056, 206)  # 15 levels of 20 %, 10 % in the last layer
    plain = seeded_ticket(LENET, 1, mask=mask)
    dense = 4 * sum(value.numel() for value in plain.weights.values())
    assert dense == 1_066_440 and mask.density == pytest.approx(0.036, abs=2e-4)
    assert plain.save(tmp_path / "a", seed=1, build=LENET).stat().st_size <= 0.008 * dense
    generator = torch.Generator().manual_seed(0)
    draw = {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in plain.weights.items()}
    trained = {name: value * mask[name] if name in mask else value for name, value in draw.items()}
    notes = {"recipe": {f"field_{n}": 1.5 for n in range(30)}, "verdict": "winning", "versions": {"torch": "2.6"}}
    history = tuple(
        Level(level=n, density=0.8**n, kept=round(266200 * 0.8**n), metric=0.97 + n / 1e4, steps=50_000, seconds=n / 7)
        for n in range(16)
    )
    whole = Ticket(mask=mask, weights=plain.weights, trained=trained, metadata=notes, history=history)
    path = whole.save(tmp_path / "b", seed=1, build=LENET, trained=False)
    assert path.stat().st_size <= 0.008 * dense + 2048
    path = whole.save(tmp_path / "c", seed=1, build=LENET)
    assert path.stat().st_size <= 0.05 * dense and same_ticket(Ticket.load(path), whole)


@pytest.mark.parametrize(("density", "coding"), [(0.001, "gaps"), (0.03, "gaps"), (0.5, "bitmap"), (1.0, "bitmap")])
def test_a_mask_takes_the_smaller_coding(density: float, coding: str) -> None:
    kept = torch.rand(400, 300, generator=torch.Generator().manual_seed(0)) < density
    found, data = streams.mask_stream(kept)
    assert found == coding
    entropy = -sum(p * math.log2(p) for p in (density, 1 - density) if p) * kept.numel() / 8
    assert len(data) < 1.06 * entropy + 60
    assert torch.equal(streams.mask_from_stream(found, data, (400, 300), int(kept.sum())), kept)


# --- writing


@pytest.mark.parametrize("failing", ["fsync", "replace", "open"])
def test_a_file_is_whole_or_not_there(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "t", []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), real(handle))[1])
    seeded_ticket().save(path)
    before = path.read_bytes()
    assert synced and [p.name for p in tmp_path.iterdir()] == ["t"]

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os if failing == "fsync" else Path, failing, full)
    with pytest.raises(TicketError, match="t cannot be written: No space left on device; name a file elsewhere"):
        rich_ticket().save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["t"]


def test_places_that_take_no_file(tmp_path: Path) -> None:
    ticket = seeded_ticket()
    for path, words in ((tmp_path, "is no file"), (tmp_path / "no" / "t", "folder of .* does not exist")):
        with pytest.raises(TicketError, match=words):
            ticket.save(path)
        with pytest.raises(TicketError, match=r"is no file|There is no ticket file .*; "):
            Ticket.load(path)
    os.mkfifo(tmp_path / "pipe")
    for call in (ticket.save, Ticket.load):
        with pytest.raises(TicketError, match="is no file"):
            call(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("real")
    ticket.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and same_ticket(Ticket.load(tmp_path / "real"), ticket)
    with pytest.raises(TicketError, match="cannot be read"):
        Ticket.load("x" * 300)
    with pytest.raises(TicketError, match="cannot be written"):
        ticket.save(tmp_path / ("x" * 300))
    with pytest.raises(TicketError, match=r"There is no ticket file a\\x00b"):
        Ticket.load("a\x00b")
    with pytest.raises(TicketError, match=r"a\\x00b cannot be written"):
        ticket.save("a\x00b")


def test_more_metadata_than_a_reader_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "LONGEST_HEADER", 2000)
    with pytest.raises(TicketError, match=r"take .* bytes; at most 2,000 can be kept; keep less"):
        seeded_ticket(metadata={"x": "y" * 3000}).save(tmp_path / "t")
    assert list(tmp_path.iterdir()) == []
