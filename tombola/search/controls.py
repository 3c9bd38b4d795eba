"""Controls: trainings without which no ticket may be called a winner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tombola.masks import Mask
from tombola.pruning import shuffled
from tombola.requests import Arm, Fit, Request
from tombola.search.plan import Cuts, Ground, Plan
from tombola.search.registry import CONTROLS
from tombola.starts import Made, Moment, Start
from tombola.streams import derive

__all__ = ["Control", "controls", "other_cuts", "reinit", "shuffle", "small_dense", "untrained"]

Control = Callable[[Plan, int, Fit, Ground, Cuts], dict[Arm, Request]]
"""(plan, level, the ticket's training, ground, what was cut) -> trainings by arm."""


def reinit(plan: Plan, level: int, ticket: Fit, base: Ground, cuts: Cuts) -> dict[Arm, Request]:
    """The ticket's mask on fresh initial weights, from step 0; with rewinding to k > 0 also on a fresh dense network
    trained to k. What stands frozen at pruned places belongs to the mask, and is the ticket's."""
    found: dict[Arm, Request] = {}
    for draw in range(plan.draws):
        found[Arm(name="reinit", draw=draw)] = plan.fit(plan.redraw(draw), cuts.mask, frozen=ticket.frozen)
        if draw in base.fresh:
            rewound = plan.fit(base.fresh[draw], cuts.mask, first=plan.rewind_to, frozen=ticket.frozen)
            found[Arm(name="reinit-rewound", draw=draw)] = rewound
    return found


def shuffle(plan: Plan, level: int, ticket: Fit, base: Ground, cuts: Cuts) -> dict[Arm, Request]:
    """The ticket's start under a mask with as many survivors in each tensor, at other places.

    Without rewinding (fine-tuning) that start is pruned already, so many of the other places begin at 0: a weak
    control.
    """
    mask = shuffled(cuts.mask, derive(plan.seed, "shuffle", level))
    return {Arm(name="shuffled"): _under(ticket, mask)}


def small_dense(plan: Plan, level: int, ticket: Fit, base: Ground, cuts: Cuts) -> dict[Arm, Request]:
    """A dense network made narrower until it has no more weights than the ticket: why not train that one?"""
    weights = cuts.mask.alive + plan.protected
    return {Arm(name="small-dense", draw=d): plan.fit(plan.small(d, weights), None) for d in range(plan.draws)}


def other_cuts(plan: Plan, level: int, ticket: Fit, base: Ground, cuts: Cuts) -> dict[Arm, Request]:
    """The ticket's start under the masks of inverted scores or of a probe with random labels or inputs.

    Frankle et al. (2021, arXiv 2009.08576) and Su et al. (2020, arXiv 2009.11094).
    """
    return {Arm(name=name): _under(ticket, mask) for name, mask in cuts.masks.items()}


def untrained(plan: Plan, level: int, ticket: Fit, base: Ground, cuts: Cuts) -> dict[Arm, Request]:
    """The mask on weights that were never trained, which are as the ticket's reset makes the initial ones: a supermask
    (Zhou et al. 2019, arXiv 1905.01067). A criterion that scores and adjusts initial weights gives them itself."""
    init = plan.init()
    start: Start = init if cuts.adjusted is None or plan.score_at is not Moment.INIT else cuts.adjusted
    if isinstance(ticket.start, Made):
        start = replace(ticket.start, initial=init)
    frozen = replace(ticket.frozen, initial=init) if isinstance(ticket.frozen, Made) else None
    return {Arm(name="untrained"): plan.fit(start, cuts.mask, last=0, frozen=frozen)}


def _under(ticket: Fit, mask: Mask) -> Fit:
    """The ticket's training under another mask, which its reset goes by too."""

    def made(start: Start) -> Start:
        return replace(start, mask=mask) if isinstance(start, Made) else start

    frozen = None if ticket.frozen is None else made(ticket.frozen)
    return replace(ticket, start=made(ticket.start), mask=ticket.mask and mask, frozen=frozen, keep=())


def controls(plan: Plan, level: int, ticket: Fit, base: Ground, cuts: Cuts) -> dict[Arm, Request]:
    """All trainings of the controls that the plan names, for one level."""
    found: dict[Arm, Request] = {}
    for control in dict.fromkeys(CONTROLS[name].load() for name in plan.controls):
        found |= control(plan, level, ticket, base, cuts)
    return found
