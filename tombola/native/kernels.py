"""Calls into the compiled kernels: one opened network with its parameters."""

from __future__ import annotations

import ctypes
import functools
import math
import weakref
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tombola.compiled import Compiled
from tombola.native.layout import Array, CExamples, CNetwork, Format, Layout, Machine, aligned, lay_out
from tombola.native.links import Link

__all__ = ["Opened", "formats_of", "machine_of"]

_ACTIVATIONS = {"identity": 0, "relu": 1, "tanh": 2}
_FORMATS = {"csr": 0, "blocks": 1, "ink": 2}
_TILE = 64  # examples that pass through a network together, as in c/vector.h
_ROOM = 32  # zeros behind the parameters, for whole vectors at the end


@functools.cache
def machine_of(compiled: Compiled) -> Machine:
    """What the library's layouts depend on; tells ctypes what its functions take, once."""
    library = compiled.library
    library.tombola_open.restype = ctypes.c_void_p
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    library.tombola_open.argtypes = [pointer]
    library.tombola_close.argtypes = [pointer]
    library.tombola_train.argtypes = [
        pointer,
        pointer,
        pointer,
        pointer,
        whole,
        whole,
        whole,
        pointer,
        pointer,
        pointer,
    ]
    library.tombola_pack.argtypes = [pointer, pointer, pointer, pointer]
    library.tombola_evaluate.argtypes = [pointer, pointer, pointer, pointer, whole, pointer, pointer, pointer]
    library.tombola_ink.argtypes = [pointer, pointer, pointer, pointer]
    library.tombola_ink.restype = whole
    library.tombola_predict.argtypes = [pointer, pointer, pointer, pointer]
    for name in ("close", "train", "pack", "evaluate", "predict"):
        getattr(library, f"tombola_{name}").restype = None
    numbers = (ctypes.c_int32 * 3)()
    library.tombola_machine(numbers)
    return Machine(lanes=numbers[0], band=numbers[1], width=numbers[2])


def formats_of(
    links: Sequence[Link], alive: Mapping[str, Tensor], machine: Machine, *, ink: float | None
) -> tuple[Format, ...]:
    """The fastest format for each layer, by measurements in benchmarks/native.py.

    Args:
        ink: share of the input bytes that are not 0; None: the inputs are no bytes under one map.
    """
    formats: list[Format] = []
    for number, link in enumerate(links):
        density = float(alive[link.weight].float().mean()) if link.weight in alive else 1.0
        if link.image is not None:
            formats.append("csr")
        elif number == 0 and ink is not None and density > 0.2 + ink / 4 and ink < 0.7:
            formats.append("ink")
        elif density >= (0.5 if machine.lanes == 16 else 0.65) and link.rows % 4 == 0:
            formats.append("blocks")
        else:
            formats.append("csr")
    return tuple(formats)


class Opened:
    """A network in the library, with its parameters and optimizer moments.

    Args:
        links: its layers.
        alive: weight name -> bool tensor, contiguous: which weights exist; a missing name: all of them.
        order, ink: of the inputs, see `Source`.
        options: fields of `CNetwork` (losses, optimizer, penalties).
        l2: weight names that the penalty l2 acts on -> its size.
        noise: number of a dropout -> the words of its stream.
    """

    def __init__(
        self,
        compiled: Compiled,
        links: Sequence[Link],
        alive: Mapping[str, Tensor],
        *,
        order: Array,
        formats: Sequence[Format],
        options: Mapping[str, float],
        l2: Mapping[str, float] | None = None,
        noise: Mapping[int, tuple[int, int]] | None = None,
    ) -> None:
        self._library = compiled.library
        machine = machine_of(compiled)
        self.layout: Layout = lay_out(links, alive, formats, order, machine)
        count = self.layout.parameters + _ROOM
        self.param, self.first, self.second, self.gradient = (aligned(count, machine.dtype) for _ in range(4))
        self._order = order
        net = self._net = CNetwork(
            layers=len(links), parameters=self.layout.parameters, scale=1.0, beta1=0.9, beta2=0.9
        )
        for name, value in options.items():
            setattr(net, name, value)
        net.order = order.ctypes.data
        for name in ("param", "first", "second", "gradient"):
            setattr(net, name, getattr(self, name).ctypes.data)
        for layer, form in zip(net.layer, self.layout.forms, strict=False):
            link = form.link
            layer.rows, layer.columns, layer.format = link.rows, link.columns, _FORMATS[form.format]
            layer.activation, layer.has_bias = _ACTIVATIONS[link.activation], link.bias is not None
            if link.image is not None:
                layer.height, layer.width, layer.pool = link.image.height, link.image.width, link.image.pool
            layer.values, layer.stored, layer.bias = form.values, len(form.places), form.bias
            for name in ("start", "column", "keep", "column_start", "row", "slot"):
                array = getattr(form, name)
                setattr(layer, name, None if array is None else array.ctypes.data)
            layer.l2 = (l2 or {}).get(link.weight, 0.0)
            layer.drop_scale = 1 / (1 - link.rate)
            if link.rate and noise is not None:
                layer.drop_below = math.ceil(float(np.float32(link.rate)) * 2**24)
                layer.noise[:] = noise[link.dropout]
        self._room = self._library.tombola_open(ctypes.byref(net))
        if not self._room:
            raise MemoryError("there is no memory for the activations of the network")
        self._close = weakref.finalize(self, self._library.tombola_close, self._room)

    @property
    def updates(self) -> int:
        """Optimizer steps so far."""
        return int(self._net.updates)

    @updates.setter
    def updates(self, count: int) -> None:
        self._net.updates = count

    def train(
        self, examples: CExamples, index: Array, rates: Array, first_step: int, sums: tuple[float, float] = (0.0, 0.0)
    ) -> tuple[float, float]:
        """One optimizer step for each rate; `index` (int32) holds equally many batches.

        Returns:
            `sums` (losses, correct predictions), with those of each batch added in turn: so they do not depend on how
            many steps a call has.
        """
        loss, correct = ctypes.c_double(sums[0]), ctypes.c_double(sums[1])
        self._library.tombola_train(
            ctypes.byref(self._net), self._room, ctypes.byref(examples), index.ctypes.data, len(index) // len(rates),
            len(rates), first_step, rates.ctypes.data, ctypes.byref(loss), ctypes.byref(correct),
        )  # fmt: skip
        return loss.value, correct.value

    def ink(self, examples: CExamples) -> dict[str, Array]:
        """The bytes of a set that are not 0, as lists by the names of their fields in `CExamples`."""
        count = self._library.tombola_ink(ctypes.byref(examples), None, None, None)
        kinds = {"ink_start": np.int64, "ink_column": np.uint16, "ink_value": np.uint8}
        lists = {
            name: np.empty(examples.count + 1 if name == "ink_start" else count, kind) for name, kind in kinds.items()
        }
        self._library.tombola_ink(ctypes.byref(examples), *(array.ctypes.data for array in lists.values()))
        return lists

    def pack(self, examples: CExamples) -> Array:
        """A set of bytes, transposed for many evaluations of networks with this order of inputs."""
        tiles = aligned(-(-examples.count // _TILE) * _TILE * examples.features, np.uint8)
        self._library.tombola_pack(ctypes.byref(self._net), self._room, ctypes.byref(examples), tiles.ctypes.data)
        return tiles

    def evaluate(
        self, examples: CExamples, *, index: Array | None = None, tiles: Array | None = None
    ) -> tuple[float, float]:
        """Sums of losses and of correct predictions, without dropout."""
        loss, correct = ctypes.c_double(), ctypes.c_double()
        count = examples.count if index is None else len(index)
        self._library.tombola_evaluate(
            ctypes.byref(self._net), self._room, ctypes.byref(examples), None if index is None else index.ctypes.data,
            count, None if tiles is None else tiles.ctypes.data, ctypes.byref(loss), ctypes.byref(correct),
        )  # fmt: skip
        return loss.value, correct.value

    def predict(self, examples: CExamples) -> Tensor:
        """Outputs of all examples, float32 (n, outputs), without dropout."""
        outputs = torch.empty(examples.count, self.layout.forms[-1].link.rows)
        self._library.tombola_predict(ctypes.byref(self._net), self._room, ctypes.byref(examples), outputs.data_ptr())
        return outputs
