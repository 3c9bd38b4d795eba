"""Options of the registered networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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
    """

    hidden: tuple[int, ...] = ()
    activation: Activation = "relu"
    dropout: float = 0.0


Builder = Callable[[tuple[int, ...], int, Net, int], "nn.Module"]
"""(input shape without batch, outputs, options, seed) -> a freshly initialised module."""
