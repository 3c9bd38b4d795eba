"""Iterative magnitude pruning."""

from __future__ import annotations

from tombola.requests import Found, Search
from tombola.search.controls import controls
from tombola.search.plan import Plan, cut, cuts_in, first_round, ground, level_round, searched_in, ticket

__all__ = ["imp"]


def imp(plan: Plan) -> Search:
    """Train, prune the smallest survivors, give the others back their first values; again and again.

    Frankle and Carbin (2019, arXiv 1803.03635), Strategy 1; with `rewind_to` Frankle et al. (2020, arXiv 1912.05671);
    with `FineTune` their Strategy 2.
    """
    answers = yield first_round(plan)
    base = ground(plan, answers)
    searched, mask = base.dense, plan.dense
    for level in plan.levels:
        answers = yield cut(plan, level, searched, mask)
        cuts = cuts_in(answers)
        mask, fit = cuts.mask, ticket(plan, cuts, base, searched)
        answers = yield level_round(plan, level, fit, controls(plan, level, fit, base, cuts))
        searched = searched_in(answers) if answers else searched
    return Found(mask=mask)
