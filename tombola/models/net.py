"""Options of the registered networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from tombola.errors import UsageError, suggest
from tombola.models.entries import INITIALIZERS
from tombola.specs import added

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Activation", "Builder", "Net", "NormScale"]

Activation = Literal["relu", "tanh", "identity"]
NormScale = Literal["one", "uniform"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Net:
    """Options of the registered networks; a network refuses those it does not have.

    Args:
        hidden: widths of the fully connected hidden layers (mlp, conv-2, -4, -6); empty: the network's own.
        activation: between the layers; networks with batch norm have relu alone.
        dropout: rate on the fully connected hidden layers, in [0, 1).
        width: factor of all hidden widths, channels included, above 0; no layer gets narrower than 1.
        initializer: how weights are drawn: kaiming-normal, gaussian:sigma=0.1, ... (tombola list initializers); empty:
            the network's own, glorot-normal without batch norm and kaiming-normal with it.
        norm_scale: scales of batch norm at first: one, or uniform in [0, 1).
    """

    hidden: tuple[int, ...] = ()
    activation: Activation = "relu"
    dropout: float = 0.0
    width: float = added(1.0)
    initializer: str = added("")
    norm_scale: NormScale = added("one")

    def __post_init__(self) -> None:
        if not (isinstance(self.width, int | float) and math.isfinite(self.width) and self.width > 0):
            raise UsageError(f"net.width is {self.width!r}; expected a factor above 0.")
        if self.norm_scale not in get_args(NormScale):
            known = suggest(str(self.norm_scale), get_args(NormScale))
            raise UsageError(f"Unknown net.norm_scale {self.norm_scale!r}. {known}")
        # Registered names alone: a ticket file holds this text, and reading a file imports nothing that it names.
        name, colon, options = str(self.initializer).partition(":")
        good = name in INITIALIZERS and ("=" in options and ":" not in options if colon else True)
        if self.initializer != "" and not good:
            raise UsageError(
                f"Unknown net.initializer {self.initializer!r}; expected NAME[:option=value,...]. "
                f"{suggest(name, INITIALIZERS)}"
            )

    def scaled(self, width: int) -> int:
        """A hidden layer of this width in the scaled network.

        >>> Net(width=0.1).scaled(300), Net(width=0.001).scaled(300)
        (30, 1)
        """
        return max(1, math.floor(width * self.width))


Builder = Callable[[tuple[int, ...], int, Net, int], "nn.Module"]
"""(input shape without batch, outputs, options, seed) -> a freshly initialised module."""
