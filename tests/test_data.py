"""Reading, checking, downloading, splitting and normalising data sets."""

from __future__ import annotations

import copy
import dataclasses
import errno
import gzip
import hashlib
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from tombola.data import (
    DATASETS,
    NORMALISATIONS,
    Affine,
    Dataset,
    files,
    from_arrays,
    from_npz,
    from_torch,
    load,
    split,
)
from tombola.data.cifar import CIFAR_10, CifarSource
from tombola.data.dataset import ArrayLike
from tombola.data.files import PublicFile, data_folder
from tombola.data.idx import FASHION_MNIST, MNIST, IdxSource, parse_idx
from tombola.errors import DataError

X, Y = np.arange(24, dtype=np.uint8).reshape(6, 4), np.array([0, 1, 2, 0, 1, 2])


def public(name: str, raw: bytes) -> PublicFile:
    return PublicFile(name=name, md5=hashlib.md5(raw).hexdigest(), size=len(raw))


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_files(tests: int = 2) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte.gz": rng.integers(0, 256, (5, 4, 3), np.uint8),
        "train-labels-idx1-ubyte.gz": np.arange(5, dtype=np.uint8),
        "t10k-images-idx3-ubyte.gz": rng.integers(0, 256, (tests, 4, 3), np.uint8),
        "t10k-labels-idx1-ubyte.gz": np.arange(tests, dtype=np.uint8),
    }
    return {name: gzip.compress(idx(array), mtime=0) for name, array in arrays.items()}


def idx_source(contents: dict[str, bytes], urls: tuple[str, ...] = ("http://example.invalid/",)) -> IdxSource:
    return IdxSource(name="tiny", urls=urls, files=tuple(public(name, raw) for name, raw in contents.items()))


def put(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in contents.items():
        (folder / name).write_bytes(raw)
    return folder


def cifar_batch(labels: list[int], seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), np.uint8)
    return np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1).tobytes()


def cifar_source(archive: bytes = b"") -> CifarSource:
    return dataclasses.replace(CIFAR_10, archive=public("cifar-10-binary.tar.gz", archive), batch_bytes=2 * 3073)


def serve(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> list[str]:
    asked: list[str] = []

    def opener(url: str, seconds: float) -> io.BytesIO:
        asked.append(url)
        name = url.rpartition("/")[2]
        if name not in contents:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        return io.BytesIO(contents[name])

    monkeypatch.setattr(files, "open_url", opener)
    return asked


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    monkeypatch.delenv("TOMBOLA_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return serve(monkeypatch, {})


# --- from_arrays


@pytest.mark.parametrize(
    ("given_x", "dtype"),
    [
        (X, torch.uint8),
        (X > 3, torch.uint8),
        (X.astype(np.int64), torch.float32),
        (X.astype(np.uint64), torch.float32),
        (X.astype(np.float16), torch.float32),
        (X.astype(np.float64), torch.float32),
        (X.astype(">f4"), torch.float32),
        (X[:, ::-1], torch.uint8),
        (X.tolist(), torch.float32),
        (torch.from_numpy(X).double(), torch.float32),
        (torch.from_numpy(X).to(torch.bfloat16), torch.float32),
        (torch.from_numpy(X).long(), torch.float32),
        (torch.from_numpy(X).float().requires_grad_(), torch.float32),
    ],
)
def test_inputs_keep_their_values_in_the_documented_type(given_x: ArrayLike, dtype: torch.dtype) -> None:
    data = from_arrays("a", given_x, Y, given_x, Y)
    assert data.x_train.dtype == dtype
    assert data.x_train.is_contiguous()
    assert not data.x_train.requires_grad
    plain = given_x.detach().float().numpy() if isinstance(given_x, Tensor) else np.asarray(given_x)
    assert np.array_equal(data.x_train.numpy(), plain)
    assert (data.classes, data.input_shape) == (3, (4,))


@pytest.mark.parametrize("y", [Y.astype(np.uint8), Y[:, None], Y.astype(np.uint64), torch.from_numpy(Y).int(), list(Y)])
def test_labels_become_int64_of_one_dimension(y: ArrayLike) -> None:
    data = from_arrays("a", X, y, X, y)
    assert data.y_train.dtype == torch.int64
    assert data.y_train.tolist() == Y.tolist()


def test_bool_labels_are_two_classes() -> None:
    assert from_arrays("a", X, Y > 0, X, Y > 0).classes == 2


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3)])
def test_floating_point_targets_mean_regression(shape: tuple[int, ...]) -> None:
    data = from_arrays("a", X, np.ones(shape), X, np.ones(shape))
    assert (data.classes, data.y_train.dtype, tuple(data.y_train.shape)) == (0, torch.float32, shape)


def test_no_copy_is_made_of_arrays_that_fit_already() -> None:
    x = X.astype(np.float32)
    assert from_arrays("a", x, Y, x, Y).x_train.data_ptr() == x.ctypes.data


def with_value(value: float, dtype: type = np.float64) -> np.ndarray:
    x = X.astype(dtype)
    x[4, 1] = value
    return x


BAD_ARRAYS = [
    ({"x_train": X[:5]}, "x_train has 5 examples but y_train has 6"),
    ({"y_test": Y[:5]}, "x_test has 6 examples but y_test has 5"),
    ({"x_train": X[:0], "y_train": Y[:0]}, r"x_train has shape \(0, 4\) and holds nothing"),
    ({"x_train": X[:, :0]}, r"x_train has shape \(6, 0\) and holds nothing"),
    ({"y_train": Y[:0]}, "y_train has shape .* holds nothing"),
    ({"x_train": with_value(np.nan)}, r"x_train holds nan at index \(4, 1\)"),
    ({"x_train": with_value(-np.inf)}, r"x_train holds -inf at index \(4, 1\)"),
    ({"x_train": with_value(1e300)}, r"x_train holds inf at index \(4, 1\).*range of float32"),
    ({"y_train": with_value(np.nan)[:, 1], "y_test": np.ones(6)}, r"y_train holds nan at index \(4,\)"),
    ({"y_train": Y - 1}, "y_train holds label -1 at index 0; expected labels from 0"),
    ({"y_test": Y + 1}, "y_test holds label 3 at index 2; .*there are 3 classes"),
    ({"y_train": Y.astype(np.uint64) + np.uint64(2**63)}, "y_train holds 9223372036854775810.*64 bits"),
    ({"x_test": X[:, :3]}, r"x_train has shape \(6, 4\) but x_test has \(6, 3\)"),
    ({"x_test": X.astype(float)}, "x_train is torch.uint8 but x_test is torch.float32"),
    ({"y_test": Y.astype(float)}, "y_train is torch.int64 but y_test is torch.float32"),
    ({"y_train": np.ones((6, 2)), "y_test": np.ones((6, 3))}, r"y_train has shape \(6, 2\) but y_test has \(6, 3\)"),
    ({"x_train": np.array([[1, "a"]] * 6, dtype=object)}, "x_train has dtype object"),
    ({"x_train": np.array([["1"]] * 6)}, "x_train has dtype <U1"),
    ({"x_train": X * 1j}, "x_train has dtype complex128"),
    ({"x_train": torch.ones(6, 4) * 1j}, "x_train is a tensor of dtype torch.complex64"),
    ({"x_train": torch.ones(6, 4).to_sparse()}, "x_train is a tensor .*sparse_coo"),
    ({"x_train": [[1, 2], [3]]}, "x_train is no array"),
    ({"x_train": np.ma.masked_equal(X, 3)}, "x_train is a masked array"),
    ({"x_train": Y}, r"x_train has shape \(6,\); expected \(examples, \.\.\.\)"),
    ({"x_train": 3}, r"x_train has shape \(\)"),
    ({"y_train": np.eye(6, dtype=int)}, r"y_train has shape \(6, 6\); expected one integer label.*argmax"),
    ({"y_train": 1}, r"y_train has shape \(\)"),
    ({"y_train": np.ones((6, 2, 2))}, r"y_train has shape \(6, 2, 2\)"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_ARRAYS)
def test_bad_arrays_are_named(changes: dict[str, Any], message: str) -> None:
    arrays = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, **changes}
    with pytest.raises(DataError, match=f"^bad: {message}"):
        from_arrays("bad", **arrays)


def test_the_place_of_a_nan_is_found_beyond_the_first_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tombola.data.dataset._CHUNK", 8)
    with pytest.raises(DataError, match=r"nan at index \(4, 1\)"):
        from_arrays("a", with_value(np.nan), Y, X.astype(float), Y)


# --- Dataset


def test_fingerprint_follows_contents_and_nothing_else() -> None:
    one = from_arrays("a", X, Y, X, Y)
    assert one.fingerprint == from_arrays("b", X.copy(), Y[:, None], X, Y).fingerprint
    assert re.fullmatch("[0-9a-f]{64}", one.fingerprint)
    others = [
        from_arrays("a", X, Y[::-1], X, Y),
        from_arrays("a", X, Y, X, Y[::-1]),
        from_arrays("a", X * 1.0, Y, X * 1.0, Y),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_a_data_set_is_frozen_and_survives_copying_and_pickling() -> None:
    data = from_arrays("a", X, Y, X, Y)
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.classes = 7  # type: ignore[misc]
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert other.fingerprint == data.fingerprint
    assert repr(data) == "Dataset('a', 6 + 6 examples, input_shape=(4,), torch.uint8, 3 classes)"


# --- from_torch


class Items(TorchDataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        return self.items[index]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[object]:
        return iter(())


@pytest.mark.parametrize(
    ("items", "x_dtype", "classes"),
    [
        ([(x, int(y)) for x, y in zip(X, Y, strict=True)], torch.uint8, 3),
        ([(torch.from_numpy(x).double(), torch.tensor(y)) for x, y in zip(X, Y, strict=True)], torch.float32, 3),
        ([[x.astype(float), np.int32(y)] for x, y in zip(X, Y, strict=True)], torch.float32, 3),
        ([(x, float(y)) for x, y in zip(X, Y, strict=True)], torch.uint8, 0),
        ([(x, np.array([y, y], np.float64)) for x, y in zip(X, Y, strict=True)], torch.uint8, 0),
    ],
)
def test_torch_data_sets_are_stacked(items: list[Any], x_dtype: torch.dtype, classes: int) -> None:
    data = from_torch(Items(items), Items(items[:3]))
    assert (data.name, data.classes, data.x_train.dtype, len(data.x_test)) == ("custom", classes, x_dtype, 3)
    assert np.array_equal(data.x_train.numpy(), X)
    assert np.array_equal(data.y_train.numpy().reshape(6, -1)[:, 0], Y)


def test_a_tensor_data_set_of_single_numbers_has_inputs_of_one_number() -> None:
    pairs = TensorDataset(torch.arange(4.0), torch.arange(4.0))
    assert from_torch(pairs, pairs).input_shape == (1,)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "is empty"),
        ([X[0]], "item 0 is a ndarray; expected a pair"),
        ([(X[0], 1, 2)], "item 0 is a tuple"),
        ([("picture", 1)], "item 0: x is a str; expected a tensor"),
        ([(X[0], "cat")], "item 0: y is a str"),
        ([(X[0], np.array("cat"))], "item 0: y has dtype <U3"),
        ([(X[0].astype(object), 1)], "item 0: x has dtype object"),
        ([(X[0], 1), (X[1, :3], 1)], r"item 1: x is torch.uint8 of shape \(3,\), but item 0"),
        ([(X[0], 1), (X[1] / 2, 1)], "item 1: x is torch.float32"),
        ([(X[0], 1), (X[1], 0.5)], "item 1: y is torch.float32"),
    ],
)
def test_bad_torch_data_sets_are_named(items: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=f"the training data set.*{message}"):
        from_torch(Items(items), Items(items))


def test_a_torch_data_set_without_length_is_refused() -> None:
    with pytest.raises(DataError, match="has no length"):
        from_torch(Endless(), Endless())


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
        (gzip.compress(idx(np.zeros((5, 4, 3), np.uint8)))[:-9], "cannot be read"),
        (gzip.compress(b"\x00\x00\x08\x01" + bytes(80)), "begins with '00000801'; expected '00000803'"),
        (gzip.compress(b""), "begins with ''"),
        (gzip.compress(b"\x00\x00\x08\x03\x00"), "holds 5 bytes"),
        (gzip.compress(idx(np.zeros((0, 4, 3), np.uint8))), "may not be empty"),
        (gzip.compress(idx(np.zeros((5, 4, 3), np.uint8))[:-1]), r"its header says shape \(5, 4, 3\)"),
        (gzip.compress(idx(np.zeros((5, 4, 3), np.uint8)) + b"x"), r"needs 76"),
        (gzip.compress(idx(np.zeros((6, 4, 3), np.uint8))), "tiny: x_train has 6 examples but y_train has 5"),
    ],
)
def test_idx_files_are_checked_inside_too(tmp_path: Path, raw: bytes, message: str) -> None:
    contents = {**idx_files(), "train-images-idx3-ubyte.gz": raw}
    put(tmp_path / "tiny", contents)
    with pytest.raises(DataError, match=message):
        idx_source(contents)(tmp_path)


def test_idx_labels_above_nine_are_refused(tmp_path: Path) -> None:
    labels = gzip.compress(idx(np.array([1, 2, 3, 10, 4], np.uint8)))
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


# --- downloads


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_missing_files_are_downloaded_and_the_rest_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = idx_files()
    names = list(contents)
    put(tmp_path / "data" / "tiny", {names[0]: contents[names[0]]})
    asked = serve(monkeypatch, contents)
    data = idx_source(contents)()
    assert asked == [f"http://example.invalid/{name}" for name in names[1:]]
    assert parts(tmp_path) == sorted(names)
    assert data.fingerprint == idx_source(contents)().fingerprint
    assert len(asked) == 3


def test_files_come_through_the_real_opener_and_the_second_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    contents = idx_files()
    origin = put(tmp_path / "origin", contents)
    source = idx_source(contents, urls=((tmp_path / "gone").as_uri() + "/", origin.as_uri() + "/"))
    assert len(source(put(tmp_path / "here", {})).x_train) == 5
    assert parts(tmp_path / "here") == sorted(contents)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: b"<html>"])
def test_a_wrong_download_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    contents = idx_files()
    last = list(contents)[-1]
    serve(monkeypatch, {**contents, last: damage(contents[last])})
    with pytest.raises(DataError, match=rf"tiny: {last} not found in .*what came has md5 .*not kept"):
        idx_source(contents)()
    assert parts(tmp_path) == sorted(set(contents) - {last})


class Breaking(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise TimeoutError("timed out")
        return super().read(10)


def test_a_broken_connection_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "open_url", lambda url, seconds: Breaking(bytes(99)))
    with pytest.raises(DataError, match=r"connection broke after 10 of .*timed out"):
        idx_source(idx_files())()
    assert parts(tmp_path) == []


def test_an_interrupted_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, idx_files())

    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_copy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        idx_source(idx_files())()
    assert parts(tmp_path) == []


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_without_network_the_error_names_files_place_and_way_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        load(name)
    for part in (*idx_files(), str(tmp_path / "data" / name), "unreachable", "Put them", "--data-dir", "TOMBOLA_DATA"):
        assert part in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_an_unwritable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = idx_files()
    serve(monkeypatch, contents)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DataError, match=r"tiny cannot be written to: Permission denied\. Change its rights"):
        idx_source(contents)()
    assert parts(tmp_path) == []


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading
    import urllib.request

    monkeypatch.undo()
    done = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(urllib.request, "urlopen", lambda *_, **__: done.wait(5))
        with pytest.raises(TimeoutError, match="no answer within"):
            files.open_url("http://example.invalid/", 0.05)
    done.set()


def test_progress_is_shown_on_a_terminal_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = idx_files()
    serve(monkeypatch, contents)
    for folder, terminal, quiet in (("a", False, False), ("b", True, True), ("c", True, False)):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        idx_source(contents)(put(tmp_path / folder, {}), quiet)
        shown = capsys.readouterr()
        assert shown.out == ""
        assert ("train-images" in shown.err) == (folder == "c")


def test_the_table_of_originals_is_complete() -> None:
    for source in (MNIST, FASHION_MNIST):
        assert [file.name for file in source.files] == list(idx_files())
        assert all(re.fullmatch("[0-9a-f]{32}", file.md5) for file in source.files)
    assert all(url.endswith("/") for source in (MNIST, FASHION_MNIST, CIFAR_10) for url in source.urls)  # type: ignore[attr-defined]
    assert CIFAR_10.archive.md5 == "c32a1d4ab5d03f1284b67883e8d87530"


# --- CIFAR-10


def official() -> dict[str, bytes]:
    batches = {f"data_batch_{n}.bin": cifar_batch([n, n + 1], seed=n) for n in range(1, 6)}
    return {**batches, "test_batch.bin": cifar_batch([0, 9], seed=9)}


def tar(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, raw in {"readme.html": b"hello", **contents}.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return buffer.getvalue()


def test_official_cifar_files_are_read_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "cifar-10-batches-bin", {**official(), "batches.meta.txt": b"airplane"})
    data = cifar_source()(tmp_path)
    assert data.y_train.tolist() == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert (data.y_test.tolist(), data.classes, data.input_shape) == ([0, 9], 10, (3, 32, 32))
    assert data.x_train[2].numpy().tobytes() == official()["data_batch_2.bin"][1:3073]
    assert capsys.readouterr() == ("", "")


def test_other_cifar_files_are_read_in_numeric_order_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = {"data_batch_10.bin": cifar_batch([3]), "data_batch_2.bin": cifar_batch([1, 2])}
    folder = put(tmp_path / "cifar-10-batches-bin", {**batches, "test_batch.bin": cifar_batch([5])})
    assert cifar_source()(tmp_path).y_train.tolist() == [1, 2, 3]
    line = f"using 2 of 5 training batches (3 images) from {folder}; not the official files, results are not comparable"
    assert capsys.readouterr() == ("", f"tombola: cifar-10: {line}\n")
    cifar_source()(tmp_path, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_five_batches_of_another_size_are_not_official(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "cifar-10-batches-bin", {**official(), "data_batch_3.bin": cifar_batch([1, 2, 3])})
    cifar_source()(tmp_path)
    assert "using 5 training batches (11 images)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_batch_2.bin": b""}, "data_batch_2.bin has 0 bytes; expected a multiple of 3,073"),
        ({"data_batch_2.bin": cifar_batch([1])[:-1]}, "data_batch_2.bin has 3,072 bytes"),
        ({"test_batch.bin": cifar_batch([1]) + b"x"}, "test_batch.bin has 3,074 bytes"),
        ({"data_batch_1.bin": cifar_batch([1, 10])}, r"data_batch_1.bin: record 1 \(counted from 0\) has label 10"),
        ({"test_batch.bin": cifar_batch([255])}, "test_batch.bin: record 0 .*label 255"),
        ({"data_batch_one.bin": cifar_batch([1])}, "data_batch_one.bin has no number"),
        ({"test_batch.bin": None}, "holds data_batch_1.bin, .*expected test_batch.bin"),
        ({f"data_batch_{n}.bin": None for n in range(1, 6)}, "holds test_batch.bin; expected .*at least one"),
    ],
)
def test_wrong_cifar_files_are_named(
    tmp_path: Path, offline: list[str], changes: dict[str, bytes | None], message: str
) -> None:
    contents = {name: raw for name, raw in {**official(), **changes}.items() if raw is not None}
    put(tmp_path / "cifar-10-batches-bin", contents)
    with pytest.raises(DataError, match=message):
        cifar_source()(tmp_path)
    assert offline == []


def test_a_cifar_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "cifar-10-batches-bin" / "test_batch.bin", {})
    with pytest.raises(DataError, match=r"test_batch.bin cannot be read: Is a directory"):
        cifar_source()(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cifar-10-batches-bin").touch()
    with pytest.raises(DataError, match=r"cifar-10-batches-bin cannot be read: Not a directory"):
        cifar_source()(tmp_path / "other")
    (tmp_path / "third" / "cifar-10-batches-bin").mkdir(parents=True)
    (tmp_path / "third" / "cifar-10-batches-bin" / "test_batch.bin").symlink_to("gone")
    with pytest.raises(DataError, match=r"test_batch.bin cannot be read: No such file"):
        cifar_source()(tmp_path / "third")


def test_the_cifar_archive_is_read_in_place_or_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tar(official())
    asked = serve(monkeypatch, {"cifar-10-binary.tar.gz": raw})
    source = cifar_source(raw)
    first, again = source(), source()
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]
    assert parts(tmp_path) == ["cifar-10-binary.tar.gz"]
    put(tmp_path / "folder" / "cifar-10-batches-bin", official())
    assert first.fingerprint == again.fingerprint == source(tmp_path / "folder").fingerprint
    assert capsys.readouterr() == ("", "")


def test_a_wrong_cifar_archive_is_an_error(tmp_path: Path, offline: list[str]) -> None:
    raw = tar(official())
    put(tmp_path, {"cifar-10-binary.tar.gz": raw[:-1]})
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz has .* truncated or altered"):
        cifar_source(raw)(tmp_path)
    for bad, message in ((b"no archive", "cannot be read"), (raw[:-300], "cannot be read"), (tar({}), "no batch file")):
        put(tmp_path, {"cifar-10-binary.tar.gz": bad})
        with pytest.raises(DataError, match=message):
            cifar_source(bad)(tmp_path)
    assert offline == []


def test_missing_cifar_files_are_named_with_both_ways_out(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").mkdir()
    with pytest.raises(DataError) as caught:
        load("cifar-10", tmp_path)
    for part in ("cifar-10-binary.tar.gz not found in", str(tmp_path), "unreachable", "Put it", "test_batch.bin"):
        assert part in str(caught.value)


# --- split


def zeros(count: int) -> Dataset:
    x, y = torch.zeros(count, 1, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    return from_arrays("zeros", x, y, x[:1], y[:1])


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, 1), (9, 1), (15, 2), (25, 3), (1_347, 135), (49_999, 5_000), (50_000, 5_000), (60_000, 5_000)],
)
def test_split_takes_a_tenth_or_5000(count: int, expected: int) -> None:
    assert len(split(zeros(count), 0).validation) == expected


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 300), st.integers(0, 2**40), st.data())
def test_split_is_a_partition_that_the_seed_decides(count: int, seed: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(1, count - 1))
    before = torch.get_rng_state()
    first, again = split(zeros(count), seed, wanted), split(zeros(count), seed, validation=wanted)
    assert len(first.validation) == wanted
    assert torch.cat([first.train, first.validation]).sort().values.equal(torch.arange(count))
    for one, other in ((first.train, again.train), (first.validation, again.validation)):
        assert one.equal(other)
        assert one.dtype == torch.int64
        assert one.equal(one.sort().values)
    assert torch.get_rng_state().equal(before)


def test_two_seeds_split_differently() -> None:
    assert not split(zeros(100), 0).validation.equal(split(zeros(100), 1).validation)


@pytest.mark.parametrize(("count", "wanted"), [(1, None), (1, 1), (5, 0), (5, 5), (5, -1)])
def test_split_refuses_what_leaves_nothing(count: int, wanted: int | None) -> None:
    with pytest.raises(DataError, match="zeros: "):
        split(zeros(count), 0, wanted)


# --- normalisation


IMAGES = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (20, 3, 4, 5), np.uint8))


@pytest.mark.parametrize("name", NORMALISATIONS)
@pytest.mark.parametrize("x", [IMAGES, IMAGES[:, 0, 0]])
def test_every_normalisation_is_one_affine_step_in_float32(name: str, x: Tensor) -> None:
    affine = NORMALISATIONS[name](x)
    shape = (-1, *[1] * (x.ndim - 2)) if len(affine.scale) > 1 else ()
    scale, shift = (torch.tensor(values, dtype=torch.float64).reshape(shape) for values in (affine.scale, affine.shift))
    result, before = affine.apply(x), x.clone()
    assert result.dtype == torch.float32
    assert torch.allclose(result.double(), x.double() * scale + shift, rtol=1e-6, atol=1e-6)
    assert x.equal(before)


def test_unit_pixel_and_none() -> None:
    assert NORMALISATIONS["unit"](torch.tensor([[0, 16]], dtype=torch.uint8)).scale == (1 / 16,)
    assert NORMALISATIONS["pixel"](IMAGES).apply(IMAGES).max() == 1
    floats = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    result = NORMALISATIONS["none"](floats).apply(floats)
    assert result.equal(floats)
    assert result.data_ptr() != floats.data_ptr()


def test_standard_has_mean_0_and_deviation_1_in_every_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = NORMALISATIONS["standard"](IMAGES)
    result = whole.apply(IMAGES).double()
    assert torch.allclose(result.mean(dim=(0, 2, 3)), torch.zeros(3).double(), atol=1e-6)
    assert torch.allclose(result.std(dim=(0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-6)
    monkeypatch.setattr("tombola.data.normalise._CHUNK", 100)
    assert np.allclose(NORMALISATIONS["standard"](IMAGES).scale, whole.scale, rtol=1e-12)
    assert len(NORMALISATIONS["standard"](IMAGES.float()[:, :, 0, 0]).scale) == 1


@pytest.mark.parametrize("value", [0.0, 0.1, 3e7, -1e-9])
def test_standard_leaves_a_constant_at_zero(value: float) -> None:
    x = torch.full((999, 2, 3, 3), value)
    affine = NORMALISATIONS["standard"](x)
    assert affine.scale == (1.0, 1.0)
    assert affine.apply(x).abs().max() <= abs(value) * 1e-6


def test_bad_normalisations_are_named() -> None:
    with pytest.raises(DataError, match="largest value 0; 'unit' divides by it"):
        NORMALISATIONS["unit"](torch.zeros(2, 2))
    with pytest.raises(DataError, match="'pixel' needs uint8"):
        NORMALISATIONS["pixel"](torch.zeros(2, 2))
    with pytest.raises(DataError, match="does not fit float32"):
        NORMALISATIONS["unit"](torch.full((2, 2), 1e-45))
    with pytest.raises(DataError, match="2 scales and 1 shifts"):
        Affine(scale=(1.0, 1.0), shift=(0.0,))
    with pytest.raises(DataError, match="expected 3 channels in dimension 1"):
        NORMALISATIONS["standard"](IMAGES).apply(IMAGES[:, :2])


def test_the_registry_holds_the_public_names() -> None:
    assert list(DATASETS) == ["digits", "mnist", "fashion-mnist", "cifar-10"]
    assert list(NORMALISATIONS) == ["unit", "pixel", "standard", "none"]
    assert "TOMBOLA_DATA" not in os.environ
