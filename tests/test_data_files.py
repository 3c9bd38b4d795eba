"""Data sets by name or path: .npz files, the registry, the data folder, IDX files."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import X, Y, idx, idx_files, idx_source, no_network, put, zipped
from hypothesis import given, settings
from hypothesis import strategies as st

from tombola.data import DATASETS, NORMALISATIONS, from_npz, load
from tombola.data.dataset import ArrayLike
from tombola.data.files import data_folder
from tombola.data.idx import parse_idx
from tombola.errors import DataError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    return no_network(monkeypatch, tmp_path)


# --- from_npz


def npz(path: Path, **changes: ArrayLike | None) -> Path:
    arrays = {"x_train": X, "y_train": Y, "x_test": X[:2], "y_test": Y[:2], **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_npz_files_are_loaded_by_their_path(tmp_path: Path) -> None:
    path = npz(tmp_path / "mine.npz")
    data = load(str(path))
    assert (data.name, data.classes, len(data.x_test)) == ("mine", 3, 2)
    other = path.rename(tmp_path / "other-name")
    assert load(other).fingerprint == data.fingerprint == from_npz(str(other)).fingerprint


def write_truncated(path: Path) -> None:
    npz(path)
    path.write_bytes(path.read_bytes()[:-40])


def write_altered(path: Path) -> None:
    npz(path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(X.tobytes()) + 3] ^= 1
    path.write_bytes(raw)


def write_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, X)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_bytes(b""), "is damaged or no .npz file"),
        (lambda path: path.write_bytes(b"\x00text"), "pickled|damaged"),
        (lambda path: path.write_bytes(pickle.dumps([1])), "pickled Python objects"),
        (lambda path: npz(path, x_train=X.astype(object)), r"\(x_train\) holds pickled Python objects"),
        (lambda path: npz(path, x_train=None, y_test=None, y=Y), "lacks x_train, y_test; found: x_test, y, y_train"),
        (lambda path: npz(path, x_train=X * np.nan), "bad: x_train holds nan at index"),
        (write_array, "holds a single array"),
        (write_truncated, "damaged"),
        (write_altered, r"\(x_train\) is damaged"),
    ],
)
def test_bad_npz_files_are_named(tmp_path: Path, write: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "bad.npz"
    write(path)
    with pytest.raises(DataError, match=message):
        load(str(path))


# --- the registry


@pytest.mark.parametrize("name", ["cifar10", "cifar-100", "Mnist", "iris", "", "x" * 400, "mnist/"])
def test_unknown_names_are_answered_with_known_ones(name: str) -> None:
    with pytest.raises(DataError, match=r"(Did you mean '(cifar-10|mnist|digits)'|Known: cifar-10, digits)"):
        load(name)


def test_digits_are_split_every_fourth() -> None:
    from sklearn.datasets import load_digits

    data, source = load("digits"), load_digits()
    assert np.array_equal(data.x_test[:, 0].numpy(), source.images[::4])
    assert np.array_equal(data.x_train[2, 0].numpy(), source.images[3])
    assert (len(data.x_train), data.classes, data.x_train.dtype) == (1347, 10, torch.uint8)
    assert data.y_train[:4].tolist() == source.target[[1, 2, 3, 5]].tolist()


def test_the_registry_holds_the_public_names() -> None:
    assert list(DATASETS) == ["digits", "mnist", "fashion-mnist", "cifar-10"]
    assert list(NORMALISATIONS) == ["unit", "pixel", "standard", "none"]
    assert "TOMBOLA_DATA" not in os.environ


def test_importing_the_package_loads_nothing_heavy_but_torch() -> None:
    heavy = "{'sklearn', 'rich', 'urllib.request', 'matplotlib'}"
    code = f"import sys, tombola.data; print({heavy} & (set(sys.modules) - before))"
    code = f"import sys, torch, numpy; before = set(sys.modules); {code}"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "set()"


# --- where files are looked for


def test_the_data_folder_is_the_argument_then_the_variable_then_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_folder() == tmp_path / "data"
    monkeypatch.setenv("TOMBOLA_DATA", "")
    assert data_folder() == tmp_path / "data"
    put(tmp_path / "env", {})
    monkeypatch.setenv("TOMBOLA_DATA", "env")
    assert data_folder() == tmp_path / "env"
    assert data_folder(tmp_path) == tmp_path


def test_a_named_folder_that_is_none_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"data directory .*/nowhere does not exist"):
        load("mnist", tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is not a directory"):
        load("cifar-10", "file")
    monkeypatch.setenv("TOMBOLA_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"named by TOMBOLA_DATA .*/gone does not exist"):
        load("fashion-mnist")


# --- IDX files


def test_idx_files_are_read(tmp_path: Path, offline: list[str]) -> None:
    contents = idx_files()
    put(tmp_path / "tiny", contents)
    data = idx_source(contents)(tmp_path)
    assert (data.name, data.input_shape, len(data.x_train), len(data.x_test)) == ("tiny", (1, 4, 3), 5, 2)
    assert (data.y_train.tolist(), data.classes) == ([0, 1, 2, 3, 4], 10)
    assert data.x_train.numpy().tobytes() == gzip.decompress(contents["train-images-idx3-ubyte.gz"])[16:]
    assert offline == []


@pytest.mark.parametrize("name", list(idx_files()))
@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), lambda raw: b""])
def test_a_wrong_idx_file_is_an_error_and_stays_as_it_is(
    tmp_path: Path, offline: list[str], name: str, damage: Callable[[bytes], bytes]
) -> None:
    contents = idx_files()
    wrong = damage(contents[name])
    put(tmp_path / "tiny", {**contents, name: wrong})
    with pytest.raises(DataError, match=rf"tiny/{name} has \d+ bytes and md5 .*expected {len(contents[name]):,} bytes"):
        idx_source(contents)(tmp_path)
    assert (tmp_path / "tiny" / name).read_bytes() == wrong
    assert offline == []


def test_a_wrong_file_is_reported_before_anything_is_downloaded(tmp_path: Path, offline: list[str]) -> None:
    contents = idx_files()
    put(tmp_path / "tiny", {"t10k-labels-idx1-ubyte.gz": b"wrong"})
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz has 5 bytes"):
        idx_source(contents)(tmp_path)
    assert offline == []


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"not gzip", "cannot be read: Not a gzipped file"),
        (zipped(idx(np.zeros((5, 4, 3), np.uint8)))[:-9], "cannot be read"),
        (zipped(b"\x00\x00\x08\x01" + bytes(80)), "begins with '00000801'; expected '00000803'"),
        (zipped(b""), "begins with ''"),
        (zipped(b"\x00\x00\x08\x03\x00"), "holds 5 bytes"),
        (zipped(idx(np.zeros((0, 4, 3), np.uint8))), "may not be empty"),
        (zipped(idx(np.zeros((5, 4, 3), np.uint8))[:-1]), r"its header says shape \(5, 4, 3\)"),
        (zipped(idx(np.zeros((5, 4, 3), np.uint8)) + b"x"), r"needs 76"),
        (zipped(idx(np.zeros((6, 4, 3), np.uint8))), "tiny: x_train has 6 examples but y_train has 5"),
    ],
    ids=[
        "not gzip",
        "cut short",
        "labels",
        "empty",
        "half a header",
        "no images",
        "a byte less",
        "a byte more",
        "an image more",
    ],
)
def test_idx_files_are_checked_inside_too(tmp_path: Path, raw: bytes, message: str) -> None:
    contents = {**idx_files(), "train-images-idx3-ubyte.gz": raw}
    put(tmp_path / "tiny", contents)
    with pytest.raises(DataError, match=message):
        idx_source(contents)(tmp_path)


def test_idx_labels_above_nine_are_refused(tmp_path: Path) -> None:
    labels = zipped(idx(np.array([1, 2, 3, 10, 4], np.uint8)))
    contents = {**idx_files(), "train-labels-idx1-ubyte.gz": labels}
    put(tmp_path / "tiny", contents)
    with pytest.raises(DataError, match="y_train holds label 10 at index 3"):
        idx_source(contents)(tmp_path)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=40), st.sampled_from([1, 3]))
def test_any_bytes_are_an_idx_array_or_a_data_error(raw: bytes, ndim: int) -> None:
    for text in (raw, bytes((0, 0, 8, ndim)) + raw):
        try:
            assert idx(parse_idx("file", text, ndim)) == text
        except DataError as error:
            assert "file" in str(error)


def test_files_that_may_not_be_read_are_an_error(tmp_path: Path) -> None:
    contents = idx_files()
    put(tmp_path / "tiny" / "train-images-idx3-ubyte.gz", {})
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz cannot be read: Is a directory"):
        idx_source(contents)(tmp_path)
