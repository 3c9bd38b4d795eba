"""What a cut takes, foreseen from sizes alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tombola.masks import Mask

__all__ = ["Size", "Work"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What the cost of a cut goes by.

    Args:
        alive, keep: weights before and after.
        shapes: of the masked tensors, in module order.
        batches, examples: of the probe; examples in all.

    >>> import torch
    >>> size = Size.of(Mask({"w": torch.ones(3, 4, dtype=torch.bool)}), 6, batches=2, examples=8)
    >>> size.fan_ins, size.hidden, size.total
    ((4,), 0, 12)
    """

    alive: int
    keep: int
    shapes: tuple[tuple[int, ...], ...]
    batches: int
    examples: int

    @classmethod
    def of(cls, mask: Mask, keep: int, *, batches: int, examples: int) -> Size:
        """Of a cut of `mask`."""
        shapes = tuple(mask.shapes.values())
        return cls(alive=mask.alive, keep=keep, shapes=shapes, batches=batches, examples=examples)

    @property
    def fan_ins(self) -> tuple[int, ...]:
        """Weights of a unit, for each tensor."""
        return tuple(math.prod(shape[1:]) for shape in self.shapes)

    @property
    def hidden(self) -> int:
        """Units of all tensors but the last."""
        return sum(shape[0] for shape in self.shapes[:-1])

    @property
    def total(self) -> int:
        """Weights, pruned ones too."""
        return sum(map(math.prod, self.shapes))


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What scoring takes, to an order of magnitude.

    Args:
        passes: the time of so many forward-backward passes over a batch.
        memory: bytes, beside a few copies of the weights.
    """

    passes: float
    memory: float = 0.0
