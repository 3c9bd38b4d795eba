"""Criteria: scores of weights, larger = keep. A criterion is a function or a frozen dataclass with `__call__`."""

from __future__ import annotations

from dataclasses import dataclass

from tombola.criteria.base import Criterion, Probe, Scores
from tombola.criteria.magnitude import magnitude
from tombola.criteria.random import random
from tombola.requests import Moment

__all__ = ["CRITERIA", "Criterion", "Entry", "Probe", "Scores", "magnitude", "random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A registered criterion and the moment of training at which it is scored unless a recipe says otherwise."""

    criterion: Criterion
    scored_at: Moment


CRITERIA: dict[str, Entry] = {
    "magnitude": Entry(criterion=magnitude, scored_at=Moment.END),
    "random": Entry(criterion=random, scored_at=Moment.END),
}
