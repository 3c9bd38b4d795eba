"""`tombola.export_model`: a network in the file format that the name asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import nn

from tombola.errors import UsageError, suggest
from tombola.exporting.checked import export_onnx
from tombola.exporting.program import export_program
from tombola.exporting.report import Exported
from tombola.exporting.still import Example, copied
from tombola.exporting.weights import export_weights
from tombola.exporting.writing import require_place
from tombola.masks import Mask
from tombola.shrinking import shrink as shrunk
from tombola.training.enforce import apply_mask

__all__ = ["SUFFIXES", "export_model"]

SUFFIXES = {".onnx": "ONNX", ".pt2": "torch.export", ".safetensors": "weights"}


def export_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    example: Example | None = None,
    mask: Mask | None = None,
    shrink: bool = False,
    inputs: Literal["keep", "gather"] = "keep",
    dynamic_batch: bool = True,
) -> Exported:
    """Write a network as ONNX (.onnx), as a `torch.export` program (.pt2), or its dense weights (.safetensors).

    Graphs are compared with torch before they are written; see `tombola.exporting`.

    Args:
        model: stays as it is.
        path: its suffix says what is written.
        example: what the model is called with; weights alone need none unless they are shrunk.
        mask: what it prunes is 0 in the file; None: the model as it is.
        shrink: cut out what the mask has made superfluous, by `tombola.shrink`.
        inputs: as for `tombola.shrink`.
        dynamic_batch: leave the batch size open, where the model allows it.

    Raises:
        UsageError: an unknown suffix, a mask or example that is missing or does not fit, or outputs that differ.
        StoreError: the disk is full, ...

    >>> import tempfile, torch
    >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> mask = Mask({"0.weight": torch.tensor([[True] * 3, [False] * 3]), "2.weight": torch.ones(1, 2) > 0})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_model(net, f"{folder}/net.pt2", torch.ones(2, 3), mask, shrink=True).parameters
    6
    """
    place = require_place(path)
    form = form_of(place)
    if form != "weights" and example is None:
        raise UsageError(f"{place} holds a graph, which needs an example: a batch that the model is called with.")
    if shrink and (mask is None or example is None):
        raise UsageError(
            "shrink=True needs the mask that says what can be cut, and an example; give both, or leave it out."
        )
    if shrink and mask is not None and example is not None:
        given = dict(example) if isinstance(example, Mapping) else example
        model = shrunk(model, mask, given, inputs=inputs).model
    elif mask is not None:
        model = copied(model)
        apply_mask(model, mask)
    if example is None or form == "weights":
        return export_weights(model, place)
    if form == "ONNX":
        return export_onnx(model, example, place, dynamic_batch=dynamic_batch)
    return export_program(model, example, place, dynamic_batch=dynamic_batch)


def form_of(path: Path) -> str:
    """What a file of this name holds.

    >>> form_of(Path("net.onnx"))
    'ONNX'
    """
    if path.suffix not in SUFFIXES:
        known = ", ".join(f"{suffix} ({form})" for suffix, form in SUFFIXES.items())
        got = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        near = suggest(path.suffix, SUFFIXES) if path.suffix else ""
        raise UsageError(f"{path} has {got}; expected one of {known}. {near}".rstrip())
    return SUFFIXES[path.suffix]
