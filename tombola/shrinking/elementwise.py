"""Operations on single elements: constants go through them, and what meets element by element is coupled."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tombola.shrinking.values import ALIVE, Call, Cut, Outcome, Value, Weight

__all__ = ["binary", "prelu", "unary"]


def unary(call: Call) -> Outcome:
    """relu, gelu, tanh, powers, ...: c -> f(c)."""
    x: Value = call.first
    if any(isinstance(other, Value | Weight) for other in call.operands()[1:]):
        return f"{call.place} has a limit that is a tensor"
    constants = x.constants if call.book.paths else _finite(call.on(x.constants), x.constants)
    return replace(x, shape=call.shape, constants=constants)


def binary(call: Call) -> Outcome:
    """Sums, products, ...: the units of both sides stay or go together; 0 times anything finite is 0."""
    if call["rounding_mode"] is not None:
        return f"{call.place} rounds"
    rank = len(call.shape)
    sides = [call["self"], call["other"]]
    tensors = [side for side in sides if isinstance(side, Value | Weight)]
    axes = {side.axis + rank - len(side.shape) for side in tensors if isinstance(side, Value) and not side.whole}
    if len(axes) != 1:
        return f"{call.place} joins tensors whose channels lie in different dimensions"
    (axis,) = axes
    width = call.shape[axis]
    units: list[Tensor] = []
    blocked = False
    constants = []
    for side in sides:
        value, fills = _channels(call, side, axis - rank, width)
        constants.append(value.expand(width))
        if isinstance(side, Value) and not side.whole and fills:
            units.append(side.units)
        elif isinstance(side, Value) and not side.whole:
            call.book.pin(side, f"{call.place} spreads it over other channels")
        else:
            blocked |= fills and width > 1
    if not units:
        return f"{call.place} spreads one channel over others"
    if call.book.paths:
        result = constants[0] + constants[1]  # constant where both are
    else:
        numbers = [
            side if not isinstance(side, Value | Weight) else row for side, row in zip(sides, constants, strict=True)
        ]
        result = _finite(call.on(*numbers).expand(width), *constants)
        if call.op == "mul":
            result = torch.where((constants[0] == 0) | (constants[1] == 0), 0.0, result)
    made = Value(shape=call.shape, axis=axis, units=call.book.merge(units), constants=result)
    if blocked:
        call.book.hold(made, f"{call.place} joins it with a tensor that stays whole")
    return made


def prelu(call: Call) -> Outcome:
    """c -> max(0, c) + a min(0, c), with one slope a for all channels or one for each."""
    x: Value = call.first
    slope = call["weight"]
    if not isinstance(slope, Weight):
        return f"{call.place} has computed slopes"
    slopes = slope.tensor.double().cpu()
    if slopes.numel() > 1:
        if x.axis != 1 or (slope.lock and not call.book.paths):
            return slope.lock or f"{call.place} has its channels elsewhere"
        call.book.cuts.append(Cut(name=slope.name, dim=0, units=x.units))
    return replace(x, constants=torch.where(x.constants < 0, slopes * x.constants, x.constants))


def _channels(call: Call, side: object, axis: int, width: int) -> tuple[Tensor, bool]:
    """The constants of one side along `axis` (from behind), and whether it has as many channels as the result."""
    if not isinstance(side, Value | Weight):
        return torch.tensor([float(side)], dtype=torch.float64), False  # type: ignore[arg-type]
    fills = -axis <= len(side.shape) and side.shape[axis] == width
    if isinstance(side, Value) and not side.whole:
        return side.constants, fills
    if isinstance(side, Weight) and side.tensor.numel() == 1:
        return side.tensor.detach().double().cpu().flatten(), fills
    known = isinstance(side, Weight) and call.book.paths  # not its value, but that it is the same for every input
    return torch.tensor([0.0 if known else ALIVE], dtype=torch.float64), fills


def _finite(result: Tensor, *constants: Tensor) -> Tensor:
    """What came from a living channel lives; what is not finite is not folded."""
    alive = ~result.isfinite()
    for operand in constants:
        alive |= operand.isnan()
    return result.masked_fill(alive, ALIVE)
