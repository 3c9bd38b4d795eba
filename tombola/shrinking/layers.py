"""Layers with weights: which of their rows are constants, which columns each row needs, what each weight is cut by."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import torch
from torch import Tensor

from tombola.shrinking.values import ALIVE, Book, Call, Cut, Layer, Outcome, Reading, Value, Weight

__all__ = ["addmm", "batch_norm", "convolution", "linear"]


def linear(call: Call) -> Outcome:
    """y = x W^T + b."""
    return _matrix(call, call["input"], call["weight"], call["bias"], rows=0)


def addmm(call: Call) -> Outcome:
    """y = b + x W, as Transformers' `Conv1D` does."""
    if (call["beta"], call["alpha"]) != (1, 1) or not isinstance(call["mat1"], Value):
        return f"{call.place} is scaled"
    return _matrix(call, call["mat1"], call["mat2"], call["self"], rows=1)


def convolution(call: Call) -> Outcome:
    """conv1d to conv3d and their transposes, grouped or not.

    Through a border of zeros only a constant 0 stays constant; a transposed convolution has such borders always.
    """
    x, weight, bias = call["input"], call["weight"], call["bias"]
    transposed = "transpose" in call.op
    found = re.search(r"(\d)d", call.op)
    if found is None or (not x.whole and x.axis != len(x.shape) - 1 - int(found.group(1))):
        return f"{call.place} has its channels elsewhere"
    if lock := _locked(call, weight, bias):
        return lock
    values, groups = weight.tensor.detach().double().cpu(), call["groups"]
    if transposed:  # (in, out / groups, ...) -> (out / groups, in, ...)
        values = values.transpose(0, 1)
    present, total = (values != 0).flatten(2).any(2), values.flatten(2).sum(2)
    rows = 1 if transposed and groups == 1 else 0
    border = transposed or _has_border(call["padding"], values.shape[2:])
    if groups == 1:
        return _layer(call, x, weight, bias, rows, -1 - int(found.group(1)), present, total, border)
    return _grouped(call, x, weight, bias, transposed, present, total, border)


def batch_norm(call: Call) -> Outcome:
    """In eval mode c -> (c - mean) / sqrt(variance + eps) * weight + bias, channel by channel."""
    x, eps = call["input"], float(call["eps"])
    parts = [call[name] for name in ("weight", "bias", "running_mean", "running_var")]
    if call["training"] or any(not isinstance(part, Weight) for part in parts[2:]):
        return f"{call.place} takes its statistics from the batch"
    if any(part is not None and not isinstance(part, Weight) for part in parts):
        return f"{call.place} has computed weights"
    held = [part for part in parts if part is not None]
    lock = "" if call.book.paths else next((part.lock for part in held if part.lock), "")
    if lock or x.axis != 1:
        return lock or f"{call.place}: no axis"
    for part in held:
        call.book.cuts.append(Cut(name=part.name, dim=0, units=x.units))
    weight, bias, mean, variance = (None if part is None else part.tensor.detach().double().cpu() for part in parts)
    slope = 1 / torch.sqrt(variance + eps) if variance is not None else torch.ones(())
    slope = slope if weight is None else slope * weight
    shift = torch.zeros_like(slope) if bias is None else bias
    constants = torch.where(slope == 0, shift, (x.constants - mean) * slope + shift)
    value = replace(x, shape=call.shape, constants=constants)
    rest = tuple(None if shape is None else Value(shape=shape) for shape in call.shapes[1:])
    return (value, *rest) if rest else value


def _matrix(call: Call, x: Value, weight: Weight | None, bias: Weight | None, rows: int) -> Outcome:
    """A matrix over the last dimension, whose rows are dimension `rows` of the weight."""
    if not x.whole and x.axis != len(x.shape) - 1:
        return f"{call.place} has its channels elsewhere"
    if lock := _locked(call, weight, bias):
        return lock
    assert weight is not None
    total = weight.tensor.detach().double().cpu()
    if total.ndim != 2:
        return f"{call.place} has a weight of {total.ndim} dimensions"
    total = total if rows == 0 else total.t()
    return _layer(call, x, weight, bias, rows, -1, total != 0, total, border=False)


def _layer(
    call: Call,
    x: Value,
    weight: Weight,
    bias: Weight | None,
    rows: int,
    axis: int,
    present: Tensor,
    total: Tensor,
    border: bool,
) -> Value:
    """A layer whose rows and columns may all go one by one."""
    book = call.book
    inputs, outputs = x.units, book.fresh(len(present))
    constants = x.constants
    gather = x.whole and x.raw and call.gather
    if x.whole:
        inputs, constants = book.fresh(present.shape[1]), torch.full((present.shape[1],), ALIVE, dtype=torch.float64)
        if gather:
            book.tensors.append(inputs)
        else:
            book.pins.append((inputs, "it is whole"))
    if border:
        constants = constants.masked_fill(constants != 0, ALIVE)
    alive = constants.isnan()
    fixed = ~(present & alive).any(1)
    shift = torch.zeros(len(total), dtype=torch.float64) if bias is None else bias.tensor.detach().double().cpu()
    made = (shift + total[:, ~alive] @ constants[~alive]).masked_fill(~fixed, ALIVE)
    book.needs.append((outputs, inputs, present & alive))
    places, read = outputs[:, None].expand(present.shape), alive.expand(present.shape)
    places, read = (places, read) if rows == 0 else (places.t(), read.t())
    book.readings.append(Reading(weight=weight.name, outputs=places, alive=read))
    book.cuts.append(Cut(name=weight.name, dim=rows, units=outputs))
    if not x.whole or gather:
        book.cuts.append(Cut(name=weight.name, dim=1 - rows, units=inputs))
        book.layers.append(
            Layer(
                weight=weight.name,
                bias=_bias_name(weight),
                inputs=inputs,
                outputs=outputs,
                constants=constants,
                total=total,
                gather=axis if gather else 0,
            )
        )
    return _made(book, call, weight, bias, outputs, made, axis)


def _grouped(
    call: Call,
    x: Value,
    weight: Weight,
    bias: Weight | None,
    transposed: bool,
    present: Tensor,
    total: Tensor,
    border: bool,
) -> Value:
    """A grouped or depthwise convolution: each group stays or goes as a whole, with its inputs and outputs."""
    book, groups = call.book, int(call["groups"])
    wide = len(present) * groups if transposed else len(present)
    outputs = book.fresh(wide)
    columns = weight.shape[0] // groups if transposed else weight.shape[1]
    inputs = x.units if not x.whole else book.fresh(columns * groups)
    if x.whole:
        book.pins.append((inputs, "it is whole"))
    constants = x.constants if not x.whole else torch.full((columns * groups,), ALIVE, dtype=torch.float64)
    if border:
        constants = constants.masked_fill(constants != 0, ALIVE)
    by_group, out_by_group = inputs.view(groups, columns), outputs.view(groups, wide // groups)
    for members in () if book.paths else (by_group[:, 1:], out_by_group):
        book.tie(by_group[:, :1].expand_as(members).reshape(-1), members.reshape(-1))
    if transposed:  # (out / groups, in) -> (groups, out / groups, in / groups)
        present, total = (m.view(-1, groups, columns).transpose(0, 1) for m in (present, total))
    else:
        present, total = (m.view(groups, -1, columns) for m in (present, total))
    columned = constants.view(groups, 1, columns)
    alive = columned.isnan()
    fixed = ~(present & alive).any(2).reshape(-1)
    if book.paths:
        book.needs.append((outputs, inputs, torch.block_diag(*(present & alive))))
        places, read = out_by_group[:, :, None].expand(present.shape), alive.expand(present.shape)
        places, read = (m.transpose(1, 2) if transposed else m for m in (places, read))
        places, read = (m.reshape(weight.shape[:2]) for m in (places, read))
        book.readings.append(Reading(weight=weight.name, outputs=places, alive=read))
    sums = (total * columned.nan_to_num(nan=0.0)).sum(2).reshape(-1)
    shift = torch.zeros(wide, dtype=torch.float64) if bias is None else bias.tensor.detach().double().cpu()
    made = (sums + shift).masked_fill(~fixed, ALIVE)
    book.cuts.append(Cut(name=weight.name, dim=0, units=inputs if transposed else outputs))
    return _made(book, call, weight, bias, outputs, made, -1 - (weight.tensor.ndim - 2))


def _made(
    book: Book, call: Call, weight: Weight, bias: Weight | None, outputs: Tensor, constants: Tensor, axis: int
) -> Value:
    if bias is not None:
        book.cuts.append(Cut(name=bias.name, dim=0, units=outputs))
    book.made[weight.name] = outputs, ~constants.isnan()
    return Value(shape=call.shape, axis=len(call.shape) + axis, units=outputs, constants=constants)


def _locked(call: Call, weight: object, bias: object) -> str:
    """Why this weight and bias cannot be cut; empty: they can, or need not be."""
    for part in (weight, bias):
        if part is not None and not isinstance(part, Weight):
            return "its weights are computed"
    assert isinstance(weight, Weight)
    if call.book.paths:
        return ""
    if bias is not None and weight.name.rpartition(".")[0] != bias.name.rpartition(".")[0]:  # type: ignore[attr-defined]
        return "its bias is another module's"
    return weight.lock or (bias.lock if isinstance(bias, Weight) else "")


def _bias_name(weight: Weight) -> str:
    owner = weight.name.rpartition(".")[0]
    return f"{owner}.bias" if owner else "bias"


def _has_border(padding: object, kernel: tuple[int, ...]) -> bool:
    if isinstance(padding, str):
        return padding == "same" and math.prod(kernel) > 1
    return any(padding) if isinstance(padding, list | tuple) else bool(padding)
