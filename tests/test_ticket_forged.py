"""Ticket files that are damaged, or made on purpose: one clear error, and never a wrong ticket."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import same_state
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ticket_helpers import SMALL, rich_ticket, same_ticket, seeded_ticket

from tombola.errors import TicketError
from tombola.tickets import Ticket
from tombola.tickets.container import seal, unseal

# --- reading what is not as it should be


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("fuzz") / "t"
    return path, rich_ticket().save(path).read_bytes()


@pytest.fixture(scope="module")
def by_seed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("fuzz") / "t"
    return path, rich_ticket().save(path, seed=3, build=SMALL).read_bytes()


def refused(path: Path, data: bytes, words: str = "") -> str:
    """Loading these bytes must fail with one clear error; returns what it says."""
    path.write_bytes(data)
    with pytest.raises(TicketError, match=words or ".") as caught:
        Ticket.load(path)
    text = str(caught.value)
    assert str(path) in text and len(text) < 700 and text.isprintable()
    return text


def test_files_that_are_no_tickets(tmp_path: Path, whole: tuple[Path, bytes]) -> None:
    from safetensors.torch import save

    path, data = tmp_path / "t", whole[1]
    broken = "truncated, altered, or something else; copy it again"
    for content in (b"", b"x", b"hello world, this is text", b"\xff" * 100, b"PK\x03\x04" + b"\0" * 99):
        assert broken in refused(path, content)
    refused(path, save({"a": torch.ones(1)}), "without notes")
    refused(path, save({"a": torch.ones(1)}, {"other": "x"}), "without Tombola's notes")
    refused(path, save({"a": torch.ones(1).byte()}, {"tombola": "{}"}), "another kind of file")
    refused(path, data[:-1], broken)
    refused(path, data + b"\0", broken)
    refused(path, data[: len(data) // 2], broken)
    refused(path, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "checksum does not fit: it was altered. Copy it again")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_altered_byte_is_found(whole: tuple[Path, bytes], place: float, flip: int) -> None:
    path, data = whole
    at = int(place * len(data))
    refused(path, data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), more=st.binary(max_size=20), insert=st.booleans())
def test_any_cut_or_longer_file_is_found(whole: tuple[Path, bytes], cut: float, more: bytes, insert: bool) -> None:
    path, data = whole
    at = int(cut * len(data))
    changed = data[:at] + more + (data[at:] if insert else b"")
    if changed != data:
        refused(path, changed)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), header=st.booleans())
@example(data=b"[" * 100_000, header=True)
@example(data=b'{"__metadata__":{"tombola":"' + b"[" * 100_000 + b'"}}', header=True)
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, header: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.ticket"
    refused(path, struct.pack("<Q", len(data)) + data if header else data)


# --- files that someone made on purpose: the checksum fits


def forged(data: bytes, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> bytes:
    notes, parts = unseal(data)
    notes.pop("sha256")
    change(notes, parts)
    return seal(notes, parts)


def bomb(size: int) -> bytes:
    deflater = zlib.compressobj(9)
    return b"".join(deflater.compress(bytes(1 << 20)) for _ in range(size >> 20)) + deflater.flush()


def setting(path: str, value: Any) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(notes: dict[str, Any], parts: dict[str, bytes]) -> None:
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place: Any = notes
        for part in way:
            place = place[part]
        place[last] = value

    return change


def stream(name: str, data: bytes) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    return lambda notes, parts: parts.update({name: data})


def coded(coding: str, codes: bytes) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(notes: dict[str, Any], parts: dict[str, bytes]) -> None:
        notes["tensors"][0][4] = coding
        parts["mask/fc1.weight"] = zlib.compress(codes)

    return change


def deep(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


FORGED: dict[str, tuple[Callable[[dict[str, Any], dict[str, bytes]], None], str]] = {
    "version": (setting("version", 2), "version '2', and this Tombola reads 1; install"),
    "version of text": (setting("version", "\x1b[2J"), r"version '\\x1b\[2J'"),
    "format": (setting("format", "other"), "another kind of file"),
    "no tensors": (setting("tensors", []), "lists no tensors"),
    "tensors of text": (setting("tensors", "x"), "lists no tensors"),
    "a tensor of text": (setting("tensors.0", "x"), "no tensor"),
    "a dtype": (setting("tensors.0.1", "float31"), "unknown dtype"),
    "a dtype of lists": (setting("tensors.0.1", []), "unknown dtype"),
    "another dtype": (setting("tensors.0.1", "float64"), "is damaged: fewer bytes than"),
    "a negative shape": (setting("tensors.0.2", [-5, -6]), "without a shape"),
    "a shape of floats": (setting("tensors.0.2", [5.0, 6]), "without a shape"),
    "many dimensions": (setting("tensors.0.2", [1] * 40), "without a shape"),
    "a huge shape": (setting("tensors.0.2", [1 << 40, 1 << 40]), "impossible size"),
    "a hidden shape": (setting("tensors.0.2", [0, 1 << 62, 1 << 62]), "impossible size"),
    "a large shape": (setting("tensors.0.2", [1 << 20, 1 << 20]), r"4,398,046,511,.* allow more: .*at_most=\d+"),
    "a larger shape": (setting("tensors.0.2", [5, 60]), "is damaged"),
    "a count": (setting("tensors.0.3", 2), "is damaged: .* kept places, not the 2"),
    "a truth": (setting("tensors.0.3", True), "without its count"),
    "too many": (setting("tensors.0.3", 31), "impossible size"),
    "a coding": (setting("tensors.0.4", "huffman"), "neither bitmap nor gaps"),
    "no mask": (lambda notes, parts: notes.update(tensors=[t[:3] for t in notes["tensors"]]), "has no mask"),
    "a name twice": (setting("tensors.1.0", "fc1.weight"), "'fc1.weight' twice"),
    "another name": (setting("tensors.1.0", "fc1.\x1b[2J"), "has no stream"),
    "a twin of nothing": (setting("tensors.0.4", "gaps"), "damaged"),
    "a twin that follows": (
        lambda notes, parts: notes["tensors"].__setitem__(0, [*notes["tensors"][0], {"start": "fc2.bias"}]),
        "another form",
    ),
    "an unknown twin": (
        lambda notes, parts: notes["tensors"].__setitem__(0, [*notes["tensors"][0], {"other": "fc1.bias"}]),
        "something unknown",
    ),
    "a stream too many": (stream("more", b"x"), "has no stream 'more', or one too many"),
    "a stream too few": (lambda notes, parts: parts.pop("mask/fc1.weight") and None, "has no stream 'mask/fc1.weight'"),
    "no zlib": (stream("start/fc1.bias", b"hello"), "no zlib stream"),
    "cut zlib": (stream("start/fc1.bias", zlib.compress(bytes(20))[:-3]), "cut or goes on"),
    "long zlib": (stream("start/fc1.bias", zlib.compress(bytes(20)) + b"x"), "cut or goes on"),
    "few values": (stream("start/fc1.bias", zlib.compress(bytes(16))), "fewer bytes than the 20"),
    "many values": (stream("start/fc1.bias", zlib.compress(bytes(24))), "more bytes than the 20"),
    "a bomb of values": (stream("trained/fc1.bias", bomb(1 << 28)), "more bytes than the 20"),
    "a bomb of places": (stream("mask/fc1.weight", bomb(1 << 28)), "more bytes than"),
    "bits after the end": (coded("bitmap", b"\xff" * 4), "bits after its end"),
    "gaps beyond the end": (coded("gaps", b"\x20" * 3), "beyond the last weight"),
    "far gaps at the end": (coded("gaps", b"\x00\xff"), "beyond the last weight"),
    "few gaps": (coded("gaps", b"\x00"), "1 kept places, not"),
    "no metadata": (setting("metadata", None), "no mapping"),
    "metadata of text": (setting("metadata", "x"), "no mapping"),
    "deep metadata": (setting("metadata", {"a": deep(500)}), "nested more than 32 deep"),
    "no history": (setting("history", None), "history is not readable"),
    "history of text": (setting("history", {"level": ["x"], "kept": ["y"]}), "history is not readable"),
    "uneven history": (setting("history.kept", [1]), "history is not readable"),
    "a level of text": (setting("history.level", ["x\x1b[2J"] * 3), r"Level.level is 'x\\x1b\[2J'"),
    "huge numbers in history": (setting("history.kept", [1 << 4000] * 3), ""),
    "trained of text": (setting("trained", "yes"), "no mapping"),
    "not trained": (setting("trained", False), "one too many"),
    "a start of text": (setting("start", "x"), "where the start weights are"),
    "an unknown start": (setting("start", {"url": "http://x"}), "where the start weights are"),
    "a start of both kinds": (setting("start", {"build": "x"}), "two kinds"),
    "a seed of text": (setting("start", {"seed": "x", "digest": "y"}), "seed is no number"),
    "a seed without digest": (setting("start", {"seed": 3}), "seed is no number"),
    "a seed and weights": (setting("start", {"seed": 3, "digest": "y"}), "one too many"),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_files(case: str, whole: tuple[Path, bytes]) -> None:
    path, data = whole
    change, words = FORGED[case]
    refused(path, forged(data, change), words)


NET = {"hidden": [5], "activation": "relu", "dropout": 0.0, "width": 1.0}
MODEL = {"name": "mlp", "input_shape": [6], "outputs": 3, "net": NET}


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"seed": 4}, "the seed 4 makes other start weights here"),
        ({"digest": "0" * 64}, r"makes other start weights here .* \(torch .* made by a named network\)"),
        ({"seed": -1}, "failed for the seed -1"),
        ({"model": {**MODEL, "name": "resnet\x1b[2J"}}, r"Unknown model 'resnet\\x1b"),
        ({"model": {**MODEL, "name": 3}}, "cannot be built"),
        ({"model": {**MODEL, "outputs": 1 << 40}}, "cannot be built"),
        ({"model": {**MODEL, "outputs": True}}, "cannot be built"),
        ({"model": {**MODEL, "outputs": 4}}, r"expected float32 \(3, 5\), got float32 \(4, 5\)|does not have|cannot"),
        ({"model": {**MODEL, "input_shape": "x"}}, "cannot be built"),
        ({"model": {**MODEL, "net": {**NET, "hidden": [48, 48, 48]}}}, "larger than the weights that the file lists"),
        ({"model": {**MODEL, "net": {**NET, "hidden": [1] * 100_000}}}, "cannot be built"),
        ({"model": {**MODEL, "net": {**NET, "width": 1e300}}}, "failed for the seed 3"),
        ({"model": {**MODEL, "net": {**NET, "width": "x"}}}, "cannot be built"),
        ({"model": {**MODEL, "net": {**NET, "code": "x"}}}, "cannot be built"),
        ({"model": {**MODEL, "net": {**NET, "dropout": "x"}}}, "failed for the seed 3"),
        ({"model": {}}, "cannot be built"),
        ({"model": None, "build": "\x1b]0;x\x07os:system"}, r"saved with '\\x1b\]0;x\\x07os:system'"),
    ],
)
def test_forged_seeds(start: dict[str, Any], words: str, by_seed: tuple[Path, bytes]) -> None:
    path, data = by_seed
    refused(path, forged(data, lambda notes, parts: notes["start"].update(start)), words)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PLACES = ["tensors", "start", "trained", "history", "metadata", "versions", "version", "format"]
PLACES += [f"tensors.{row}.{column}" for row in range(4) for column in range(3)] + ["tensors.0.3", "tensors.0.4"]
PLACES += [f"history.{name}" for name in ("level", "kept", "metric", "steps", "arm")] + ["start.seed", "start.model"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.booleans(), place=st.sampled_from(PLACES), value=JSON)
def test_any_forged_note_is_refused_or_read(
    whole: tuple[Path, bytes], by_seed: tuple[Path, bytes], seed: bool, place: str, value: Any
) -> None:
    path, data = by_seed if seed else whole
    path.write_bytes(forged(data, setting(place, value)))
    try:
        found = Ticket.load(path)
    except TicketError as error:
        assert str(path) in str(error) and str(error).isprintable()
    else:
        assert same_state(found.weights, rich_ticket().weights) or place.startswith("tensors")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.integers(0, 30), place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), squeezed=st.booleans()
)
def test_any_forged_stream_is_refused_or_a_sound_ticket(
    whole: tuple[Path, bytes], name: int, place: float, flip: int, squeezed: bool
) -> None:
    path, data = whole

    def change(notes: dict[str, Any], parts: dict[str, bytes]) -> None:
        chosen = sorted(parts)[name % len(parts)]
        content = bytearray(zlib.decompress(parts[chosen]) if squeezed else parts[chosen])
        content[int(place * len(content))] ^= flip
        parts[chosen] = zlib.compress(bytes(content)) if squeezed else bytes(content)

    path.write_bytes(forged(data, change))
    try:
        found = Ticket.load(path)
    except TicketError:
        return
    for kept, values in ((found.mask[name], found.weights[name]) for name in found.mask):
        assert (values[~kept] == 0).all()


def test_forgeries_are_of_the_ticket_they_are_made_from(whole: tuple[Path, bytes]) -> None:
    path, data = whole
    assert forged(data, lambda notes, parts: None) == data
    path.write_bytes(data)
    assert same_ticket(Ticket.load(path), rich_ticket())
    assert hashlib.sha256(data).hexdigest() != unseal(data)[0]["sha256"]


def test_the_limit_can_be_raised_and_lowered(tmp_path: Path) -> None:
    path = seeded_ticket().save(tmp_path / "t")
    with pytest.raises(
        TicketError, match=r"its weights would fill 212 bytes, and at most 100 are allowed.*at_most=212"
    ):
        Ticket.load(path, at_most=100)
    assert Ticket.load(path, at_most=212)
    with path.open("ab") as file:
        file.truncate(1 << 34)  # takes no room on the disk
    with pytest.raises(TicketError, match="17,179,869,184 bytes, more than a ticket of 4,294,967,296 bytes of weights"):
        Ticket.load(path)
