"""How raw inputs become what a network sees: one scale and one shift, or one of each per channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tombola.errors import DataError

__all__ = ["NORMALISATIONS", "Affine", "none", "pixel", "standard", "unit"]

_CHUNK = 1 << 20  # numbers held in float64 at a time
_LARGEST = torch.finfo(torch.float32).max


@lru_cache(maxsize=64)
def _placed(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Made once: each step passes here, a GPU waits for what comes from the host, and a recorded step may not."""
    return torch.tensor(values, dtype=torch.float32, device=device)


@dataclass(frozen=True, kw_only=True, slots=True)
class Affine:
    """x * scale + shift in float32, with one entry for all inputs or one per channel (dimension 1)."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raise DataError unless there are as many shifts as scales, at least one, and all fit float32."""
        if not self.scale or len(self.scale) != len(self.shift):
            raise DataError(
                f"Affine has {len(self.scale)} scales and {len(self.shift)} shifts; expected equal numbers, 1 or more."
            )
        if not all(abs(value) < _LARGEST for value in (*self.scale, *self.shift)):
            raise DataError(f"{self} does not fit float32; rescale the inputs, whose range is too small or too large.")

    def apply(self, x: Tensor) -> Tensor:
        """A new float32 tensor of the shape and on the device of `x`, a batch (n, ...) of any real dtype.

        Raises DataError where there are several entries and `x` has another number of channels.

        >>> Affine(scale=(0.5,), shift=(1.0,)).apply(torch.tensor([[0, 2]], dtype=torch.uint8))
        tensor([[1., 2.]])
        """
        channels = len(self.scale)
        if channels > 1 and (x.ndim < 2 or x.shape[1] != channels):
            raise DataError(f"inputs have shape {tuple(x.shape)}; expected {channels} channels in dimension 1.")
        shape = (channels, *[1] * (x.ndim - 2)) if channels > 1 else ()
        scale, shift = _placed(self.scale, x.device).reshape(shape), _placed(self.shift, x.device).reshape(shape)
        return (x.to(torch.float32) * scale).add_(shift)


def unit(x: Tensor) -> Affine:
    """Divide by the largest value in the training inputs `x`: 255 for most images, 16 for digits.

    Raises DataError where that is not above zero.

    >>> unit(torch.tensor([[0, 16]], dtype=torch.uint8)).scale
    (0.0625,)
    """
    largest = float(x.max())
    if largest <= 0:
        raise DataError(f"x_train has the largest value {largest:g}; 'unit' divides by it. Use 'standard' or 'none'.")
    return Affine(scale=(1 / largest,), shift=(0.0,))


def pixel(x: Tensor) -> Affine:
    """Divide by 255. Raises DataError unless the training inputs `x` are uint8."""
    if x.dtype != torch.uint8:
        raise DataError(f"x_train is {x.dtype}; 'pixel' needs uint8. Use 'unit', 'standard' or 'none'.")
    return Affine(scale=(1 / 255,), shift=(0.0,))


def standard(x: Tensor) -> Affine:
    """Mean 0 and standard deviation 1 over the training inputs `x`, of each channel if they are images.

    Inputs (n, channels, height, width), or with more dimensions, are images; any others get one mean and deviation.
    The deviation divides by the count; where it is 0, 1 takes its place. All sums are in float64.

    >>> standard(torch.tensor([[1.0], [3.0]]))
    Affine(scale=(1.0,), shift=(-2.0,))
    """
    axes = (0, *range(2, x.ndim)) if x.ndim >= 4 else tuple(range(x.ndim))
    count = x.numel() // (x.shape[1] if x.ndim >= 4 else 1)
    mean = sum(piece.sum(axis=axes, keepdims=True) for piece in _pieces(x)) / count
    variance = sum(np.square(piece - mean).sum(axis=axes) for piece in _pieces(x)) / count
    deviation = np.sqrt(np.atleast_1d(variance))
    # the mean of equal numbers may be off by a rounding, which must not be blown up to a deviation of 1
    deviation[deviation <= 1e-12 * np.abs(mean.reshape(-1))] = 1
    return Affine(
        scale=tuple(float(value) for value in 1 / deviation),
        shift=tuple(float(value) for value in -mean.reshape(-1) / deviation),
    )


def none(x: Tensor) -> Affine:
    """Leave the numbers as they are, in float32."""
    return Affine(scale=(1.0,), shift=(0.0,))


NORMALISATIONS: dict[str, Callable[[Tensor], Affine]] = {
    "unit": unit,
    "pixel": pixel,
    "standard": standard,
    "none": none,
}


def _pieces(x: Tensor) -> Iterator[npt.NDArray[Any]]:
    """The rows of `x` in float64, a limited number at a time; numpy's sums do not depend on the number of threads."""
    rows = max(1, _CHUNK * len(x) // x.numel())
    for start in range(0, len(x), rows):
        yield x[start : start + rows].cpu().numpy().astype(np.float64)
