"""Masks and values as compressed bytes, and back: bounded, and every byte accounted for."""

from __future__ import annotations

import math
import sys
import zlib
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tombola.tensors import pack, unpack

__all__ = ["DTYPES", "Coding", "mask_from_stream", "mask_stream", "values_from_stream", "values_stream"]

Coding = Literal["bitmap", "gaps"]

DTYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}
"""The dtypes that a ticket file can hold, by name."""

_FAR = 255  # this byte skips so many places and keeps none


def mask_stream(kept: Tensor) -> tuple[Coding, bytes]:
    """A mask as zlib-compressed bitmap (`tensors.pack`) or 8-bit gaps, whichever is smaller.

    A gap byte v < 255 skips v pruned places and keeps the next one; 255 skips 255 places.

    >>> coding, data = mask_stream(torch.arange(1000) % 500 == 3)
    >>> coding, list(zlib.decompress(data))
    ('gaps', [3, 255, 244])
    """
    flat = kept.reshape(-1).numpy().nonzero()[0].astype(np.int64)
    skipped = np.diff(flat, prepend=-1) - 1
    ends = np.cumsum(skipped // _FAR + 1)
    codes = np.full(int(ends[-1]) if len(ends) else 0, _FAR, dtype=np.uint8)
    codes[ends - 1] = skipped % _FAR
    coded: dict[Coding, bytes] = {
        "bitmap": _deflate(pack(kept)),
        "gaps": _deflate(codes.tobytes()),
    }
    coding: Coding = "gaps" if len(coded["gaps"]) < len(coded["bitmap"]) else "bitmap"
    return coding, coded[coding]


def mask_from_stream(coding: str, data: bytes, shape: tuple[int, ...], kept: int) -> Tensor:
    """The mask that `mask_stream` turned into these bytes.

    Raises:
        ValueError: the bytes do not say where exactly `kept` weights of this shape are.
    """
    count = math.prod(shape)
    if coding == "bitmap":
        mask = unpack(_inflate(data, (count + 7) // 8), shape)
    elif coding == "gaps":
        codes = np.frombuffer(_inflate(data, None, most=kept + count // _FAR + 1), np.uint8)
        steps: NDArray[np.int64] = np.where(codes == _FAR, _FAR, codes.astype(np.int64) + 1)
        places = np.cumsum(steps)[codes != _FAR] - 1
        if (len(codes) and codes[-1] == _FAR) or (len(places) and places[-1] >= count):
            raise ValueError("gaps that lead beyond the last weight")
        mask = torch.zeros(count, dtype=torch.bool)
        mask[torch.from_numpy(places)] = True
        mask = mask.reshape(shape)
    else:
        raise ValueError("a coding that is neither bitmap nor gaps")
    found = int(mask.sum())
    if found != kept:
        raise ValueError(f"{found} kept places, not the {kept} it names")
    return mask


def values_stream(values: Tensor) -> bytes:
    """The bits of a tensor's values in row-major order, little-endian, compressed with zlib."""
    return _deflate(raw(values))


def raw(values: Tensor) -> bytes:
    """The bits of a tensor's values in row-major order, little-endian.

    >>> raw(torch.tensor([-0.0])).hex()
    '00000080'
    """
    parts = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
    array = parts.contiguous().reshape(-1).view(torch.uint8).numpy()
    return _swapped(array, parts.element_size()).tobytes()


def values_from_stream(data: bytes, dtype: torch.dtype, count: int) -> Tensor:
    """The flat tensor that `values_stream` turned into these bytes.

    Raises:
        ValueError: not exactly `count` values.
    """
    array = np.frombuffer(bytearray(_inflate(data, count * dtype.itemsize)), np.uint8)
    if dtype == torch.bool and (array > 1).any():
        raise ValueError("a truth value that is neither 0 nor 1")
    one = dtype.itemsize // (2 if dtype.is_complex else 1)
    return torch.from_numpy(_swapped(array, one)).view(dtype)


def _swapped(array: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The bytes of values of this size, from this machine's order to little-endian or back."""
    return array if sys.byteorder == "little" else array.reshape(-1, size)[:, ::-1].reshape(-1)


def _deflate(data: bytes) -> bytes:
    """Compressed with zlib; gaps and values, which hardly repeat, are smaller without its search for repetitions."""
    found = []
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
        deflater = zlib.compressobj(9, strategy=strategy)
        found.append(deflater.compress(data) + deflater.flush())
    return min(found, key=len)


def _inflate(data: bytes, size: int | None, *, most: int = 0) -> bytes:
    """Decompress, never to more than is expected: `size` bytes, or at most `most`."""
    limit = most if size is None else size
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError("bytes that are no zlib stream") from error
    if len(found) > limit or (size is not None and len(found) < size):
        raise ValueError(f"{'more' if len(found) > limit else 'fewer'} bytes than the {limit} expected")
    if not inflater.eof or inflater.unused_data:
        raise ValueError("a zlib stream that is cut or goes on after its end")
    return found
