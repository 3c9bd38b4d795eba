"""Gradual pruning: one training is pruned on its way."""

from __future__ import annotations

from dataclasses import replace

from tombola.answers import Trained
from tombola.criteria import needs_of
from tombola.requests import GRADUAL, TICKET, Arm, Fit, Found, Gradual, Round, Search
from tombola.search.controls import controls
from tombola.search.plan import CUTS, Cuts, Plan, first_round, ground, ticket
from tombola.streams import derive

__all__ = ["gradual"]


def gradual(plan: Plan) -> Search:
    """Train from the initial weights and prune every few steps; the mask at the end is that of the one ticket.

    The pruned training itself is an arm, so that one sees what starting over gives. Zhu and Gupta (2017, arXiv
    1710.01878), who stop there.
    """
    answers = yield first_round(plan)
    base = ground(plan, answers)
    others = {Arm(name=f"cut-{name}"): CUTS[name] for name in plan.controls if name in CUTS}
    answers = yield Round(
        level=1, ask={GRADUAL: _thinning(plan), **{arm: _thinning(plan, **how) for arm, how in others.items()}}
    )
    trained = {arm: answer for arm, answer in answers.items() if isinstance(answer, Trained)}
    masks = {arm.name: answer.mask for arm, answer in trained.items() if answer.mask is not None}
    mask = masks.pop(GRADUAL.name)
    cuts = Cuts(mask=mask, masks={name.removeprefix("cut-"): other for name, other in masks.items()})
    fit = ticket(plan, cuts, base, trained[GRADUAL])
    yield Round(level=1, aside={TICKET: fit, **controls(plan, 1, fit, base, cuts)})
    return Found(mask=mask)


def _thinning(plan: Plan, *, inverted: bool = False, **probe: bool) -> Fit:
    """The training that is pruned on its way; `probe`: what a control changes in the probe."""
    wanted = needs_of(plan.pruner.criterion)
    dynamics = Gradual(
        pruner=replace(plan.pruner, inverted=inverted),
        keeps=plan.cuts,
        seed=derive(plan.seed, "prune"),
        probe=replace(plan.probe, **probe) if wanted.data else None,
    )
    last = plan.search_steps or plan.steps
    return plan.fit(plan.init(), plan.dense, last=last, gather=wanted.gathered, dynamics=dynamics)
