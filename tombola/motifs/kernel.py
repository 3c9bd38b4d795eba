"""Gene networks by the compiled kernels."""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from torch import Tensor

from tombola.compiled import Compiled
from tombola.motifs.dynamics import Dynamics

__all__ = ["run", "usable"]

_GROUP = 32  # cells: the most that the kernel reads of a wave at once


class _Course(ctypes.Structure):
    """As in tombola/native/c/motifs.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("genes", "cells", "intervals", "substeps", "shown", "stride")),
        *((name, ctypes.c_double) for name in ("step", "offset", "decay", "initial")),
        ("show", ctypes.c_void_p),
        ("wave", ctypes.c_void_p),
    )


def usable(compiled: Compiled) -> bool:
    """Whether a library has the simulator: one that was built from older sources lacks it."""
    return hasattr(compiled.library, "tombola_motifs")


def run(
    compiled: Compiled, weights: Tensor, morphogen: Tensor, wave: Tensor, dynamics: Dynamics, show: tuple[int, ...]
) -> Tensor:
    """Traces as `simulate` gives them.

    Args:
        compiled: a library that is `usable`; it computes in float32, the one named `float64` in that.
        weights, morphogen: networks x genes x genes and networks x genes, divided by the scale, at most 64 genes.
        wave: half steps x cells, the morphogen.
        dynamics: the constants.
        show: genes whose traces are wanted.

    Returns:
        networks x shown genes x samples x cells.
    """
    kind = np.float64 if compiled.name == "float64" else np.float32
    networks, genes, _ = weights.shape
    padded = torch.nn.functional.pad(wave, (0, -dynamics.cells % _GROUP))
    inputs = [np.ascontiguousarray(tensor.detach().numpy(), dtype=kind) for tensor in (weights, morphogen, padded)]
    shown = np.array(show, dtype=np.int32)
    traces = np.empty((networks, len(show), dynamics.intervals + 1, dynamics.cells), dtype=kind)
    course = _Course(
        genes=genes,
        cells=dynamics.cells,
        intervals=dynamics.intervals,
        substeps=dynamics.substeps,
        shown=len(show),
        stride=padded.shape[1],
        step=dynamics.step,
        offset=dynamics.offset,
        decay=dynamics.decay,
        initial=dynamics.initial,
        show=shown.ctypes.data,
        wave=inputs[2].ctypes.data,
    )
    function = compiled.library.tombola_motifs
    pointer = ctypes.c_void_p
    function.argtypes, function.restype = (pointer, ctypes.c_int64, pointer, pointer, pointer), None
    function(ctypes.byref(course), networks, inputs[0].ctypes.data, inputs[1].ctypes.data, traces.ctypes.data)
    return torch.from_numpy(traces)
