"""The data set every task trains on: four tensors, checked once where they enter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tombola.errors import DataError
from tombola.tensors import digest_tensors

__all__ = ["ArrayLike", "Dataset", "from_arrays"]

ArrayLike: TypeAlias = Tensor | npt.ArrayLike

_CHUNK = 1 << 20  # numbers looked at in one go


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """Training and test examples in memory, on the CPU; made and checked by `from_arrays`.

    `x_*` has shape (n, ...) and is uint8 where the source is, else float32. `y_*` is int64 of shape (n,) with labels
    from 0 to `classes` - 1, or float32 of shape (n,) or (n, outputs) for regression, where `classes` is 0.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int
    _digest: list[str] = field(default_factory=list, init=False, repr=False)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example, without the batch dimension."""
        return tuple(self.x_train.shape[1:])

    @property
    def fingerprint(self) -> str:
        """The sha256 (hex) of the four tensors; equal contents give equal fingerprints whatever their name or path."""
        if not self._digest:
            named = {"x_train": self.x_train, "y_train": self.y_train, "x_test": self.x_test, "y_test": self.y_test}
            self._digest.append(digest_tensors(named))
        return self._digest[0]

    def __repr__(self) -> str:
        """Counts and shapes in place of the numbers."""
        counts = f"{len(self.x_train)} + {len(self.x_test)} examples"
        kind = f"{self.classes} classes" if self.classes else "regression"
        return f"Dataset({self.name!r}, {counts}, input_shape={self.input_shape}, {self.x_train.dtype}, {kind})"


def from_arrays(
    name: str,
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    *,
    classes: int | None = None,
) -> Dataset:
    """Check four arrays or tensors and make a `Dataset` of them.

    Inputs: uint8 stays, bool becomes uint8, every other number becomes float32 (integers above 2**24 are rounded).
    Targets: integers or bool are class labels of shape (n,) or (n, 1); floating-point targets mean regression.
    Arrays that need no conversion are shared, not copied; do not write to them afterwards.
    `classes` is the number of classes, where None stands for the largest training label plus one.

    Raises DataError, which names the array, what it holds, and what was expected.

    >>> data = from_arrays("tiny", [[0.5], [1.5]], [0, 1], [[1.0]], [1])
    >>> data.classes, data.input_shape, data.x_train.dtype
    (2, (1,), torch.float32)
    """
    x1, x2 = _inputs(f"{name}: x_train", x_train), _inputs(f"{name}: x_test", x_test)
    y1, y2 = _targets(f"{name}: y_train", y_train), _targets(f"{name}: y_test", y_test)
    _check_lengths(name, "train", x1, y1)
    _check_lengths(name, "test", x2, y2)
    _check_alike(name, "x", x1, x2)
    _check_alike(name, "y", y1, y2)
    if y1.is_floating_point():
        count = 0
    else:
        count = classes if classes is not None else int(y1.max()) + 1
        _check_labels(f"{name}: y_train", y1, count)
        _check_labels(f"{name}: y_test", y2, count)
    return Dataset(name=name, x_train=x1, y_train=y1, x_test=x2, y_test=y2, classes=count)


def _inputs(where: str, values: ArrayLike) -> Tensor:
    """Checked inputs: uint8 or float32, shape (n, ...)."""
    tensor = _tensor(where, values, integers=torch.float32)
    if tensor.ndim < 2:
        raise DataError(
            f"{where} has shape {tuple(tensor.shape)}; expected (examples, ...) with two or more dimensions. "
            "One number per example is x.reshape(-1, 1)."
        )
    _check_filled(where, tensor)
    if tensor.dtype == torch.bool:
        return tensor.to(torch.uint8)
    _check_finite(where, tensor)
    return tensor


def _targets(where: str, values: ArrayLike) -> Tensor:
    """Checked targets: int64 labels (n,) or float32 regression targets (n,) or (n, outputs)."""
    tensor = _tensor(where, values, integers=torch.int64)
    if tensor.is_floating_point():
        if tensor.ndim not in (1, 2):
            raise DataError(
                f"{where} has shape {tuple(tensor.shape)}; expected (examples,) or (examples, outputs) for "
                "floating-point targets. Flatten the outputs of each example with y.reshape(len(y), -1)."
            )
        _check_filled(where, tensor)
        _check_finite(where, tensor)
        return tensor
    if tensor.ndim == 2 and tensor.shape[1] == 1:
        tensor = tensor.squeeze(1)
    if tensor.ndim != 1:
        raise DataError(
            f"{where} has shape {tuple(tensor.shape)}; expected one integer label per example, shape (examples,). "
            "Turn one-hot rows into labels with y.argmax(axis=1), or give regression targets as float32."
        )
    _check_filled(where, tensor)
    return tensor.to(torch.int64)


def _tensor(where: str, values: ArrayLike, integers: torch.dtype) -> Tensor:
    """A contiguous CPU tensor: floats become float32, bool and uint8 stay, other integers become `integers`."""
    if isinstance(values, Tensor):
        if values.layout is not torch.strided or values.is_complex() or values.is_quantized:
            raise DataError(
                f"{where} is a tensor of dtype {values.dtype} and layout {values.layout}; "
                "expected a dense tensor of real numbers. Convert it first, for example with .to_dense()."
            )
        target = torch.float32 if values.is_floating_point() else integers
        kept = values.dtype in (torch.uint8, torch.bool)
        return values.detach().to("cpu", values.dtype if kept else target).contiguous()
    array = _array(where, values)
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        if integers == torch.int64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise DataError(f"{where} holds {array.max()}; expected labels that fit in 64 bits, counted from 0.")
        dtype: npt.DTypeLike = np.float32 if integers == torch.float32 else np.int64
    else:
        dtype = np.float32 if array.dtype.kind == "f" else array.dtype
    with np.errstate(over="ignore"):  # numbers beyond float32 become inf here and are reported with their position
        # torch shares the memory of an array only if it is contiguous and writable; otherwise this copies it once
        return torch.from_numpy(np.require(array, dtype, ["C", "W", "E"]))


def _array(where: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """A numpy array of real numbers, or DataError."""
    if isinstance(values, np.ma.MaskedArray):
        raise DataError(f"{where} is a masked array; expected plain numbers. Fill the gaps with .filled(value) first.")
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where} is no array: {error}. Every example needs the same shape.") from None
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{where} has dtype {array.dtype}; expected integers, bool or floating-point numbers. "
            "Convert it with .astype(...), and check that every example has the same shape."
        )
    return array


def _check_filled(where: str, tensor: Tensor) -> None:
    if tensor.numel() == 0:
        raise DataError(f"{where} has shape {tuple(tensor.shape)} and holds nothing; expected at least one example.")


def _check_finite(where: str, tensor: Tensor) -> None:
    """DataError at the first NaN or infinity; looks at pieces, so that no second copy of the data is held."""
    if not tensor.is_floating_point():
        return
    rows = max(1, _CHUNK * len(tensor) // tensor.numel())
    for start in range(0, len(tensor), rows):
        piece = tensor[start : start + rows]
        bad = ~torch.isfinite(piece)
        if bad.any():
            place = [int(i) for i in bad.nonzero()[0]]
            value = float(piece[tuple(place)])
            place[0] += start
            raise DataError(
                f"{where} holds {value} at index {tuple(place)}; expected finite numbers within the range of float32. "
                "Remove or fill that example."
            )


def _check_lengths(name: str, part: str, x: Tensor, y: Tensor) -> None:
    if len(x) != len(y):
        raise DataError(
            f"{name}: x_{part} has {len(x)} examples but y_{part} has {len(y)}; expected as many targets as inputs. "
            "Check that both come from the same file."
        )


def _check_alike(name: str, letter: str, train: Tensor, test: Tensor) -> None:
    """DataError unless training and test arrays mean the same kind of thing."""
    if train.dtype != test.dtype:
        raise DataError(
            f"{name}: {letter}_train is {train.dtype} but {letter}_test is {test.dtype} after reading; "
            "expected the same kind of numbers in both. Convert one of them."
        )
    if train.shape[1:] != test.shape[1:]:
        raise DataError(
            f"{name}: {letter}_train has shape {tuple(train.shape)} but {letter}_test has {tuple(test.shape)}; "
            "expected equal shapes after the first dimension. Reshape one of them."
        )


def _check_labels(where: str, labels: Tensor, classes: int) -> None:
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        index = int(outside.nonzero()[0])
        raise DataError(
            f"{where} holds label {int(labels[index])} at index {index}; expected labels from 0 to {classes - 1}, as "
            f"there are {classes} classes in the training set. Renumber the labels or correct that example."
        )
