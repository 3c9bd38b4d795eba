"""One-shot pruning."""

from __future__ import annotations

from tombola.requests import TICKET, Found, Round, Search
from tombola.search.controls import controls
from tombola.search.plan import Plan, cut, cuts_in, first_round, ground, ticket

__all__ = ["oneshot"]


def oneshot(plan: Plan) -> Search:
    """Every level is cut from the one dense training, down to the count that iterative pruning has at that level.

    Frankle and Carbin (2019, arXiv 1803.03635), one-shot pruning.
    """
    answers = yield first_round(plan)
    base, mask = ground(plan, answers), plan.dense
    for level in plan.levels:
        answers = yield cut(plan, level, base.dense, plan.dense)
        cuts = cuts_in(answers)
        mask, fit = cuts.mask, ticket(plan, cuts, base, base.dense)
        yield Round(level=level, aside={TICKET: fit, **controls(plan, level, fit, base, cuts)})
    return Found(mask=mask)
