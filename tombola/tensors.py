"""Named tensors as bytes (digest, packed masks) and the selection of exactly k smallest scores."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tombola.compiled_select import TABLES, count_digits, kernels_for, mark_smallest
from tombola.errors import UsageError

__all__ = ["Candidates", "Cut", "cut", "digest_tensors", "pack", "smallest", "unpack"]

Candidates = Sequence[Tensor | None] | None
"""For each tensor a bool tensor that is True at its candidates, or None for all of it; None for all of all."""

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHUNK = {"cpu": 1 << 19}
_DIGIT = 16
_BINS = 1 << _DIGIT


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The threshold of the k smallest scores: every value below `key`, and the first `ties` of those equal to it.

    `key` is the threshold's float bits as an integer in the same order: bits for a positive value, minus the bits
    of the absolute value for a negative one, so that -0.0 and 0.0 are both 0. float32 bits, or float64 bits where
    a float64 tensor is among the scores. For k = 0 and k = all, `key` lies beyond every float and `ties` is 0.
    """

    key: int
    ties: int


def digest_tensors(named: Mapping[str, Tensor]) -> str:
    """Hex sha256 of names, dtypes, shapes and values, whatever the order, the device and the memory layout.

    In the order of the names, each tensor adds the line `["name", "dtype", [shape]]` as JSON and its values as
    little-endian bytes in row-major order, with -0.0 as 0.0 (one-byte floats as they are).

    Args:
        named: strided tensors of any dtype and shape, 0-dimensional and empty ones included.

    Returns:
        64 hexadecimal digits.

    Raises:
        UsageError: a tensor is sparse or otherwise has no plain elements.

    >>> digest_tensors({"b": torch.zeros(2), "a": torch.ones(1)}) == digest_tensors(
    ...     {"a": torch.ones(1), "b": -torch.zeros(2)})
    True
    """
    digest = hashlib.sha256()
    for name in sorted(named):
        tensor = named[name].detach().resolve_conj().resolve_neg()
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise UsageError(f"tensor {name!r} has layout {tensor.layout}, dtype {tensor.dtype}; make it dense first")
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(json.dumps([name, dtype, list(tensor.shape)]).encode() + b"\n")
        plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        for (chunk,) in _chunks(plain):
            digest.update(_canonical(chunk))
    return digest.hexdigest()


def pack(mask: Tensor) -> bytes:
    """A bool tensor as bits: element i in row-major order is bit i % 8 (1 << that) of byte i // 8.

    Args:
        mask: bool tensor of any shape.

    Returns:
        ceil(n / 8) bytes; unused bits of the last one are 0.

    Raises:
        UsageError: the tensor is not bool.

    >>> pack(torch.tensor([True, False, True]))
    b'\\x05'
    """
    if mask.dtype != torch.bool:
        raise UsageError(f"a mask of dtype {mask.dtype} cannot be packed; expected torch.bool")
    return np.packbits(mask.detach().cpu().numpy(), axis=None, bitorder="little").tobytes()


def unpack(data: bytes, shape: Sequence[int]) -> Tensor:
    """The bool tensor that `pack` turned into these bytes.

    Args:
        data: exactly ceil(n / 8) bytes, n the product of the shape.
        shape: the shape of the result.

    Returns:
        bool tensor on the CPU.

    Raises:
        UsageError: the number of bytes is wrong, or an unused bit is set.

    >>> unpack(b"\\x05", (3,))
    tensor([ True, False,  True])
    """
    count = math.prod(shape)
    if len(data) != (count + 7) // 8:
        raise UsageError(f"a mask of shape {tuple(shape)} takes {(count + 7) // 8} bytes, not {len(data)}")
    if count % 8 and data[-1] >> count % 8:
        raise UsageError(f"a mask of shape {tuple(shape)} ends within the last byte, but bits after its end are set")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count, bitorder="little")
    return torch.from_numpy(bits.view(np.bool_)).reshape(tuple(shape))


@torch.no_grad()
def cut(scores: Sequence[Tensor], k: int, among: Candidates = None, names: Sequence[str] | None = None) -> Cut:
    """The threshold of the k smallest scores of several tensors, exact, in a few passes over the data.

    A radix search: 16 bits of the ordered float bits at a time, the histogram of those values that agree with the
    digits found so far. Two rounds for float32, four for float64; float16 and bfloat16 are read as float32. Extra
    memory is a few megabytes however large the tensors are. The compiled kernels count where they can read a tensor
    in place (`kernels_for`), torch elsewhere, with the same result.

    Args:
        scores: float tensors of any shape, layout in memory and device; infinities are legal, -0.0 equals 0.0.
        k: how many, in 0..candidates.
        among: for each tensor a bool tensor of its shape that is True at the candidates, or None for all of it.
        names: what the tensors are called in error messages.

    Returns:
        The `Cut`; below it and at its first `ties` equals lie exactly k candidates.

    Raises:
        UsageError: a candidate is NaN, k is out of range, or dtypes, shapes or lengths do not fit.

    >>> cut([torch.tensor([3.0, -1.0]), torch.tensor([0.0, 0.0])], 2)
    Cut(key=0, ties=1)
    """
    masks, wide = _checked(scores, among)
    bits = wide.itemsize * 8
    pairs = zip(scores, masks, strict=True)
    candidates = sum(score.numel() if mask is None else _count(mask) for score, mask in pairs)
    if not 0 <= k <= candidates:
        raise UsageError(f"k is {k}, but there are {candidates} candidates; expected 0 <= k <= {candidates}")
    if k in (0, candidates):
        _refuse_nan(scores, masks, names)
        return Cut(key=-(1 << bits - 1) if k == 0 else (1 << bits - 1) - 1, ties=0)
    prefix, left = 0, k
    for shift in range(bits - _DIGIT, -1, -_DIGIT):
        first = shift == bits - _DIGIT
        counts = _histogram(scores, masks, wide, shift, None if first else prefix)
        if first:
            infinite = int(torch.tensor(torch.inf, dtype=wide).view(_BITS[wide.itemsize])) >> shift
            if counts[: _BINS // 2 - infinite].any() or counts[_BINS // 2 + infinite :].any():
                _refuse_nan(scores, masks, names)
        below = counts.cumsum()
        digit = int(np.searchsorted(below, left))
        left -= int(below[digit] - counts[digit])
        prefix = (digit - _BINS // 2) if first else (prefix << _DIGIT) + digit
    return Cut(key=prefix, ties=left)


@torch.no_grad()
def smallest(
    scores: Sequence[Tensor], k: int, among: Candidates = None, names: Sequence[str] | None = None
) -> list[Tensor]:
    """Marks exactly the k smallest candidates of several tensors, as a stable sort would choose them.

    Equal scores go by position: the order of the tensors, then the row-major index.

    Args:
        scores, k, among, names: as for `cut`.

    Returns:
        For each tensor a bool tensor of its shape on its device; True at k places in all.

    Raises:
        UsageError: a candidate is NaN, k is out of range, or dtypes, shapes or lengths do not fit.

    >>> smallest([torch.tensor([2.0, 1.0, 1.0]), torch.tensor([1.0])], 2)
    [tensor([False,  True,  True]), tensor([False])]
    """
    threshold = cut(scores, k, among, names)
    masks, wide = _checked(scores, among)
    chosen, ties = [], threshold.ties
    for score, mask in zip(scores, masks, strict=True):
        result = torch.empty(score.shape, dtype=torch.bool, device=score.device)
        chosen.append(result)
        if kernels := kernels_for(score, mask, wide):
            ties = mark_smallest(kernels, score, mask, threshold.key, ties, result)
            continue
        room = _room(score, wide)
        for values, place, *rest in _chunks(score, result, *([] if mask is None else [mask])):
            keys = _keys(values, wide, room)
            torch.lt(keys, threshold.key, out=place)
            if ties:
                equal = keys == threshold.key
                for candidates in rest:
                    equal &= candidates
                first = equal.nonzero()[:ties, 0]
                place[first] = True
                ties -= len(first)
            for candidates in rest:
                place.logical_and_(candidates)
    return chosen


def _checked(scores: Sequence[Tensor], among: Candidates) -> tuple[list[Tensor | None], torch.dtype]:
    """A candidate mask or None for each tensor, and the dtype that holds all scores exactly."""
    masks: list[Tensor | None] = [None] * len(scores) if among is None else list(among)
    if len(masks) != len(scores):
        raise UsageError(f"{len(scores)} tensors of scores came with {len(masks)} candidate masks")
    for i, (score, mask) in enumerate(zip(scores, masks, strict=True)):
        if not score.is_floating_point() or score.itemsize not in _BITS:
            raise UsageError(f"scores[{i}] is {score.dtype}; expected float16, bfloat16, float32 or float64")
        if mask is not None and (mask.dtype, mask.shape, mask.device) != (torch.bool, score.shape, score.device):
            got, expected = ((t.dtype, tuple(t.shape), str(t.device)) for t in (mask, score))
            raise UsageError(f"among[{i}] is {got}; expected {(torch.bool, *expected[1:])}, as the scores are")
    return masks, torch.float64 if any(score.dtype == torch.float64 for score in scores) else torch.float32


def _histogram(
    scores: Sequence[Tensor], masks: Sequence[Tensor | None], wide: torch.dtype, shift: int, prefix: int | None
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Counts of the 16 bits at `shift` over the candidates whose higher bits are `prefix`; the top digit is signed."""
    total = np.zeros((TABLES, _BINS), np.int64)
    for score, mask in zip(scores, masks, strict=True):
        if kernels := kernels_for(score, mask, wide):
            count_digits(kernels, score, mask, shift, prefix, total)
            continue
        counts, room = torch.zeros(_BINS, dtype=torch.int64, device=score.device), _room(score, wide)
        for values, *rest in _chunks(score, *([] if mask is None else [mask])):
            keys = _keys(values, wide, room)
            keys = _take(keys, rest[0]) if rest else keys
            digits = room[0, : len(keys)]
            if prefix is None:
                torch.bitwise_right_shift(keys, shift, out=digits).add_(_BINS // 2)
            else:
                torch.bitwise_right_shift(keys, shift + _DIGIT, out=digits)
                digits = (_take(keys, digits.eq(prefix)) >> shift).bitwise_and_(_BINS - 1)
            counts += torch.bincount(digits, minlength=_BINS)
        total[0] += counts.cpu().numpy()
    summed: np.ndarray[tuple[int], np.dtype[np.int64]] = total.sum(axis=0)
    return summed


def _room(score: Tensor, wide: torch.dtype) -> Tensor:
    # Two rows for all chunks of a tensor: pages that come and go with every chunk cost more than the arithmetic.
    shape = (2, min(score.numel(), _CHUNK.get(score.device.type, 1 << 24)))
    return torch.empty(shape, dtype=_BITS[wide.itemsize], device=score.device)


def _keys(values: Tensor, wide: torch.dtype, room: Tensor) -> Tensor:
    """Floats as integers in the same order, symmetric about 0; in the second row of `room` if any is negative."""
    bits = values.detach().to(wide).resolve_neg().view(room.dtype)
    if not len(bits) or bits.min() >= 0:
        return bits
    sign, keys = room[:, : len(bits)].unbind()
    torch.bitwise_right_shift(bits, wide.itemsize * 8 - 1, out=sign)
    torch.bitwise_and(sign, torch.iinfo(room.dtype).max, out=keys)
    keys.bitwise_xor_(bits).sub_(sign)
    return keys


def _count(mask: Tensor) -> int:
    # numpy is five times as fast as torch at this.
    return int(np.count_nonzero(mask.numpy()) if mask.device.type == "cpu" else mask.count_nonzero())


def _take(values: Tensor, where: Tensor) -> Tensor:
    # numpy is four times as fast as torch at this, and it is the dearest line of a second round.
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy()[where.numpy()])
    return values.masked_select(where)


def _refuse_nan(scores: Sequence[Tensor], masks: Sequence[Tensor | None], names: Sequence[str] | None) -> None:
    for i, (score, mask) in enumerate(zip(scores, masks, strict=True)):
        start = 0
        for values, *rest in _chunks(score, *([] if mask is None else [mask])):
            bad = values.isnan() & rest[0] if rest else values.isnan()
            if bad.any():
                place = [int(j) for j in np.unravel_index(start + int(bad.nonzero()[0, 0]), score.shape)]
                called = f" ({names[i]})" if names else ""
                raise UsageError(f"scores[{i}]{called} is NaN at {place}; scores must be numbers or infinities")
            start += values.numel()


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Flat pieces of tensors of one shape, in row-major order, small enough for a cache; never a copy of a whole."""
    size = _CHUNK.get(tensors[0].device.type, 1 << 24)
    if all(tensor.is_contiguous() for tensor in tensors):
        yield from zip(*(torch.split(tensor.view(-1), size) for tensor in tensors), strict=True)
    elif tensors[0].numel() <= size:
        yield tuple(tensor.reshape(-1) for tensor in tensors)
    else:
        rows = size // math.prod(tensors[0].shape[1:])
        for blocks in zip(*(torch.split(tensor, max(rows, 1)) for tensor in tensors), strict=True):
            yield from _chunks(*(blocks if rows else (block[0] for block in blocks)))


def _canonical(chunk: Tensor) -> bytes:
    """The bytes of a flat chunk, little-endian, with the one bit pattern of -0.0 replaced by that of 0.0."""
    if chunk.is_floating_point() and chunk.itemsize in _BITS:
        bits = chunk.view(_BITS[chunk.itemsize])
        chunk = bits.masked_fill(bits == torch.iinfo(bits.dtype).min, 0)
    elif chunk.is_floating_point():
        chunk = chunk.view(torch.uint8)
    array = chunk.cpu().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
