"""Options of the registered networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tombola.errors import UsageError
from tombola.specs import added

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Activation", "Builder", "Net"]

Activation = Literal["relu", "tanh", "identity"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Net:
    """Options of the registered networks; a network refuses those it does not have.

    Args:
        hidden: widths of the hidden layers (`mlp`).
        activation: between the layers.
        dropout: rate on the hidden layers, in [0, 1).
        width: factor of all hidden widths, above 0; no layer gets narrower than 1.
    """

    hidden: tuple[int, ...] = ()
    activation: Activation = "relu"
    dropout: float = 0.0
    width: float = added(1.0)

    def __post_init__(self) -> None:
        if not (isinstance(self.width, int | float) and math.isfinite(self.width) and self.width > 0):
            raise UsageError(f"net.width is {self.width!r}; expected a factor above 0.")

    def scaled(self, width: int) -> int:
        """A hidden layer of this width in the scaled network.

        >>> Net(width=0.1).scaled(300), Net(width=0.001).scaled(300)
        (30, 1)
        """
        return max(1, math.floor(width * self.width))


Builder = Callable[[tuple[int, ...], int, Net, int], "nn.Module"]
"""(input shape without batch, outputs, options, seed) -> a freshly initialised module."""
