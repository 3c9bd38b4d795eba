"""What is known of a tensor in a network whatever its input: which of its channels are constants.

A *unit* is a channel that some layer makes: a row of a Linear, a filter of a convolution. Every channel of every tensor
belongs to one unit; a batch norm or a pooling passes the units of its input on, a flatten repeats them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["ALIVE", "Book", "Call", "Cut", "Layer", "Outcome", "Reading", "Value", "Weight"]

ALIVE = float("nan")
"""Stands among the constants for a channel that depends on the input."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """A tensor of the network.

    Args:
        shape: at the example.
        axis: of the channels; -1: nothing is known, and it must keep its size ("whole").
        units: the unit of each channel (int64).
        constants: the value of each channel that is the same everywhere for every input, else `ALIVE` (float64).
        raw: made from the network's inputs by moving and mapping single elements only.
    """

    shape: tuple[int, ...]
    axis: int = -1
    units: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    constants: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))
    raw: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing is known of it but its shape."""
        return self.axis < 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Weight:
    """A parameter or buffer of the model as an operation meets it; `lock` says why it cannot be cut, empty: it can."""

    name: str
    tensor: Tensor
    lock: str

    @property
    def shape(self) -> tuple[int, ...]:
        """As of any tensor."""
        return tuple(self.tensor.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """Dimension `dim` of parameter or buffer `name` has one entry for each of `units`."""

    name: str
    dim: int
    units: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A weight matrix from units to units, of which single columns can go.

    Args:
        weight: name of the weight.
        bias: name of the bias, whether it is there or not.
        inputs: units of the columns.
        outputs: units of the rows.
        constants: of the columns: what can be folded into the bias, else `ALIVE`.
        total: (rows, columns): what a constant 1 in this column adds to this row.
        gather: dimension of the input from which the living columns must be taken first; 0: none, they come from units.
    """

    weight: str
    bias: str
    inputs: Tensor
    outputs: Tensor
    constants: Tensor
    total: Tensor
    gather: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """One use of a weight, place by place of its first two dimensions.

    Args:
        weight: its name.
        outputs: the unit that each place adds to.
        alive: whether what each place reads depends on the input.
    """

    weight: str
    outputs: Tensor
    alive: Tensor


class Book:
    """What the walk through the network found out about its units.

    Args:
        paths: ask what lies on a path from an input to an output, whatever the values: every constant is written as 0,
            and nothing stays for the sake of a shape.

    Attributes:
        ties: pairs of equally long unit vectors that stay or go together.
        pins: units that must stay, with the reason.
        needs: (outputs, inputs, matrix): output row needs input column; without a matrix each needs its own.
        readings: every use of a weight by a layer that is followed.
        tensors: unit vectors of which at least one unit must stay.
        made: weight -> (units of its rows, which of them are constants).
    """

    def __init__(self, *, paths: bool = False) -> None:
        self.paths = paths
        self.count = 0
        self.ties: list[tuple[Tensor, Tensor]] = []
        self.pins: list[tuple[Tensor, str]] = []
        self.needs: list[tuple[Tensor, Tensor, Tensor | None]] = []
        self.readings: list[Reading] = []
        self.tensors: list[Tensor] = []
        self.cuts: list[Cut] = []
        self.layers: list[Layer] = []
        self.made: dict[str, tuple[Tensor, Tensor]] = {}
        self.whole: dict[str, str] = {}

    def fresh(self, count: int) -> Tensor:
        """New units."""
        self.count += count
        return torch.arange(self.count - count, self.count)

    def tie(self, one: Tensor, other: Tensor) -> None:
        """These stay or go together, pairwise."""
        if one is not other:
            self.ties.append((one, other))

    def merge(self, units: Sequence[Tensor]) -> Tensor:
        """The units of what joins these element by element: the same ones, tied; for paths new ones that read them."""
        if not self.paths:
            for other in units[1:]:
                self.tie(units[0], other)
            return units[0]
        made = self.fresh(len(units[0]))
        self.needs.extend((made, one, None) for one in units)
        return made

    def hold(self, value: Value, why: str) -> None:
        """Every unit of `value` stays, because a shape is asked for; that makes no path."""
        if not self.paths:
            self.pin(value, why)

    def pin(self, value: Value, why: str) -> None:
        """Every unit of `value` stays."""
        if not value.whole:
            self.pins.append((value.units, why))


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One operation of the graph.

    Args:
        op: its name without namespace and overload: "conv2d".
        target: the ATen operation itself.
        where: path of the module that called it.
        arguments: by the names of the operation's schema, defaults included; tensors are `Value` or `Weight`.
        keywords: those that are given by keyword only.
        shapes: of its results; None for what is no tensor.
        book: what is found out is written here.
        follow: whether reshapes are followed.
        gather: whether a first layer may choose among the network's inputs.
    """

    op: str
    target: Any
    where: str
    arguments: dict[str, Any]
    keywords: frozenset[str] = frozenset()
    shapes: tuple[tuple[int, ...] | None, ...]
    book: Book
    follow: bool
    gather: bool

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)

    @property
    def first(self) -> Any:
        """The first argument, which for most operations is the tensor they work on."""
        return next(iter(self.arguments.values()), None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first result."""
        return self.shapes[0] or ()

    @property
    def place(self) -> str:
        """For a message."""
        return f"{self.op} in {self.where or 'the model itself'}"

    def on(self, *tensors: Any) -> Tensor:
        """The operation applied to these in place of its first arguments."""
        rest = list(self.arguments.items())[len(tensors) :]
        positional = [value for name, value in rest if name not in self.keywords]
        result: Tensor = self.target(*tensors, *positional, **{n: v for n, v in rest if n in self.keywords})
        return result

    def operands(self) -> list[Value | Weight]:
        """All tensors among the arguments, also in lists."""
        found: list[Value | Weight] = []
        queue = list(self.arguments.values())
        while queue:
            entry = queue.pop(0)
            if isinstance(entry, Value | Weight):
                found.append(entry)
            elif isinstance(entry, list | tuple):
                queue.extend(entry)
        return found

    def whole(self, *, raw: bool = False) -> Outcome:
        """Results of which nothing is known but their shapes."""
        values = tuple(None if shape is None else Value(shape=shape, raw=raw) for shape in self.shapes)
        return values if len(values) != 1 else values[0]


Outcome = Value | tuple[Value | None, ...] | str | None
"""What a rule says of an operation's results; a text says why it cannot follow, and its operands stay whole."""
