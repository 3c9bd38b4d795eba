"""Costs in words: what one gains, and what not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tombola.costing.report import Cost, Timing

__all__ = ["duration", "percent", "sentence"]

HARDLY = 0.9
"""A network that keeps this share of its parameters has hardly shrunk."""


def percent(share: float) -> str:
    """A share of 1, never rounded to all or nothing.

    >>> percent(0.035), percent(0.99996), percent(0.00012), percent(1)
    ('3.5 %', 'over 99.9 %', '0.012 %', '100 %')
    """
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    return f"{100 * share:.1f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def duration(seconds: float) -> str:
    """A time in the unit in which it reads best.

    >>> duration(3.61e-5), duration(0.0123), duration(2.5)
    ('36.1 us', '12.3 ms', '2.50 s')
    """
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def sentence(cost: Cost) -> str:
    """What one gains and what not, from the numbers alone."""
    if cost.kept == cost.prunable:
        return f"Nothing is pruned here: this is the dense network, and there is nothing to gain. {_file(cost)}"
    return f"This ticket keeps {percent(cost.density)} of the weights{_lost(cost)}, {_size(cost)} {_file(cost)}"


def _lost(cost: Cost) -> str:
    if cost.effective is None or cost.effective == cost.kept:
        return ""
    if not cost.effective:
        return " (none of them on a path from an input to an output: what it puts out is constant)"
    return f" ({percent(cost.effective / cost.kept)} of them on a path from input to output)"


def _size(cost: Cost) -> str:
    shrunk, gathered = cost.timings["shrunk"], cost.timings["gathered"]
    left = (shrunk.parameters or cost.parameters) / cost.parameters
    more = (gathered.parameters or cost.parameters) / cost.parameters
    inputs = f" ({percent(more)} with unread inputs gathered)" if more < left else ""
    if left == 1 and shrunk.why:
        return f"but Tombola cannot shrink this network ({shrunk.why}); run densely it is {_speed(shrunk)}."
    if left == 1:
        return (
            f"but an unstructured mask does not shrink the network: all of its parameters stay{inputs}, and run "
            f"densely it is {_speed(shrunk)}."
        )
    if left >= HARDLY:
        return (
            f"but an unstructured mask hardly shrinks the network: {percent(left)} of its parameters stay{inputs}, and "
            f"run densely it is {_speed(shrunk)}."
        )
    return f"and {percent(left)} of the parameters stay when the network is shrunk{inputs}: it is {_speed(shrunk)}."


def _speed(timing: Timing) -> str:
    """Beside the dense network, in the same rounds."""
    if timing.gain is None:
        return "not timed"
    if not timing.measurable:
        return "not measurably faster or slower"
    if timing.gain > 1:
        return f"{_times(timing.gain)} times as fast as before"
    return f"slower than before ({_times(timing.gain)} times as fast)"


def _file(cost: Cost) -> str:
    ratio = cost.sizes["dense"] / cost.sizes["packed_zlib"]
    size = f"The file is {_times(ratio)} times smaller" if ratio >= 1.05 else "The file is hardly smaller"
    native, onnx = cost.timings["native"], cost.timings["onnx"]
    beside = f" (ONNX Runtime, which skips no zeros: {_times(onnx.gain)})" if onnx.gain is not None else ""
    if native.gain is None:
        also = f"; ONNX Runtime, which skips no zeros, is {_speed(onnx)}" if onnx.gain is not None else ""
        return f"{size}; the native sparse runner does not apply: {native.why}{also}."
    speed = _speed(native).replace("as before", "as torch on the dense network").replace("than before", "than torch")
    return f"{size}; the native sparse runner is {speed} at batch {cost.batch}{beside}."


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 19.5 else f"{ratio:.1f}" if ratio >= 1.95 else f"{ratio:.2f}"
