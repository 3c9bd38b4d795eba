"""What of a plan does not go together, said before anything is trained."""

from __future__ import annotations

from dataclasses import replace

from tombola.criteria import Needs, Probe, needs_of
from tombola.criteria.base import label_of
from tombola.cuts import check_cut, size_of
from tombola.errors import UsageError
from tombola.resets import FineTune, LrRewind, Restarting, facts_of
from tombola.search.plan import CUTS, Plan
from tombola.starts import Moment
from tombola.training.gather import check_statistics

__all__ = ["check_plan", "check_probe", "corrupts"]


def corrupts(control: str, wanted: Needs) -> bool:
    """Whether a control can change the mask of a criterion with these needs: not one that corrupts what nobody reads.

    >>> corrupts("random-labels", Needs(data=True)), corrupts("random-labels", Needs(data=True, labels=False))
    (True, False)
    """
    changed = CUTS.get(control, {}).keys()
    blind = ("random_labels" in changed and not wanted.labels) or ("random_inputs" in changed and not wanted.inputs)
    return not changed & {"random_labels", "random_inputs"} or (wanted.data and not blind)


def check_plan(plan: Plan) -> None:
    """Refuse a plan whose parts contradict each other.

    Raises:
        UsageError: a first cut that is too much for the criterion, or a criterion that scores the initial weights by
            how they moved; a statistic that nobody gathers, or one that is
            scored before the end of its training; a control that corrupts data which the criterion does not look at;
            frozen places in a network that trains whole; survivors that are both put to 0 and kept as trained.
    """
    criterion = plan.pruner.criterion
    wanted = needs_of(criterion)
    check_statistics(wanted.gathered)
    if plan.keeps:
        check_cut(plan.pruner, size_of(plan.dense, plan.keeps[0], plan.probe))
    if wanted.moved and plan.score_at is Moment.INIT:
        raise UsageError(
            f"The criterion {label_of(criterion)} compares weights with the initial ones, so before training all are "
            f"alike; score at end, or use large_init."
        )
    if wanted.gathered and plan.score_at not in {Moment.END, plan.search_steps or plan.steps}:
        at = plan.score_at.value if isinstance(plan.score_at, Moment) else f"step {plan.score_at}"
        raise UsageError(
            f"The criterion {label_of(criterion)} goes by {' and '.join(wanted.gathered)} summed over a whole "
            f"training, so it scores at its end, not at {at}; use score_at end or auto."
        )
    blind = [name for name in plan.controls if not corrupts(name, wanted)]
    if blind:
        raise UsageError(
            f"The control {blind[0]} corrupts what a criterion scores on, and {label_of(criterion)} does not look at "
            f"{blind[0].partition('-')[2]}; leave it out, or use a criterion that does (snip)."
        )
    if plan.pruned is not None and facts_of(plan.reset).dense:
        raise UsageError(
            f"The reset {label_of(plan.reset)} trains the network whole, so no pruned place can be frozen; leave "
            f"reset_pruned at zero."
        )
    if isinstance(plan.pruned, Restarting) and isinstance(plan.reset, FineTune | LrRewind):
        raise UsageError(
            f"reset_pruned {label_of(plan.pruned)} puts survivors back to 0, and the reset keeps them as they were "
            f"trained; use another reset (rewind)."
        )


def check_probe(plan: Plan, probe: Probe) -> None:
    """Refuse a criterion that looks at examples where a task has none, and controls that corrupt those.

    Raises:
        UsageError: as said.
    """
    wanted = needs_of(plan.pruner.criterion)
    if probe.lacks(wanted):
        raise UsageError(
            f"The criterion {label_of(plan.pruner.criterion)} looks at examples, and this task has none; use one that "
            f"goes without (magnitude, or leave_one_out where the task says what networks are worth)."
        )
    unseen = replace(wanted, labels=False, inputs=False)
    blind = [] if probe.loss else [name for name in plan.controls if not corrupts(name, unseen)]
    if blind:
        raise UsageError(f"The control {blind[0]} corrupts examples, and this task has none; leave it out.")
