"""Data sets of the user's own: torch data sets and .npz files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from tombola.data.dataset import Dataset, from_arrays
from tombola.errors import DataError

__all__ = ["from_npz", "from_torch"]

_KEYS = ("x_train", "y_train", "x_test", "y_test")

Result = TypeVar("Result")


def from_torch(train: TorchDataset[Any], test: TorchDataset[Any], name: str = "custom") -> Dataset:
    """Stack two torch data sets of (x, y) pairs in memory, one read of each item.

    x is a tensor or numpy array, y a number, tensor or array. Random augmentation inside them is drawn once and stays.

    Raises DataError where an item is no pair, or differs in shape or type from the first one.

    >>> from torch.utils.data import TensorDataset
    >>> pairs = TensorDataset(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]))
    >>> from_torch(pairs, pairs).input_shape
    (3,)
    """
    x_train, y_train = _stack(f"{name}: the training data set", train)
    x_test, y_test = _stack(f"{name}: the test data set", test)
    return from_arrays(name, x_train, y_train, x_test, y_test)


def from_npz(path: str | Path) -> Dataset:
    """Read `x_train`, `y_train`, `x_test` and `y_test` from an .npz file; the file's stem becomes the name.

    Raises DataError where the file is missing, damaged or pickled, or lacks one of the arrays.
    """
    path = Path(path).expanduser()
    # numpy leaves a file open that it cannot make sense of, so it is opened here
    with _reading(path, lambda: path.open("rb")) as file:
        arrays = _members(path, _reading(path, partial(np.load, file, allow_pickle=False)))
    return from_arrays(path.stem, *arrays)


def _members(path: Path, loaded: object) -> list[npt.NDArray[Any]]:
    """The four arrays of an opened .npz file."""
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise DataError(f"{path.absolute()} holds a single array; expected an .npz file with {', '.join(_KEYS)}.")
    with loaded:
        missing = [key for key in _KEYS if key not in loaded.files]
        if missing:
            found = ", ".join(sorted(loaded.files)) or "nothing"
            raise DataError(
                f"{path.absolute()} lacks {', '.join(missing)}; found: {found}. Save it with "
                "numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)."
            )
        return [_reading(path, partial(loaded.__getitem__, key), key) for key in _KEYS]


def _reading(path: Path, read: Callable[[], Result], key: str = "") -> Result:
    """The result of `read`; whatever numpy or zipfile say about a bad file becomes a DataError."""
    place = f"{path.absolute()}{f' ({key})' if key else ''}"
    try:
        return read()
    except FileNotFoundError:
        raise DataError(f"{place} does not exist; expected an .npz file with {', '.join(_KEYS)}.") from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        if "pickle" in str(error) and "Object arrays" not in str(error):
            raise DataError(
                f"{place} is no .npz file, and pickled Python objects are never loaded; write it with numpy.savez."
            ) from None
        if "pickle" in str(error):
            raise DataError(
                f"{place} holds pickled Python objects, which are never loaded; expected arrays of numbers. "
                "Save arrays with .astype(...) and numpy.savez."
            ) from None
        raise DataError(f"{place} is damaged or no .npz file ({error}); write it again with numpy.savez.") from None
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror or error}. Check the path and its rights.") from None


def _stack(where: str, items: TorchDataset[Any]) -> tuple[Tensor, Tensor]:
    """All x and all y of a torch data set, each in one tensor that is allocated once."""
    try:
        count = len(items)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        raise DataError(f"{where} has no length; expected a map-style data set with len() and [index].") from None
    if count == 0:
        raise DataError(f"{where} is empty; expected at least one (x, y) pair.")
    x, y = _pair(where, 0, items[0])
    xs, ys = torch.empty((count, *x.shape), dtype=x.dtype), torch.empty((count, *y.shape), dtype=y.dtype)
    xs[0], ys[0] = x, y
    for index in range(1, count):
        x, y = _pair(where, index, items[index])
        _put(f"{where}, item {index}: x", xs, index, x)
        _put(f"{where}, item {index}: y", ys, index, y)
    return xs, ys


def _put(where: str, into: Tensor, index: int, value: Tensor) -> None:
    if value.shape != into.shape[1:] or value.dtype != into.dtype:
        raise DataError(
            f"{where} is {value.dtype} of shape {tuple(value.shape)}, but item 0 is {into.dtype} of shape "
            f"{tuple(into.shape[1:])}; expected every item alike. Resize or convert them in the data set's transform."
        )
    into[index] = value


def _pair(where: str, index: int, item: object) -> tuple[Tensor, Tensor]:
    """The two tensors of one item; x has one or more dimensions."""
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"{where}, item {index} is a {type(item).__name__}; expected a pair (x, y).")
    x, y = item
    if not isinstance(x, Tensor | np.ndarray):
        raise DataError(
            f"{where}, item {index}: x is a {type(x).__name__}; expected a tensor or a numpy array. "
            "Add a transform that returns a tensor with the channels first."
        )
    if isinstance(y, np.ndarray | np.generic | Tensor):
        target = y if isinstance(y, Tensor) else _plain(f"{where}, item {index}: y", y)
    elif isinstance(y, int | float):
        target = torch.tensor(y, dtype=torch.float32 if isinstance(y, float) else torch.int64)
    else:
        raise DataError(f"{where}, item {index}: y is a {type(y).__name__}; expected a number, a tensor or an array.")
    image = x if isinstance(x, Tensor) else _plain(f"{where}, item {index}: x", x)
    if image.ndim == 0:
        image = image.reshape(1)
    return _narrow(image), _narrow(target)


def _narrow(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32 if tensor.is_floating_point() else tensor.dtype)


def _plain(where: str, value: npt.NDArray[Any] | np.generic) -> Tensor:
    """A tensor with the numbers of a numpy array or scalar."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} has dtype {array.dtype}; expected integers, bool or floating-point numbers.")
    wide = np.float32 if array.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.array(array, dtype=array.dtype if array.dtype in (np.uint8, np.bool_) else wide))
