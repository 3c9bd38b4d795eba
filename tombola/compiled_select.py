"""Exact selection by the compiled kernels: what tombola/tensors.py asks where a tensor is one that they can read."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tombola.compiled import Compiled, compiled

__all__ = ["TABLES", "count_digits", "kernels_for", "mark_smallest"]

TABLES = 2
"""How many tables of counts the kernels add to: SELECT_TABLES of tombola/native/c/select.c."""

_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
_FUNCTIONS = {
    "count_top": ((_POINTER, _POINTER, _LONG, _POINTER), None),
    "count_within": ((_POINTER, _POINTER, _LONG, _INT, _LONG, _POINTER), None),
    "mark": ((_POINTER, _POINTER, _LONG, _LONG, _LONG, _POINTER), _LONG),
}


def kernels_for(score: Tensor, mask: Tensor | None, wide: torch.dtype) -> Compiled | None:
    """The compiled kernels where they read these scores in place: contiguous, on the CPU, of the dtype of the search.

    Args:
        score: the scores.
        mask: their candidates, or None for all.
        wide: float32 or float64, in which all scores of the search are compared.

    Returns:
        None where there are no compiled kernels, or where they would have to copy.
    """
    plain = score.layout == torch.strided and score.device.type == "cpu" and score.dtype == wide and not score.is_neg()
    if not plain or not score.is_contiguous() or not (mask is None or mask.is_contiguous()):
        return None
    return compiled()


def count_digits(
    kernels: Compiled,
    score: Tensor,
    mask: Tensor | None,
    shift: int,
    prefix: int | None,
    counts: np.ndarray[tuple[int, int], np.dtype[np.int64]],
) -> None:
    """Adds to the counts the 16 bits at `shift` of the candidates whose higher bits are `prefix`.

    Args:
        kernels, score, mask: as `kernels_for` gave and got them.
        shift: the lowest bit of the digit.
        prefix: the higher bits as a signed number; None for the top digit, which is counted from its least value on.
        counts: TABLES rows of 65,536 counts, of which only the sums of a column mean anything.
    """
    before = (score.data_ptr(), None if mask is None else mask.data_ptr(), score.numel())
    if prefix is None:
        _function(kernels, "count_top", score.itemsize * 8)(*before, counts.ctypes.data)
    else:
        _function(kernels, "count_within", score.itemsize * 8)(*before, shift, prefix, counts.ctypes.data)


def mark_smallest(
    kernels: Compiled, score: Tensor, mask: Tensor | None, threshold: int, ties: int, chosen: Tensor
) -> int:
    """Marks the candidates below a threshold and the first of those equal to it.

    Args:
        kernels, score, mask: as `kernels_for` gave and got them.
        threshold, ties: the key of a `Cut`, and how many equal to it to mark at most.
        chosen: contiguous bool tensor of the shape of the scores, all of which is written.

    Returns:
        How many of the ties are left for later tensors.
    """
    before = (score.data_ptr(), None if mask is None else mask.data_ptr(), score.numel())
    mark = _function(kernels, "mark", score.itemsize * 8)
    return int(mark(*before, threshold, ties, chosen.data_ptr()))


@functools.cache
def _function(kernels: Compiled, name: str, width: int) -> Callable[..., Any]:
    """One exported function with its signature."""
    function = kernels.library[f"tombola_{name}_{width}"]
    function.argtypes, function.restype = _FUNCTIONS[name]
    return function
