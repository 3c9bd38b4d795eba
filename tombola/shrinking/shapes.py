"""Operations that move elements about, and those over the dimensions that are not channels."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import torch
from torch import Tensor

from tombola.shrinking.values import ALIVE, Call, Outcome, Value, Weight

__all__ = ["join", "pad", "part", "parts", "permute", "pool", "reduce", "reshape", "same", "spread"]


def same(call: Call) -> Outcome:
    """Copies, casts, dropout in eval mode."""
    if call["train"]:
        return f"{call.place} drops at random in eval mode too"
    x: Value = call.first
    return replace(x, shape=call.shape)


def reshape(call: Call) -> Outcome:
    """Row-major regrouping: a channel dimension that is kept, or merged with its neighbours, is followed.

    With C channels behind `before` elements of which the new dimension takes in `tiles`, and `repeats` of those behind:
    each unit stands `repeats` times in a row, and the row `tiles` times.
    """
    x: Value = call.first
    if not call.follow and call.op not in ("flatten", "unsqueeze"):
        return f"{call.place} may have written its sizes down"
    width, before = x.shape[x.axis], math.prod(x.shape[: x.axis])
    behind = math.prod(x.shape[x.axis + 1 :])
    found: list[tuple[int, int, int]] = []
    for axis, size in enumerate(call.shape):
        left = math.prod(call.shape[:axis])
        if not size or not left or before % left or size % (width * (before // left)):
            continue
        tiles = before // left
        repeats = size // (width * tiles)
        if behind % repeats == 0:
            found.append((tiles, repeats, axis))
    if not found:
        return f"{call.place} splits the channels"
    tiles, repeats, axis = min(found)  # several fit a single channel only

    def regroup(row: Tensor) -> Tensor:
        return row.repeat_interleave(repeats).repeat(tiles)

    return Value(shape=call.shape, axis=axis, units=regroup(x.units), constants=regroup(x.constants))


def permute(call: Call) -> Outcome:
    """permute, transpose, t."""
    x: Value = call.first
    rank = len(x.shape)
    order = list(range(rank))
    if call.op == "permute":
        order = [dim % rank for dim in call["dims"]]
    elif rank > 1:
        one, two = (0, 1) if call.op == "t" else (call["dim0"] % rank, call["dim1"] % rank)
        order[one], order[two] = two, one
    return replace(x, shape=call.shape, axis=order.index(x.axis))


def reduce(call: Call) -> Outcome:
    """mean, sum, amax, amin over other dimensions than the channels; a sum keeps only a constant 0."""
    x: Value = call.first
    dims = call["dim"]
    if dims is None or dims == []:
        return f"{call.place} reduces the channels"
    rank = len(x.shape)
    gone = {dim % rank for dim in ([dims] if isinstance(dims, int) else dims)}
    if x.axis in gone:
        return f"{call.place} reduces the channels"
    axis = x.axis if call["keepdim"] else x.axis - sum(dim < x.axis for dim in gone)
    constants = x.constants
    if call.op == "sum":
        constants = constants.masked_fill(constants != 0, ALIVE)
    return replace(x, shape=call.shape, axis=axis, constants=constants)


def pool(call: Call) -> Outcome:
    """Pooling and resizing over the last n dimensions ("..._pool2d"): constants stay, if no border of zeros enters."""
    x: Value = call.first
    found = re.search(r"(\d)d", call.op)
    if found is None or x.axis != len(x.shape) - 1 - int(found.group(1)):
        return f"{call.place} has its channels elsewhere"
    constants = x.constants
    if call.op.startswith("avg_pool"):
        padded = any(_listed(call["padding"])) and call["count_include_pad"] is not False
        if padded or call["divisor_override"] is not None:
            constants = constants.masked_fill(constants != 0, ALIVE)
    value = replace(x, shape=call.shape, constants=constants)
    rest = tuple(None if shape is None else Value(shape=shape) for shape in call.shapes[1:])
    return (value, *rest) if rest else value


def pad(call: Call) -> Outcome:
    """Padding: a constant border keeps only a channel of the same constant; other modes repeat what is there."""
    x: Value = call.first
    widths = _listed(call["pad"] if "pad" in call.arguments else call["padding"])
    padded = {len(x.shape) - 1 - at // 2 for at, width in enumerate(widths) if width}
    if x.axis in padded:
        return f"{call.place} pads the channels"
    constants = x.constants
    if (
        call.op in ("pad", "constant_pad_nd")
        and (call["mode"] or "constant") == "constant"
        and any(w > 0 for w in widths)
        and not call.book.paths
    ):
        constants = constants.masked_fill(constants != float(call["value"] or 0), ALIVE)
    return replace(x, shape=call.shape, constants=constants)


def part(call: Call) -> Outcome:
    """select, slice and narrow: along another dimension, or a slice of channels, which then stay."""
    x: Value = call.first
    axis = call["dim"] % len(x.shape)
    if call.op == "select":
        if axis == x.axis:
            return f"{call.place} takes one channel"
        return replace(x, shape=call.shape, axis=x.axis - (axis < x.axis))
    if axis != x.axis:
        return replace(x, shape=call.shape)
    call.book.hold(x, f"{call.place} counts its channels")
    start = call["start"] or 0
    end = start + call["length"] if call.op == "narrow" else call["end"]
    row = torch.arange(len(x.units))[start : end : call["step"] or 1]
    return replace(x, shape=call.shape, units=x.units[row], constants=x.constants[row])


def parts(call: Call) -> Outcome:
    """chunk and split."""
    x: Value = call.first
    axis = (call["dim"] or 0) % len(x.shape)
    shapes = [shape or () for shape in call.shapes]
    if call.op == "unbind":
        if axis == x.axis:
            return f"{call.place} takes single channels"
        return tuple(replace(x, shape=shape, axis=x.axis - (axis < x.axis)) for shape in shapes)
    if axis != x.axis:
        return tuple(replace(x, shape=shape) for shape in shapes)
    call.book.hold(x, f"{call.place} counts its channels")
    sizes = [shape[axis] for shape in shapes]
    return tuple(
        replace(x, shape=shape, units=units, constants=constants)
        for shape, units, constants in zip(shapes, x.units.split(sizes), x.constants.split(sizes), strict=True)
    )


def join(call: Call) -> Outcome:
    """cat and stack: side by side along the channels, else coupled."""
    entries = list(call["tensors"])
    values = [entry for entry in entries if isinstance(entry, Value) and not entry.whole]
    axes = {value.axis for value in values}
    if len(axes) != 1 or any(len(entry.shape) != len(values[0].shape) for entry in entries):
        return f"{call.place} joins tensors whose channels lie in different dimensions"
    (axis,) = axes
    dim = (call["dim"] or 0) % len(call.shape)
    if call.op == "cat" and dim == axis:
        rows = [_row(entry, axis, call) for entry in entries]
        units, constants = (torch.cat(column) for column in zip(*rows, strict=True))
        return Value(shape=call.shape, axis=axis, units=units, constants=constants)
    first = values[0]
    constants = first.constants
    units = call.book.merge([value.units for value in values])
    for value in values[1:]:
        constants = constants.masked_fill(value.constants != constants, ALIVE)
    if len(values) < len(entries):
        call.book.hold(first, f"{call.place} joins it with a tensor that stays whole")
        constants = torch.full_like(constants, ALIVE)
    shift = call.op == "stack" and dim <= axis
    return Value(shape=call.shape, axis=axis + shift, units=units, constants=constants)


def spread(call: Call) -> Outcome:
    """expand, along other dimensions than the channels."""
    x: Value = call.first
    axis = x.axis + len(call.shape) - len(x.shape)
    if call.shape[axis] != len(x.units):
        return f"{call.place} repeats a channel"
    return replace(x, shape=call.shape, axis=axis)


def _row(entry: Value | Weight, axis: int, call: Call) -> tuple[Tensor, Tensor]:
    """The units of one operand of a cat; one that stays whole gets units that stay."""
    if isinstance(entry, Value) and not entry.whole:
        return entry.units, entry.constants
    width = entry.shape[axis]
    units, constants = call.book.fresh(width), torch.full((width,), ALIVE, dtype=torch.float64)
    call.book.pin(Value(shape=entry.shape, axis=axis, units=units, constants=constants), "it stands in a whole tensor")
    return units, constants


def _listed(value: object) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [int(value or 0)]  # type: ignore[call-overload]
