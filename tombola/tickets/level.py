"""One training on the way to a ticket."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from tombola.errors import TicketError
from tombola.tickets.plain import shown

__all__ = ["Level"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One training on the way to a ticket.

    Args:
        level: prunings before it; 0 is the dense network.
        density: kept / prunable.
        kept: weights that exist.
        metric: what was measured after it; larger is better; None: nothing was.
        steps: optimizer steps.
        seconds: of training.
        arm: "ticket", or the control it belongs to.
        replicate: which repetition of the whole procedure.

    Raises:
        TicketError: a field is of another kind, or out of range.

    >>> Level(level=1, density=0.8, kept=80, metric=0.93, steps=100, seconds=1.5).arm
    'ticket'
    """

    level: int
    density: float
    kept: int
    metric: float | None
    steps: int
    seconds: float
    arm: str = "ticket"
    replicate: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "arm":
                fine, wanted = isinstance(value, str), "text"
            elif field.name == "metric":
                fine, wanted = value is None or (isinstance(value, int | float) and type(value) is not bool), "a number"
            elif field.name in {"density", "seconds"}:
                wanted = "a finite number, 0 or more"
                fine = isinstance(value, int | float) and type(value) is not bool and 0 <= value < math.inf
            else:
                fine, wanted = type(value) is int and 0 <= value < 1 << 63, "a whole number, 0 or more"
            if not fine:
                raise TicketError(f"Level.{field.name} is {shown(value)}; expected {wanted}.")
