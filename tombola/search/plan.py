"""What a search of one replicate has to go by, and the requests that all searches make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tombola.answers import Answer, Pruned, Trained
from tombola.criteria import needs_of
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import CUT, TICKET, Arm, Fit, ProbeSpec, Prune, Request, Round
from tombola.resets import FineTune, LrRewind, Remake, Reset, Restarting, Rewind, Started, facts_of
from tombola.starts import Adjusted, At, Init, Made, Moment, Start, landmarks
from tombola.streams import derive

__all__ = [
    "CUTS",
    "Cuts",
    "Ground",
    "Plan",
    "cut",
    "cuts_in",
    "first_round",
    "ground",
    "level_round",
    "searched_in",
    "ticket",
]

SEARCHED = Arm(name="search")
FRESH = "fresh"


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
        reset: what the survivors restart from.
        pruned: where pruned places stand while the ticket trains; None: at 0.
        probe: the examples that a criterion looks at.
        search_steps: length of the searching trainings; None: whole trainings, which are the tickets themselves.
        controls: names of `tombola.search.CONTROLS`.
        draws: of each random re-initialisation.
        cuts: (step, weights left in all) of a search that prunes while it trains.
        protected: weights that every ticket keeps beside those of its mask.
    """

    seed: int
    dense: Mask
    keeps: tuple[int, ...]
    pruner: Pruner
    score_at: int | Moment
    steps: int
    rewind_to: int = 0
    reset: Reset = field(default_factory=Rewind)
    pruned: Remake | None = None
    probe: ProbeSpec = field(default_factory=ProbeSpec)
    search_steps: int | None = None
    controls: tuple[str, ...] = ()
    draws: int = 1
    cuts: tuple[tuple[int, int], ...] = ()
    protected: int = 0

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
        """The searching form of a training: keeps the state that is scored, gathers what the criterion sums."""
        early = isinstance(self.score_at, Moment) and self.score_at is not Moment.EARLY_STOP
        keep = fit.keep if early else (*fit.keep, self.score_at)
        gather = needs_of(self.pruner.criterion).gathered
        return replace(fit, last=self.search_steps or fit.last, keep=keep, gather=gather)

    def prune(self, start: Start, mask: Mask, keep: int, *, inverted: bool = False, **probe: bool) -> Prune:
        """Cut `mask` down to `keep` by the weights of `start`; `probe`: what a control changes in the probe."""
        wanted, spec = needs_of(self.pruner.criterion), replace(self.probe, **probe)
        return Prune(
            start=start,
            mask=mask,
            pruner=replace(self.pruner, inverted=inverted),
            keep=keep,
            seed=derive(self.seed, "prune"),
            initial=self.init() if wanted.initial else None,
            probe=spec if wanted.data else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """What the dense round gives to all levels.

    Args:
        dense: the searching dense training.
        fresh: draw -> a fresh dense network trained to step k (only with k > 0).
    """

    dense: Trained
    fresh: Mapping[int, At] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cuts:
    """What pruning gave at a level.

    Args:
        masks: control -> its mask.
        adjusted: the survivors as the criterion adjusted them; None: as they were trained.
    """

    mask: Mask
    masks: Mapping[str, Mask] = field(default_factory=dict)
    adjusted: Adjusted | None = None


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


CUTS: dict[str, dict[str, bool]] = {
    "inverted": {"inverted": True},
    "random-labels": {"random_labels": True},
    "random-inputs": {"random_inputs": True},
}
"""Controls that need a mask of their own, cut by the same criterion in another way."""


def cut(plan: Plan, level: int, searched: Trained, mask: Mask) -> Round:
    """Score a searching training and cut `mask` down to the budget of a level; with the masks of controls."""
    start = plan.init() if plan.score_at is Moment.INIT else searched.at(plan.score_at)
    keep = plan.keeps[level - 1]
    others = {
        Arm(name=f"cut-{name}"): plan.prune(start, mask, keep, **CUTS[name]) for name in plan.controls if name in CUTS
    }
    return Round(level=level, ask={CUT: plan.prune(start, mask, keep), **others})


def cuts_in(answers: Mapping[Arm, Answer]) -> Cuts:
    """What a cut gave to the ticket and to the controls."""
    found = _pruned(answers, CUT)
    masks = {
        name: _pruned(answers, Arm(name=f"cut-{name}")).mask for name in CUTS if Arm(name=f"cut-{name}") in answers
    }
    return Cuts(mask=found.mask, masks=masks, adjusted=None if found.state is None else Adjusted(prune=found.request))


def _pruned(answers: Mapping[Arm, Answer], arm: Arm) -> Pruned:
    answer = answers[arm]
    assert isinstance(answer, Pruned)
    return answer


def ticket(plan: Plan, cuts: Cuts, base: Ground, before: Trained) -> Fit:
    """The training under a mask that the search found: from what the reset makes of the survivors.

    Args:
        before: the training whose weights were scored.
    """
    mask, trained = cuts.mask, cuts.adjusted or before.at(Moment.END)
    rewound = base.dense.at(plan.rewind_to) if plan.rewind_to else plan.init()
    frozen = None if plan.pruned is None else _made(plan, plan.pruned, rewound, before, mask)
    if isinstance(plan.reset, FineTune):
        return plan.fit(trained, mask, held_rate=plan.steps, frozen=frozen)
    if isinstance(plan.reset, LrRewind):
        return plan.fit(trained, mask, first=plan.rewind_to, frozen=frozen)
    remake = None if isinstance(plan.reset, Rewind) else plan.reset
    dense = facts_of(remake).dense
    if isinstance(plan.pruned, Restarting):
        remake = Started(reset=remake, pruned=plan.pruned)
    start = rewound if remake is None else _made(plan, remake, rewound, before, mask)
    return plan.fit(start, None if dense else mask, first=plan.rewind_to, frozen=frozen)


def _made(plan: Plan, remake: Remake, initial: Start, before: Trained, mask: Mask) -> Made:
    seen = before.at(Moment.END) if facts_of(remake).trained else None  # as it was trained, not as a cut adjusted it
    return Made(reset=remake, initial=initial, trained=seen, mask=mask, seed=derive(plan.seed, "reset"))
