"""What a criterion is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from tombola.masks import Mask

__all__ = ["Criterion", "Probe", "Scores"]

Scores = dict[str, Tensor]
"""Names and shapes of the mask; larger = keep; no NaN."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What a criterion may look at beside the weights.

    Args:
        seed: of its named random streams.
    """

    seed: int = 0


Criterion = Callable[[nn.Module, Mask, Probe], Scores]
