"""ONNX files, compared with torch before they are written."""

from __future__ import annotations

import os

from torch import Tensor, nn

from tombola.errors import UsageError, hint
from tombola.exporting.comparing import compared
from tombola.exporting.onnx import dynamic, onnx_session, opset, package, to_onnx
from tombola.exporting.report import Exported
from tombola.exporting.still import Example, batch_of, size_of, still
from tombola.exporting.writing import require_place, write
from tombola.shrinking.checking import first_line
from tombola.shrinking.tracing import Arguments

__all__ = ["export_onnx"]


def export_onnx(
    model: nn.Module, example: Example, path: str | os.PathLike[str], *, dynamic_batch: bool = True, check: bool = True
) -> Exported:
    """Write a network as ONNX, after ONNX Runtime has given the same outputs as torch.

    Compared in eval mode on the example, on two random inputs like it, and, where the batch size is open, on a batch
    twice as long: max |difference| is at most 1e-4 of the largest output in float32, 1e-9 in float64, 2e-2 otherwise.

    Args:
        model: stays as it is; a masked one, or `shrink(...).model`.
        example: what it is called with: a tensor, a tuple of arguments, or a dict of arguments by name.
        path: its folder must exist; a file of that name is replaced.
        dynamic_batch: leave the batch size open; a model that does not allow it gets the example's, with a `Hint`.
        check: compare; without it no ONNX Runtime is needed.

    Raises:
        UsageError: the extra `onnx` is missing, the example does not fit, an operation has no counterpart, or the
            outputs differ. No file is written then.
        StoreError: the disk is full, ...

    Example, with the extra `onnx`:

        tombola.exporting.export_onnx(shrink(model, mask, x).model, x, "net.onnx")
    """
    place = require_place(path)
    if check:
        package("onnxruntime")
    data, found = to_onnx(model, example, dynamic_batch), None
    own, arguments = still(model, example)
    if check:
        try:
            found = _difference(own, arguments, data)
        except UsageError as error:
            if not dynamic(data):
                raise
            data = to_onnx(model, example, dynamic_batch=False)
            found = _difference(own, arguments, data)
            hint(f"The batch size of {type(own).__name__} is fixed in the graph: {first_line(error)}")
    write(place, data)
    batch = None if dynamic(data) else batch_of(arguments)
    size, numbers = len(data), size_of(own)
    return Exported(
        path=place, form="onnx", size=size, parameters=numbers, difference=found, batch=batch, opset=opset(data)
    )


def _difference(own: nn.Module, arguments: Arguments, data: bytes) -> float:
    session = onnx_session(data)

    def call(tried: Arguments) -> list[Tensor]:
        args, kwargs = tried
        return session((*args, kwargs))  # in the order of the graph's inputs

    return compared(own, arguments, call, "ONNX Runtime", twice=dynamic(data))
