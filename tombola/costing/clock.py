"""Times of several functions, side by side in one process."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

__all__ = ["one_setting", "side_by_side"]

_SAMPLE = 0.005
"""Seconds that one sample lasts at least: a clock is read twice in it."""


@contextmanager
def one_setting(threads: int) -> Iterator[None]:
    """So many threads in torch, no gradients, no garbage collection; all is put back."""
    before, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(threads)
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()


def side_by_side(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of one call of each function in each round; every round runs all, in turn forwards and backwards.

    A function is called so often in a row that this lasts a few milliseconds, and the mean is kept. One untimed round
    comes first.

    Args:
        functions: name -> what to time.
        rounds: at least 1.

    Returns:
        name -> one time for each round.

    >>> sorted(side_by_side({"a": lambda: 1, "b": lambda: 2}, rounds=3))
    ['a', 'b']
    """
    order = []
    for name, function in functions.items():
        function()
        order.append((name, function, max(1, math.ceil(_SAMPLE / max(_timed(function, 1), 1e-7)))))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function, calls in order:
            seconds = _timed(function, calls)
            if number:
                times[name].append(seconds)
        order.reverse()
    return times


def _timed(function: Callable[[], object], calls: int) -> float:
    begun = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - begun) / calls
