"""What a search of one replicate has to go by, and the requests that all searches make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import (
    CUT,
    TICKET,
    Answer,
    Arm,
    At,
    Fit,
    Init,
    Moment,
    Prune,
    Pruned,
    Request,
    Round,
    Start,
    Trained,
)
from tombola.streams import derive

__all__ = ["Ground", "Plan", "Reset", "cut", "first_round", "ground", "level_round", "mask_in", "searched_in", "ticket"]

SEARCHED = Arm(name="search")
FRESH = "fresh"


class Reset(Enum):
    """What the survivors of a cut restart from."""

    REWIND = "rewind"
    FINE_TUNE = "fine-tune"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One replicate of a search.

    Args:
        seed: of everything in the replicate: init, data order, noise, controls.
        dense: the mask of level 0.
        keeps: weights left in all at the levels 1, 2, ...
        pruner: criterion and allocation.
        score_at: where in a searching training weights are scored: a moment or a step; `INIT` is the initial weights.
        steps: of a whole training.
        rewind_to: step k whose weights the survivors take.
        reset: rewind, or fine-tune (weights go on from the end, at the schedule's last learning rate).
        search_steps: length of the searching trainings; None: whole trainings, which are the tickets themselves.
        controls: names of `tombola.search.CONTROLS`.
        draws: of each random re-initialisation.
    """

    seed: int
    dense: Mask
    keeps: tuple[int, ...]
    pruner: Pruner
    score_at: int | Moment
    steps: int
    rewind_to: int = 0
    reset: Reset = Reset.REWIND
    search_steps: int | None = None
    controls: tuple[str, ...] = ()
    draws: int = 1

    @property
    def levels(self) -> range:
        """1, 2, ..., as many as there are budgets."""
        return range(1, len(self.keeps) + 1)

    def init(self) -> Init:
        """The replicate's own initial weights."""
        return Init(seed=derive(self.seed, "init"))

    def redraw(self, draw: int) -> Init:
        """Fresh initial weights for a control."""
        return Init(seed=derive(self.seed, "reinit", draw))

    def small(self, draw: int, weights: int) -> Init:
        """Initial weights of a narrower network."""
        return Init(seed=derive(self.seed, "small-dense", draw), at_most=weights)

    def fit(self, start: Start, mask: Mask | None, **changes: Any) -> Fit:
        """A whole training in this replicate's data order and noise; `changes` are other fields of `Fit`."""
        order, noise = derive(self.seed, "order"), derive(self.seed, "noise")
        return Fit(**{"start": start, "mask": mask, "last": self.steps, "order": order, "noise": noise, **changes})

    def shortened(self, fit: Fit) -> Fit:
        """The searching form of a training, which keeps the state that is scored."""
        keep = (
            *fit.keep,
            *(() if isinstance(self.score_at, Moment) and self.score_at is not Moment.EARLY_STOP else (self.score_at,)),
        )
        return replace(fit, last=self.search_steps or fit.last, keep=keep)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """What the dense round gives to all levels.

    Args:
        dense: the searching dense training.
        fresh: draw -> a fresh dense network trained to step k (only with k > 0).
    """

    dense: Trained
    fresh: Mapping[int, At] = field(default_factory=dict)


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


def first_round(plan: Plan) -> Round:
    """Level 0: the dense training, and with rewinding to k > 0 the fresh dense networks of a control."""
    dense = plan.fit(plan.init(), None, keep=(*landmarks(plan.steps), plan.rewind_to))
    asked = level_round(plan, 0, dense, {})
    if not (plan.rewind_to and "reinit" in plan.controls):
        return asked
    fresh = {Arm(name=FRESH, draw=d): plan.fit(plan.redraw(d), None, last=plan.rewind_to) for d in range(plan.draws)}
    return replace(asked, ask={**asked.ask, **fresh})


def level_round(plan: Plan, level: int, fit: Fit, controls: Mapping[Arm, Request]) -> Round:
    """Train the ticket of a level. The search waits for its searching form, which is the whole unless it is short."""
    searching = plan.shortened(fit)
    if not plan.search_steps:
        return Round(level=level, ask={TICKET: searching}, aside=controls)
    last = level == len(plan.keeps)  # nothing is scored after it
    return Round(level=level, ask={} if last else {SEARCHED: searching}, aside={TICKET: fit, **controls})


def searched_in(answers: Mapping[Arm, Answer]) -> Trained:
    """The searching training among the answers of a level."""
    answer = answers[SEARCHED if SEARCHED in answers else TICKET]
    assert isinstance(answer, Trained)
    return answer


def ground(plan: Plan, answers: Mapping[Arm, Answer]) -> Ground:
    """What the answers to the first round give."""
    fresh = {
        arm.draw: a.at(plan.rewind_to) for arm, a in answers.items() if arm.name == FRESH and isinstance(a, Trained)
    }
    return Ground(dense=searched_in(answers), fresh=fresh)


def cut(plan: Plan, level: int, searched: Trained, mask: Mask) -> Round:
    """Score a searching training and cut `mask` down to the budget of a level."""
    start = plan.init() if plan.score_at is Moment.INIT else searched.at(plan.score_at)
    seed, keep = derive(plan.seed, "prune"), plan.keeps[level - 1]
    return Round(level=level, ask={CUT: Prune(start=start, mask=mask, pruner=plan.pruner, keep=keep, seed=seed)})


def mask_in(answers: Mapping[Arm, Answer]) -> Mask:
    """The mask that a cut gave."""
    answer = answers[CUT]
    assert isinstance(answer, Pruned)
    return answer.mask


def ticket(plan: Plan, mask: Mask, base: Ground, before: Trained) -> Fit:
    """The training under a mask that the search found: rewound, or going on from the training `before`."""
    if plan.reset is Reset.FINE_TUNE:
        return plan.fit(before.at(Moment.END), mask, held_rate=plan.steps)
    start = base.dense.at(plan.rewind_to) if plan.rewind_to else plan.init()
    return plan.fit(start, mask, first=plan.rewind_to)
