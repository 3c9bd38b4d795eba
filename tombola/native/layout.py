"""How a network lies in memory for the compiled kernels; mirrors c/network.h field by field."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tombola.native.links import Link

__all__ = ["CExamples", "CLayer", "CNetwork", "Form", "Format", "Layout", "Machine", "aligned", "lay_out"]

Format = Literal["csr", "blocks", "ink"]

_FORMATS: dict[Format, int] = {"csr": 0, "blocks": 1, "ink": 2}
_BLOCK = 4
_PADDING = 16
_LINE = 64
_MOST_LAYERS = 16

Array = npt.NDArray[Any]


_WHOLE = ("rows", "columns", "format", "activation", "has_bias", "height", "width", "pool")


class CLayer(ctypes.Structure):
    """`Layer` of network.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in _WHOLE),
        ("drop_below", ctypes.c_uint32),
        ("noise", ctypes.c_uint32 * 2),
        *((name, ctypes.c_int64) for name in ("values", "stored", "bias")),
        *((name, ctypes.c_void_p) for name in ("start", "column", "keep", "column_start", "row", "slot")),
        *((name, ctypes.c_double) for name in ("drop_scale", "l2")),
    )


class CExamples(ctypes.Structure):
    """`Examples` of network.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("bytes", "numbers", "labels", "targets")),
        *((name, ctypes.c_void_p) for name in ("ink_start", "ink_column", "ink_value")),
        ("count", ctypes.c_int64),
        ("features", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("scale", "shift")),
    )


class CNetwork(ctypes.Structure):
    """`Network` of network.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("layers", "loss", "kind", "nesterov")),
        *(
            (name, ctypes.c_double)
            for name in ("beta1", "beta2", "eps", "momentum", "weight_decay", "clip_norm", "smoothing")
        ),
        *((name, ctypes.c_double) for name in ("scale", "shift")),
        ("order", ctypes.c_void_p),
        ("parameters", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("param", "first", "second", "gradient")),
        ("updates", ctypes.c_int64),
        ("layer", CLayer * _MOST_LAYERS),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What the compiled library says about itself: numbers in a vector, vectors in a band, bytes of a number."""

    lanes: int
    band: int
    width: int

    @property
    def dtype(self) -> npt.DTypeLike:
        """Of parameters."""
        return np.float32 if self.width == 4 else np.float64


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Form:
    """One layer in memory.

    Args:
        values, bias: where they begin in the parameter vector.
        places: of each stored value, its place in the weight (row-major); 0 where `alive` is False.
        alive: which stored values are weights that exist; the others stay 0.
        start, column, keep, column_start, row, slot: as in network.h; None where a format has none.
    """

    link: Link
    format: Format
    values: int
    bias: int
    places: Array
    alive: Array
    start: Array | None = None
    column: Array | None = None
    keep: Array | None = None
    column_start: Array | None = None
    row: Array | None = None
    slot: Array | None = None

    @property
    def end(self) -> int:
        """First place behind it in the parameter vector."""
        return _up(self.bias + self.link.rows)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """A whole network in memory."""

    forms: tuple[Form, ...]
    machine: Machine

    @property
    def parameters(self) -> int:
        """Length of the parameter vector."""
        return self.forms[-1].end

    def pack(self, state: Mapping[str, Tensor], into: Array) -> None:
        """Write the weights and biases of a state (or optimizer moments by the same names) into a parameter vector."""
        into[:] = 0
        for form in self.forms:
            weight = state[form.link.weight].detach().reshape(-1).numpy()
            into[form.values : form.values + len(form.places)] = np.where(form.alive, weight[form.places], 0)
            if form.link.bias is not None:
                into[form.bias : form.bias + form.link.rows] = state[form.link.bias].detach().numpy()

    def unpack(self, vector: Array) -> dict[str, Tensor]:
        """Dense tensors by name, in the order of the layers; exactly 0 where no weight exists."""
        state = {}
        for form in self.forms:
            link = form.link
            weight = np.zeros(link.rows * link.columns, np.float32 if self.machine.width == 4 else np.float64)
            weight[form.places[form.alive]] = vector[form.values : form.values + len(form.places)][form.alive]
            state[link.weight] = torch.from_numpy(weight).view(link.shape)
            if link.bias is not None:
                state[link.bias] = torch.from_numpy(vector[form.bias : form.bias + link.rows].copy())
        return state


def lay_out(
    links: Sequence[Link], alive: Mapping[str, Tensor], formats: Sequence[Format], order: Array, machine: Machine
) -> Layout:
    """The layout of a network.

    Args:
        alive: weight name -> bool tensor of its shape, contiguous; a missing name: all of it.
        formats: of each layer.
        order: column of an input tile -> feature, int32.
    """
    forms: list[Form] = []
    at = 0
    for number, (link, format_) in enumerate(zip(links, formats, strict=True)):
        shape = (link.rows, link.columns)
        mask = alive[link.weight].numpy().reshape(shape) if link.weight in alive else np.ones(shape, bool)
        columns = order if number == 0 and link.image is None else np.arange(link.columns, dtype=np.int32)
        arrays = _ARRANGE[format_](mask, columns, machine)
        values = at
        bias = _up(values + len(arrays["places"]))
        forms.append(Form(link=link, format=format_, values=values, bias=bias, **arrays))
        at = forms[-1].end
    return Layout(forms=tuple(forms), machine=machine)


def _csr(mask: Array, order: Array, machine: Machine) -> dict[str, Array]:
    row, column = np.nonzero(mask[:, order])
    transposed = np.argsort(column, kind="stable")
    return {
        "places": row * mask.shape[1] + order[column],
        "alive": np.ones(len(row), bool),
        "start": _starts(row, mask.shape[0]),
        "column": np.append(column, [0, 0, 0]).astype(np.uint16),  # the kernels read four at a time
        "column_start": _starts(column, mask.shape[1]),
        "row": row[transposed].astype(np.int32),
        "slot": transposed.astype(np.int32),
    }


def _starts(group: Array, groups: int) -> Array:
    starts = np.zeros(groups + 1, np.int32)
    np.cumsum(np.bincount(group, minlength=groups), out=starts[1:])
    return starts


def _blocks(mask: Array, order: Array, machine: Machine) -> dict[str, Array]:
    rows, columns = mask.shape
    ordered = mask[:, order].reshape(rows // _BLOCK, _BLOCK, columns)
    group, column = np.nonzero(ordered.any(1))
    alive = ordered[group, :, column]
    places = (group[:, None] * _BLOCK + np.arange(_BLOCK)) * columns + order[column][:, None]
    return {
        "places": places.ravel(),
        "alive": alive.ravel(),
        "start": _starts(group, rows // _BLOCK),
        "column": column.astype(np.uint16),
        "keep": (alive << np.arange(_BLOCK)).sum(1).astype(np.uint8),
    }


def _ink(mask: Array, order: Array, machine: Machine) -> dict[str, Array]:
    rows, columns = mask.shape
    vectors = -(-rows // machine.lanes)
    places = np.arange(rows * columns).reshape(rows, columns)
    room = vectors * machine.lanes - rows
    places, alive = np.pad(places, ((0, room), (0, 0))), np.pad(mask, ((0, room), (0, 0)))
    height = machine.band * machine.lanes
    bands = range(0, vectors * machine.lanes, height)
    flat, kept = (np.concatenate([a[b : b + height].T.ravel() for b in bands]) for a in (places, alive))
    found = {"places": flat, "alive": kept}
    return found if mask.all() else found | {"keep": np.packbits(kept, bitorder="little")}


_ARRANGE = {"csr": _csr, "blocks": _blocks, "ink": _ink}


def _up(place: int) -> int:
    return -(-place // _PADDING) * _PADDING


def aligned(count: int, dtype: npt.DTypeLike) -> Array:
    """Zeros that begin on a cache line."""
    size = count * np.dtype(dtype).itemsize
    raw = np.zeros(size + _LINE, np.uint8)
    begin = -raw.ctypes.data % _LINE
    return raw[begin : begin + size].view(dtype)
