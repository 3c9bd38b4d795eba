"""In which order requests are computed."""

from __future__ import annotations

from tombola.requests import Arm, Fit, Place, Request
from tombola.starts import Init

__all__ = ["NOWHERE", "Turn", "turn"]

NOWHERE = Place(level=0, replicate=0, arm=Arm(name=""))

Turn = tuple[bool, float, Place]
"""Smaller comes first."""


def turn(request: Request, place: Place, waited_for: bool) -> Turn:
    """What searches wait for comes first, the lowest level before all, so that no replicate falls behind. Of the rest
    the longest comes first, so that at the end no worker has a long one left while the others are done."""
    return (False, 0.0, place) if waited_for else (True, -_work(request), place)


def _work(request: Request) -> float:
    """Steps times weights; a network as it is counts as larger than every other one."""
    if not isinstance(request, Fit):
        return 0.0
    narrowed = request.start.at_most if isinstance(request.start, Init) else None
    weights = request.mask.alive if request.mask is not None else narrowed
    return float((request.last - request.first) * (2**40 if weights is None else weights))
