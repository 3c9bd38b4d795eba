"""What searches and controls ask for, driven by hand: no network is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from torch import nn

from tombola.allocation import Layerwise
from tombola.criteria import Probe
from tombola.criteria.weights import random
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import (
    CUT,
    TICKET,
    Answer,
    Arm,
    At,
    Curve,
    Fit,
    Found,
    Init,
    Moment,
    Point,
    Prune,
    Pruned,
    Request,
    Round,
    Search,
    Trained,
)
from tombola.resets import FineTune
from tombola.schedules import geometric
from tombola.search import CONTROLS, SEARCHES, Plan
from tombola.specs import digest

MODEL = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 4))
DENSE = Mask.dense(MODEL)
KEEPS = tuple(sum(c.values()) for c in geometric(DENSE.kept, Layerwise().rates(DENSE), 3))
STEPS, STOP = 100, 30


@dataclass
class Asked:
    """All that a search asked for: rounds in order, the fits of each level by arm, the cuts, and what it found."""

    rounds: list[Round]
    fits: dict[int, dict[Arm, Fit]]
    cuts: dict[int, Prune]
    masks: dict[int, Mask]
    found: Found

    def ticket(self, level: int) -> Fit:
        return self.fits[level][TICKET]


def plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "seed": 11,
        "dense": DENSE,
        "keeps": KEEPS,
        "pruner": Pruner(allocation=Layerwise()),
        "score_at": Moment.END,
        "steps": STEPS,
        "controls": tuple(CONTROLS),
    }
    return Plan(**{**fields, **changes})


def answer(request: Request) -> Answer:
    """A training with its smallest validation loss 30 steps after its first; a cut by random scores."""
    if isinstance(request, Prune):
        mask = replace(request.pruner, criterion=random)(MODEL, request.mask, request.keep, Probe(seed=request.seed))
        return Pruned(request=digest(request), mask=mask)
    steps = sorted({request.first, min(request.first + STOP, request.last), request.last})
    points = tuple(Point(step=s, validation_loss=abs(s - request.first - STOP)) for s in steps)
    return Trained(request=digest(request), first=request.first, last=request.last, curve=Curve(points=points))


def drive(search: Search) -> Asked:
    rounds: list[Round] = []
    answers: Mapping[Arm, Answer] | None = None
    while True:
        try:
            asked = next(search) if answers is None else search.send(answers)
        except StopIteration as end:
            found = end.value
            break
        rounds.append(asked)
        answers = {arm: answer(request) for arm, request in asked.ask.items()}
    fits: dict[int, dict[Arm, Fit]] = {}
    cuts: dict[int, Prune] = {}
    masks: dict[int, Mask] = {}
    for one in rounds:
        for arm, request in {**one.ask, **one.aside}.items():
            if isinstance(request, Prune):
                assert arm == CUT
                cuts[one.level] = request
                cut = answer(request)
                assert isinstance(cut, Pruned)
                masks[one.level] = cut.mask
            else:
                assert arm not in fits.setdefault(one.level, {})
                fits[one.level][arm] = request
    return Asked(rounds=rounds, fits=fits, cuts=cuts, masks=masks, found=found)


def asked(name: str, **changes: Any) -> Asked:
    return drive(SEARCHES[name].load()(plan(**changes)))


every_search = pytest.mark.parametrize("name", SEARCHES)
every_variant = pytest.mark.parametrize(
    "changes",
    [{}, {"rewind_to": 20}, {"search_steps": 60}, {"rewind_to": 20, "search_steps": 60}, {"reset": FineTune()}],
    ids=["plain", "rewound", "short", "rewound-short", "fine-tuned"],
)


@every_search
@every_variant
def test_every_level_has_a_cut_a_ticket_and_its_controls(name: str, changes: dict[str, Any]) -> None:
    a = asked(name, draws=2, **changes)
    assert sorted(a.fits) == [0, 1, 2, 3]
    assert a.ticket(0).mask is None
    assert (a.ticket(0).first, a.ticket(0).last, a.ticket(0).start) == (0, STEPS, plan().init())
    drawn = {Arm(name=name, draw=d) for name in ("reinit", "small-dense") for d in range(2)}
    expected = {TICKET, Arm(name="shuffled"), *drawn}
    if changes.get("rewind_to"):
        expected |= {Arm(name="reinit-rewound", draw=d) for d in range(2)}
    for level in (1, 2, 3):
        assert a.cuts[level].keep == a.masks[level].alive == KEEPS[level - 1]
        assert a.cuts[level].pruner == plan().pruner
        assert {arm for arm in a.fits[level] if arm.name != "search"} == expected
        ticket = a.ticket(level)
        assert ticket.mask == a.masks[level]
        assert ticket.last == STEPS
        assert a.masks[level].within(a.masks.get(level - 1, DENSE))
        for arm, fit in a.fits[level].items():
            if arm.name == "small-dense":
                assert isinstance(fit.start, Init)
                assert (fit.mask, fit.start.at_most, fit.first, fit.last) == (None, KEEPS[level - 1], 0, STEPS)
                continue
            assert fit.mask is not None
            assert fit.mask.kept == a.masks[level].kept
            assert (fit.mask == a.masks[level]) == (arm.name != "shuffled")
    assert a.found.mask == a.masks[3]
    assert len({digest(f) for fits in a.fits.values() for f in fits.values()}) == sum(map(len, a.fits.values()))


@every_search
@every_variant
def test_arms_are_paired_within_a_replicate_and_independent_between(name: str, changes: dict[str, Any]) -> None:
    one, same, other = (asked(name, seed=seed, **changes) for seed in (11, 11, 12))
    assert [digest(r) for r in _requests(one)] == [digest(r) for r in _requests(same)]
    pairs = [{(f.order, f.noise) for f in _fits(a)} for a in (one, other)]
    assert [len(found) for found in pairs] == [1, 1]
    ((order, noise), (other_order, other_noise)) = (found.pop() for found in pairs)
    assert len({order, noise, other_order, other_noise}) == 4
    assert not {digest(r) for r in _requests(one)} & {digest(r) for r in _requests(other)}
    inits = [{f.start.seed for f in _fits(a) if isinstance(f.start, Init)} for a in (one, other)]
    assert not inits[0] & inits[1]
    assert one.cuts[1].seed != other.cuts[1].seed


def _requests(a: Asked) -> list[Request]:
    return [request for one in a.rounds for request in (*one.ask.values(), *one.aside.values())]


def _fits(a: Asked) -> list[Fit]:
    return [request for request in _requests(a) if isinstance(request, Fit)]


@every_search
def test_survivors_take_back_their_first_weights(name: str) -> None:
    a = asked(name)
    for level in (1, 2, 3):
        ticket, shuffled = a.ticket(level), a.fits[level][Arm(name="shuffled")]
        assert (ticket.start, ticket.first, ticket.held_rate) == (plan().init(), 0, None)
        assert replace(shuffled, mask=ticket.mask) == replace(ticket, keep=())
        assert shuffled.keep == ()
        fresh = a.fits[level][Arm(name="reinit")]
        assert isinstance(fresh.start, Init)
        assert fresh.start != plan().init()
        assert (fresh.first, fresh.last) == (0, STEPS)
    assert not any(arm.name in {"fresh", "reinit-rewound"} for fits in a.fits.values() for arm in fits)
    shuffles = [a.fits[level][Arm(name="shuffled")].mask for level in (1, 2, 3)]
    assert all(one and other and not other.within(one) for one, other in pairwise(shuffles))  # each drawn anew


@every_search
@pytest.mark.parametrize("short", [None, 60])
def test_rewinding_goes_to_step_k_of_the_dense_training(name: str, short: int | None) -> None:
    a = asked(name, rewind_to=20, draws=2, search_steps=short)
    dense = a.fits[0][Arm(name="search") if short else TICKET]
    assert 20 in dense.keep
    fresh = {arm.draw: fit for arm, fit in a.fits[0].items() if arm.name == "fresh"}
    assert {d: (f.start, f.mask, f.first, f.last) for d, f in fresh.items()} == {
        d: (plan().redraw(d), None, 0, 20) for d in range(2)
    }
    assert len({plan().init(), *(f.start for f in fresh.values())}) == 3
    for level in (1, 2, 3):
        for arm in (TICKET, Arm(name="shuffled")):
            fit = a.fits[level][arm]
            assert (fit.start, fit.first, fit.last) == (At(fit=digest(dense), step=20), 20, STEPS)
        for draw in range(2):
            rewound = a.fits[level][Arm(name="reinit-rewound", draw=draw)]
            assert (rewound.start, rewound.first) == (At(fit=digest(fresh[draw]), step=20), 20)
            scratch = a.fits[level][Arm(name="reinit", draw=draw)]
            assert (scratch.start, scratch.first) == (plan().redraw(draw), 0)


@every_search
@pytest.mark.parametrize(
    ("score_at", "step"), [(Moment.END, 60), (Moment.EARLY_STOP, STOP), (45, 45), (Moment.INIT, 0)]
)
def test_weights_are_scored_where_the_plan_says(name: str, score_at: Moment | int, step: int) -> None:
    a = asked(name, score_at=score_at, search_steps=60)
    search = Arm(name="search")
    dense = a.fits[0][search]
    assert (dense.last, a.ticket(0).last) == (60, STEPS)
    assert (score_at in dense.keep) == (score_at not in {Moment.END, Moment.INIT})
    for level in (1, 2, 3):
        source = a.fits[level - 1][search] if name == "imp" else dense
        start = plan().init() if score_at is Moment.INIT else At(fit=digest(source), step=step)
        assert a.cuts[level].start == start
        assert a.cuts[level].mask == (a.masks.get(level - 1, DENSE) if name == "imp" else DENSE)
    searching = [level for level, fits in a.fits.items() if search in fits]
    assert searching == ([0, 1, 2] if name == "imp" else [0])  # nothing is scored after the last


@every_search
def test_a_search_waits_for_no_more_than_it_needs(name: str) -> None:
    a = asked(name, search_steps=60)
    assert all(arm in {CUT, Arm(name="search")} for one in a.rounds for arm in one.ask)
    whole = asked(name)
    waited = {arm for one in whole.rounds for arm in one.ask}
    assert waited == {CUT, TICKET}
    assert all(arm.name in {"shuffled", "reinit", "small-dense", "ticket"} for one in whole.rounds for arm in one.aside)


@every_search
def test_fine_tuning_goes_on_from_the_end_at_the_last_rate(name: str) -> None:
    a = asked(name, reset=FineTune())
    for level in (1, 2, 3):
        before = a.ticket(level - 1 if name == "imp" else 0)
        ticket = a.ticket(level)
        assert (ticket.start, ticket.held_rate) == (At(fit=digest(before), step=STEPS), STEPS)
        assert (ticket.first, ticket.last) == (0, STEPS)
        assert a.fits[level][Arm(name="reinit")].held_rate is None


@every_search
@pytest.mark.parametrize("control", CONTROLS)
def test_each_control_alone(name: str, control: str) -> None:
    a, none = asked(name, controls=(control,), rewind_to=20), asked(name, controls=(), rewind_to=20)
    for level in (1, 2, 3):
        alone = {arm.name for arm in a.fits[level]} - {"ticket"}
        assert control in alone
        assert alone <= {control, f"{control}-rewound"}
        assert set(none.fits[level]) == {TICKET}
        assert a.ticket(level) == none.ticket(level)  # controls change nothing of the search
    assert set(none.fits[0]) == {TICKET}


def test_dense_states_are_kept_for_later_experiments() -> None:
    assert asked("imp", steps=6000, keeps=KEEPS[:1]).ticket(0).keep == (0, 100, 500, 1000, 5000, 0)
