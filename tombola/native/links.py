"""The layers that the native trainer knows, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["POOL", "WIDEST", "Image", "Link", "Unknown", "check_options", "convolution", "linear", "place"]

WIDEST = 65_535
"""Most inputs of a layer: columns are kept as 16-bit numbers."""

_BORDER = 5  # rows or columns that the kernels may add to an image


class Unknown(Exception):
    """The network has a part that the native trainer does not know; says which, as a clause."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """What a convolution of 3 x 3 reads, with a border of zeros; `pool`: a 2 x 2 pool stands behind its activation."""

    channels: int
    height: int
    width: int
    pool: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One layer, Linear or a convolution, with what stands behind it.

    Args:
        weight, bias: names in the network's state; bias None: there is none.
        rows, columns: of the weight as a matrix: outputs and inputs, or channels out and 9 * channels in.
        image: what a convolution reads; None: the layer is Linear.
        activation: relu, tanh or identity, behind the layer.
        rate: of the dropout behind the activation; 0: none.
        dropout: number of that dropout among the network's, in module order: it names its stream of noise.
    """

    weight: str
    bias: str | None
    rows: int
    columns: int
    image: Image | None = None
    activation: str = "identity"
    rate: float = 0.0
    dropout: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        return (self.rows, self.columns) if self.image is None else (self.rows, self.image.channels, 3, 3)

    @property
    def inputs(self) -> int:
        """Numbers that the layer reads of an example."""
        image = self.image
        return self.columns if image is None else image.channels * image.height * image.width

    @property
    def behind(self) -> tuple[int, ...]:
        """The shape of what it leaves of an example."""
        image = self.image
        if image is None:
            return (self.rows,)
        halves = 1 + image.pool
        return (self.rows, image.height // halves, image.width // halves)


def place(name: str, module: nn.Module) -> str:
    """How a layer is called in what is said about it."""
    return f"layer {name!r} ({type(module).__name__})" if name else type(module).__name__


def linear(name: str, module: nn.Linear) -> Link:
    """A Linear layer of this name.

    Raises:
        Unknown: it is too wide, or empty.
    """
    rows, columns = module.out_features, module.in_features
    if columns > WIDEST:
        raise Unknown(f"{place(name, module)} has {columns} inputs, more than {WIDEST}")
    if not columns or not rows:
        raise Unknown(f"{place(name, module)} is empty")
    prefix = f"{name}." if name else ""
    bias = f"{prefix}bias" if module.bias is not None else None
    return Link(weight=f"{prefix}weight", bias=bias, rows=rows, columns=columns)


_CONVOLUTION: dict[str, tuple[Any, ...]] = {
    "kernel_size": ((3, 3),), "stride": ((1, 1),), "padding": ((1, 1), "same"), "dilation": ((1, 1),), "groups": (1,),
    "padding_mode": ("zeros",),
}  # fmt: skip
POOL: dict[str, tuple[Any, ...]] = {
    "kernel_size": (2, (2, 2)), "stride": (2, (2, 2), None), "padding": (0, (0, 0)), "dilation": (1, (1, 1)),
    "ceil_mode": (False,), "return_indices": (False,),
}  # fmt: skip
"""Option of a max-pool -> the values that the kernels know, in the order of its arguments."""


def check_options(at: str, options: Mapping[str, Any], known: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse, for the layer `at`, options with values other than the known ones.

    Raises:
        Unknown: which.
    """
    for option, value in options.items():
        if value not in known.get(option, ()):
            expected = f", not {known[option][0]!r}" if option in known else ""
            raise Unknown(f"{at} has {option}={value!r}{expected}")


def convolution(name: str, module: nn.Conv2d, shape: tuple[int, ...] | None) -> Link:
    """A convolution of this name.

    Args:
        shape: of what it reads of an example; None: it is not known.

    Raises:
        Unknown: it is not 3 x 3 of stride 1 with a border of zeros, or does not read such examples.
    """
    at = place(name, module)
    check_options(at, {option: getattr(module, option) for option in _CONVOLUTION}, _CONVOLUTION)
    if shape is None:
        raise Unknown(f"{at} reads images, whose size is not known")
    channels = module.in_channels
    if len(shape) != 3 or shape[0] != channels or not all(shape):
        raise Unknown(f"{at} reads images of {channels} channels, and here they have shape {tuple(shape)}")
    if 9 * channels > WIDEST:
        raise Unknown(f"{at} has {channels} channels, more than {WIDEST // 9}")
    if max(channels, module.out_channels) * (shape[1] + _BORDER) * (shape[2] + _BORDER) >= 2**31:
        raise Unknown(f"{at} reads images of {channels} x {shape[1]} x {shape[2]}, more than its 32-bit places reach")
    prefix = f"{name}." if name else ""
    return Link(
        weight=f"{prefix}weight",
        bias=f"{prefix}bias" if module.bias is not None else None,
        rows=module.out_channels,
        columns=9 * channels,
        image=Image(channels=channels, height=shape[1], width=shape[2]),
    )
