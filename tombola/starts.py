"""Where trainings and cuts start from: references to weights, never tensors. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tombola.specs import added

if TYPE_CHECKING:
    from tombola.masks import Mask
    from tombola.resets import Remake

__all__ = ["Adjusted", "At", "Init", "Made", "Moment", "Start", "landmarks"]


class Moment(Enum):
    """A named moment of a training."""

    INIT = "init"
    EARLY_STOP = "early-stop"
    END = "end"


@dataclass(frozen=True, kw_only=True, slots=True)
class Init:
    """Start from the weights that the task builds from this seed.

    Args:
        at_most: the network is made narrower until it has no more prunable weights than this; None: as it is.
    """

    seed: int
    at_most: int | None = added(None)


@dataclass(frozen=True, kw_only=True, slots=True)
class At:
    """Start from the state that another fit had after `step` (absolute) steps."""

    fit: str
    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Adjusted:
    """Start from the weights that a prune has adjusted (optimal brain surgeon and its kin)."""

    prune: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """Start from weights that a reset makes of others.

    Args:
        reset: a function or frozen dataclass (`tombola.resets`).
        initial: where the survivors would be rewound to.
        trained: the weights that were scored; None where the reset does not look at them.
        mask: the ticket's.
        seed: of the reset's random streams.
    """

    reset: Remake
    initial: Start
    trained: Start | None = None
    mask: Mask
    seed: int


Start = Init | At | Adjusted | Made


def landmarks(steps: int) -> tuple[int, ...]:
    """Steps of a dense training whose states are kept for later experiments: 0, 100, 500, 1,000, 5,000, ...

    >>> landmarks(6000)
    (0, 100, 500, 1000, 5000)
    """
    found, mark = [0], 100
    while mark <= steps:
        found += [m for m in (mark, 5 * mark) if m <= steps]
        mark *= 10
    return tuple(found)
