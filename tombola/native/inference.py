"""Running a sparse network: outputs by the weights that exist alone."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tombola.compiled import Compiled, absent, compiled
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.native.data import view
from tombola.native.kernels import Opened, formats_of, machine_of
from tombola.native.layout import Array
from tombola.native.links import Link, Unknown
from tombola.native.structure import links_of
from tombola.training.enforce import apply_mask

__all__ = ["Runner", "compile"]

_SINGLE = 8
"""Linear layers run batches up to this size one example at a time: below a tile's cost even where no input is 0."""

_READ = {torch.float32, torch.uint8}
_ACTIVATIONS = {"identity": 0, "relu": 1, "tanh": 2}


class Runner:
    """What `compile` returns: call it with a batch of inputs for the outputs.

    Args:
        engine: native or torch.
        reason: why torch; None where it is native.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], reason: str | None) -> None:
        self._run = run
        self.reason = reason
        self.engine = "native" if reason is None else "torch"

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs (n, outputs), float32, for inputs (n, ...)."""
        return self._run(x)

    def __repr__(self) -> str:
        return f"<compiled network, engine={self.engine}{'' if self.reason is None else f' ({self.reason})'}>"


def compile(  # noqa: A001 - as torch.compile is called
    model: nn.Module,
    mask: Mask | None = None,
    *,
    scale: float = 1.0,
    shift: float = 0.0,
    shape: Sequence[int] | None = None,
) -> Runner:
    """A callable that computes `model(x)` under `mask` in evaluation mode, without gradients.

    The weights are those of now: later changes of `model` change nothing. Networks that the kernels do not know, or
    all of them where nothing is compiled, run as a masked copy in torch; `engine` and `reason` of the result say so.

    Args:
        model: convolutions and Linear layers for the kernels (see `tombola.native.why_not`), any module for torch.
        mask: which weights exist; None: those that are not 0.
        shape: of one input, channels x height x width: convolutions need it, and without it they run in torch.
        scale, shift: of uint8 inputs, which are read as x * scale + shift. Floating-point inputs are taken as they are.

    Returns:
        A callable: inputs (n, ...) of uint8 or a floating-point dtype, contiguous or not, on the CPU; outputs
        (n, outputs) in float32. It keeps buffers: use one for each thread.

    Raises:
        UsageError: the mask does not fit the model; in a call, inputs of another size, dtype or device.

    >>> from tombola.models.fully_connected import mlp
    >>> run = compile(mlp((4, 3, 2)))
    >>> run(torch.ones(5, 4)).shape
    torch.Size([5, 2])
    """
    masked = copy.deepcopy(model).eval().requires_grad_(True)
    if mask is not None:
        apply_mask(masked, mask)
    library, reason = compiled(), absent()
    links: tuple[Link, ...] = ()
    if reason is None:
        try:
            links = links_of(masked, shape)
        except Unknown as unknown:
            reason = f"the kernels do not know this network: {unknown}"
    if library is None or reason is not None:
        return Runner(_by_torch(masked, scale, shift), reason)
    return Runner(_Kernels(library, links, masked, scale, shift), None)


def _by_torch(model: nn.Module, scale: float, shift: float) -> Callable[[Tensor], Tensor]:
    dtype = next((p.dtype for p in model.parameters()), torch.float32)

    @torch.no_grad()
    def run(x: Tensor) -> Tensor:
        x = x.to(torch.float32) * scale + shift if x.dtype == torch.uint8 else x
        outputs: Tensor = model(x.to(dtype))
        return outputs.to(torch.float32)

    return run


class _Columns(ctypes.Structure):
    """`Columns` of c/single.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("rows", "columns", "activation")),
        *((name, ctypes.c_void_p) for name in ("start", "row", "value", "bias")),
    )


class _Kernels:
    """Small batches example by example, larger ones in tiles."""

    def __init__(self, library: Compiled, links: Sequence[Link], model: nn.Module, scale: float, shift: float) -> None:
        state = {name: value.detach() for name, value in model.state_dict().items()}
        self._features, self._outputs = links[0].inputs, links[-1].rows
        self._small = -1 if links[0].image is not None else _SINGLE
        self._scale, self._shift = scale, shift
        self._held: list[Array] = []  # what the structures point into
        columns = links if self._small >= 0 else ()
        self._layers = (_Columns * len(columns))(*(self._by_columns(link, state) for link in columns))
        self._buffer = np.zeros(2 * max(link.rows for link in links), np.float32)
        self._count, self._room = len(links), self._buffer.ctypes.data
        self._single = library.library.tombola_single
        whole, real, pointer = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
        self._single.argtypes = [pointer, ctypes.c_int32, whole, pointer, pointer, real, real, pointer, pointer]
        self._single.restype = None
        alive = {link.weight: state[link.weight] != 0 for link in links}
        order = np.arange(self._features, dtype=np.int32)
        self._ones, self._zeros = np.ones(self._features, np.float32), np.zeros(self._features, np.float32)
        formats = formats_of(links, alive, machine_of(library), ink=None)
        self._opened = Opened(
            library, links, alive, order=order, formats=formats, options={"scale": scale, "shift": shift}
        )
        self._opened.layout.pack(state, self._opened.param)

    def _by_columns(self, link: Link, state: dict[str, Tensor]) -> _Columns:
        weight = state[link.weight].numpy()
        column, row = np.nonzero(weight.T)
        start = np.zeros(link.columns + 1, np.int32)
        np.cumsum(np.bincount(column, minlength=link.columns), out=start[1:])
        bias = np.zeros(link.rows, np.float32) if link.bias is None else state[link.bias].numpy().copy()
        arrays = {"start": start, "row": row.astype(np.int32), "value": weight[row, column], "bias": bias}
        self._held += arrays.values()
        pointers = {name: array.ctypes.data for name, array in arrays.items()}
        activation = _ACTIVATIONS[link.activation]
        return _Columns(rows=link.rows, columns=link.columns, activation=activation, **pointers)

    def __call__(self, x: Tensor) -> Tensor:
        count = x.shape[0] if x.ndim else 0
        if x.is_cuda or not x.ndim or x.numel() != count * self._features:
            raise UsageError(
                f"The inputs have shape {tuple(x.shape)} on {x.device}; expected n examples of {self._features} "
                f"numbers each, on the CPU."
            )
        if x.dtype not in _READ:
            if not x.is_floating_point():
                raise UsageError(f"The inputs are {x.dtype}; expected uint8 or a floating-point dtype.")
            x = x.to(torch.float32)
        if not x.is_contiguous():
            x = x.contiguous()
        if count > self._small:
            return self._tiles(x, count)
        outputs = torch.empty(count, self._outputs)
        at = x.data_ptr()
        numbers, data = (at, None) if x.dtype == torch.float32 else (None, at)
        self._single(
            self._layers, self._count, count, numbers, data, self._scale, self._shift, self._room, outputs.data_ptr()
        )
        return outputs

    def _tiles(self, x: Tensor, count: int) -> Tensor:
        flat = x.detach().view(count, self._features).numpy()
        arrays = {"bytes": flat} if x.dtype == torch.uint8 else {
            "numbers": flat, "scale": self._ones, "shift": self._zeros,
        }  # fmt: skip
        return self._opened.predict(view(arrays, count=count, features=self._features).structure)
