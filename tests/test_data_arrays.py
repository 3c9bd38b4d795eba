"""Data sets made from arrays and from torch data sets: types, checks, fingerprint."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from data_helpers import X, Y
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from tombola.data import from_arrays, from_torch
from tombola.data.dataset import ArrayLike
from tombola.errors import DataError

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
