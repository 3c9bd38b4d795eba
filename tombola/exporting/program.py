"""`torch.export` programs in torch's own file format."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.export import Dim, ShapesCollection

from tombola.errors import UsageError, hint
from tombola.exporting.comparing import compared
from tombola.exporting.report import Exported
from tombola.exporting.still import Example, batch_of, batched, longer, size_of, split, still
from tombola.exporting.writing import require_place, write
from tombola.shrinking.checking import first_line, run
from tombola.shrinking.tracing import Arguments

__all__ = ["export_program"]


def export_program(
    model: nn.Module, example: Example, path: str | os.PathLike[str], *, dynamic_batch: bool = True
) -> Exported:
    """Write a network as a `torch.export` program (.pt2); `torch.export.load(path).module()` is callable.

    A .pt2 file is torch's own zip archive: a graph as JSON and the weights as plain bytes. The example, which torch
    would pickle into it, and the lines of the user's source are left out. What the file gives back is loaded and
    compared with the model before it is written.

    Args:
        model: stays as it is; a masked one, or `shrink(...).model`.
        example: what it is called with: a tensor, a tuple of arguments, or a dict of arguments by name; the program is
            called with the same.
        path: its folder must exist; a file of that name is replaced.
        dynamic_batch: leave the batch size open; a model that does not allow it gets the example's, with a `Hint`.

    Raises:
        UsageError: the example does not fit, torch cannot follow the model, or the outputs differ. No file is written.
        StoreError: the disk is full, ...

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = export_program(nn.Linear(3, 2), torch.ones(4, 3), f"{folder}/net.pt2")
    ...     torch.export.load(done.path).module()(torch.ones(7, 3)).shape
    torch.Size([7, 2])
    """
    place = require_place(path)
    own, arguments = still(model, example)
    data, found, is_open = b"", 0.0, False
    for is_open in (True, False) if dynamic_batch else (False,):
        try:
            data = _saved(own, arguments, is_open=is_open)
            found = compared(own, arguments, _called(data), "torch.export", twice=is_open)
            break
        except Exception as error:  # whatever torch meets in a user's model
            if not is_open:
                raise UsageError(
                    f"{type(own).__name__} cannot be exported by torch.export: {first_line(error)}. "
                    f"tombola.exporting.export_weights keeps its weights."
                ) from error
            hint(f"The batch size of {type(own).__name__} is fixed in the program: {first_line(error)}")
    write(place, data)
    batch = None if is_open else batch_of(arguments)
    return Exported(
        path=place, form="torch.export", size=len(data), parameters=size_of(own), difference=found, batch=batch
    )


def _saved(model: nn.Module, arguments: Arguments, *, is_open: bool) -> bytes:
    args, kwargs = longer(arguments) if is_open else arguments
    tensors: list[Tensor] = []
    split((args, kwargs), tensors)
    dims = ShapesCollection()
    for tensor, one in zip(tensors, batched(arguments), strict=True):
        if one and is_open:
            dims[tensor] = {0: Dim.DYNAMIC}
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        program = torch.export.export(model, args, kwargs, dynamic_shapes=dims if is_open else None, strict=False)  # type: ignore[arg-type]
        program.example_inputs = None
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)
        torch.export.save(program, file)
    return file.getvalue()


def _called(data: bytes) -> Callable[[Arguments], list[Tensor]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(io.BytesIO(data)).module()
    return lambda tried: run(module, tried)
