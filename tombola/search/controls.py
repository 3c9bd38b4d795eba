"""Controls: trainings without which no ticket may be called a winner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tombola.pruning import shuffled
from tombola.requests import Arm, Fit, Request
from tombola.search.plan import Ground, Plan
from tombola.streams import derive

__all__ = ["CONTROLS", "Control", "controls"]

Control = Callable[[Plan, int, Fit, Ground], dict[Arm, Request]]
"""(plan, level, the ticket's training, ground) -> trainings by arm."""


def reinit(plan: Plan, level: int, ticket: Fit, base: Ground) -> dict[Arm, Request]:
    """The ticket's mask on fresh initial weights, from step 0; with rewinding to k > 0 also on a fresh dense network
    trained to k."""
    found: dict[Arm, Request] = {}
    for draw in range(plan.draws):
        found[Arm(name="reinit", draw=draw)] = plan.fit(plan.redraw(draw), ticket.mask)
        if draw in base.fresh:
            rewound = plan.fit(base.fresh[draw], ticket.mask, first=plan.rewind_to)
            found[Arm(name="reinit-rewound", draw=draw)] = rewound
    return found


def shuffle(plan: Plan, level: int, ticket: Fit, base: Ground) -> dict[Arm, Request]:
    """The ticket's start under a mask with as many survivors in each tensor, at other places.

    Without rewinding (fine-tuning) that start is pruned already, so many of the other places begin at 0: a weak
    control.
    """
    assert ticket.mask is not None
    mask = shuffled(ticket.mask, derive(plan.seed, "shuffle", level))
    return {Arm(name="shuffled"): replace(ticket, mask=mask, keep=())}


def small_dense(plan: Plan, level: int, ticket: Fit, base: Ground) -> dict[Arm, Request]:
    """A dense network made narrower until it has no more weights than the ticket: why not train that one?"""
    assert ticket.mask is not None
    weights = ticket.mask.alive
    return {Arm(name="small-dense", draw=d): plan.fit(plan.small(d, weights), None) for d in range(plan.draws)}


CONTROLS: dict[str, Control] = {"reinit": reinit, "shuffled": shuffle, "small-dense": small_dense}


def controls(plan: Plan, level: int, ticket: Fit, base: Ground) -> dict[Arm, Request]:
    """All trainings of the controls that the plan names, for one level."""
    found: dict[Arm, Request] = {}
    for name in plan.controls:
        found |= CONTROLS[name](plan, level, ticket, base)
    return found
