"""What searches and controls ask for, driven by hand: no network is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from torch import Tensor, nn

from tombola.allocation import Layerwise
from tombola.answers import Answer, Curve, Point, Pruned, Trained
from tombola.criteria import Probe, needs
from tombola.criteria.weights import random
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import CUT, GRADUAL, TICKET, Arm, Fit, Found, ProbeSpec, Prune, Request, Round, Search
from tombola.resets import FineTune, LrRewind, Rewind, Started
from tombola.resets.pruned import FreezeInitZeroAll, freeze_init_zero_mask
from tombola.resets.survivors import SignedConstant, redraw_losers, reinit
from tombola.schedules import geometric
from tombola.search import CONTROLS, SEARCHES, Plan
from tombola.search.checks import check_plan
from tombola.specs import digest
from tombola.starts import At, Init, Made, Moment

MODEL = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 4))
DENSE = Mask.dense(MODEL)
KEEPS = tuple(sum(c.values()) for c in geometric(DENSE.kept, Layerwise().rates(DENSE), 3))
STEPS, STOP = 100, 30


@dataclass
class Asked:
    """All that a search asked for: rounds in order, the fits of each level by arm, what made its mask (a cut, or a
    training that was pruned on its way; those of controls in `others`), the masks, and what it found."""

    rounds: list[Round]
    fits: dict[int, dict[Arm, Fit]]
    cuts: dict[int, Prune | Fit]
    others: dict[int, dict[str, Prune | Fit]]
    masks: dict[int, Mask]
    found: Found

    @property
    def levels(self) -> list[int]:
        return sorted(self.masks)

    def ticket(self, level: int) -> Fit:
        return self.fits[level][TICKET]

    def scored(self, level: int) -> Fit:
        """The whole training whose weights gave the mask of a level."""
        cut = self.cuts[level]
        return cut if isinstance(cut, Fit) else self.ticket(0 if digest(cut.mask) == digest(DENSE) else level - 1)


@needs(data=True)
def looking(model: nn.Module, mask: Mask, probe: Probe) -> dict[str, Tensor]:
    """Stands for a criterion that looks at examples; `answer` draws in its place."""
    return random(model, mask, probe)


CORRUPTED = {"inverted", "random-labels", "random-inputs"}
EVERY = {"ticket", "reinit", "shuffled", "small-dense", "untrained", *CORRUPTED}


def plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "seed": 11,
        "dense": DENSE,
        "keeps": KEEPS,
        "pruner": Pruner(criterion=looking, allocation=Layerwise()),
        "score_at": Moment.END,
        "steps": STEPS,
        "controls": tuple(CONTROLS),
    }
    return Plan(**{**fields, **changes})


def answer(request: Request) -> Answer:
    """A training with its smallest validation loss 30 steps after its first; a cut by random scores of its probe."""
    dynamics = request.dynamics if isinstance(request, Fit) else request
    mask = None
    if dynamics is not None:
        drawn = Probe(seed=dynamics.seed ^ int(digest(dynamics.probe)[:12], 16))
        keep = dynamics.keep if isinstance(dynamics, Prune) else dynamics.keeps[-1][1]
        mask = replace(dynamics.pruner, criterion=random)(MODEL, request.mask or DENSE, keep, drawn)
    if isinstance(request, Prune):
        assert mask is not None
        return Pruned(request=digest(request), mask=mask)
    steps = sorted({request.first, min(request.first + STOP, request.last), request.last})
    points = tuple(Point(step=s, validation_loss=abs(s - request.first - STOP)) for s in steps)
    curve = Curve(points=points)
    return Trained(request=digest(request), first=request.first, last=request.last, curve=curve, mask=mask)


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
    cuts: dict[int, Prune | Fit] = {}
    others: dict[int, dict[str, Prune | Fit]] = {}
    masks: dict[int, Mask] = {}
    for one in rounds:
        for arm, request in {**one.ask, **one.aside}.items():
            if arm in (CUT, GRADUAL):
                assert one.level not in cuts
                cuts[one.level] = request
                masks[one.level] = mask_of(request)
            elif arm.name.startswith("cut-"):
                others.setdefault(one.level, {})[arm.name.removeprefix("cut-")] = request
            else:
                assert isinstance(request, Fit) and request.dynamics is None
                assert arm not in fits.setdefault(one.level, {})
                fits[one.level][arm] = request
    return Asked(rounds=rounds, fits=fits, cuts=cuts, others=others, masks=masks, found=found)


def mask_of(request: Request) -> Mask:
    mask = answer(request).mask
    assert mask is not None
    return mask


BY_STEP = {"keeps": KEEPS[-1:], "cuts": ((20, KEEPS[0]), (30, KEEPS[1]), (60, KEEPS[2]))}


def asked(name: str, **changes: Any) -> Asked:
    return drive(SEARCHES[name].load()(plan(**(BY_STEP if name == "gradual" else {}), **changes)))


every_search = pytest.mark.parametrize("name", SEARCHES)
by_level = pytest.mark.parametrize("name", [name for name in SEARCHES if name != "gradual"])
every_variant = pytest.mark.parametrize(
    "changes",
    [{}, {"rewind_to": 20}, {"search_steps": 60}, {"rewind_to": 20, "search_steps": 60}, {"reset": FineTune()}],
    ids=["plain", "rewound", "short", "rewound-short", "fine-tuned"],
)


@every_search
@every_variant
def test_every_level_has_a_cut_a_ticket_and_its_controls(name: str, changes: dict[str, Any]) -> None:
    a = asked(name, draws=2, **changes)
    assert a.levels == ([1] if name == "gradual" else [1, 2, 3])
    assert sorted(a.fits) == [0, *a.levels]
    keeps = KEEPS[-len(a.levels) :]
    assert a.ticket(0).mask is None
    assert (a.ticket(0).first, a.ticket(0).last, a.ticket(0).start) == (0, STEPS, plan().init())
    drawn = {Arm(name=name, draw=d) for name in ("reinit", "small-dense") for d in range(2)}
    expected = {Arm(name=name) for name in EVERY - {"reinit", "small-dense"}} | drawn
    if changes.get("rewind_to"):
        expected |= {Arm(name="reinit-rewound", draw=d) for d in range(2)}
    for level in a.levels:
        cut = a.cuts[level]
        dynamics = cut.dynamics if isinstance(cut, Fit) else None
        assert isinstance(cut, Fit) or cut.keep == keeps[level - 1]
        assert a.masks[level].alive == keeps[level - 1]
        assert (dynamics or cut).pruner == plan().pruner  # type: ignore[union-attr]
        assert {arm for arm in a.fits[level] if arm.name != "search"} == expected
        ticket = a.ticket(level)
        assert ticket.mask == a.masks[level]
        assert ticket.last == STEPS
        assert a.masks[level].within(a.masks.get(level - 1, DENSE))
        for arm, fit in a.fits[level].items():
            if arm.name == "small-dense":
                assert isinstance(fit.start, Init)
                assert (fit.mask, fit.start.at_most, fit.first, fit.last) == (None, keeps[level - 1], 0, STEPS)
                continue
            assert fit.mask is not None
            assert fit.mask.kept == a.masks[level].kept
            assert (fit.mask == a.masks[level]) == (arm.name not in {"shuffled", *CORRUPTED})
            assert fit.last == (0 if arm.name == "untrained" else fit.last)
    assert a.found.mask == a.masks[a.levels[-1]]
    assert len({digest(f) for fits in a.fits.values() for f in fits.values()}) == sum(map(len, a.fits.values()))


@every_search
@every_variant
def test_controls_with_masks_of_their_own_are_cut_beside_the_ticket(name: str, changes: dict[str, Any]) -> None:
    a = asked(name, **changes)
    for level in a.levels:
        cut, ticket = a.cuts[level], a.ticket(level)
        assert a.others[level].keys() == CORRUPTED
        for control, other in a.others[level].items():
            inner: Any = cut.dynamics if isinstance(cut, Fit) else cut
            changed = {
                "inverted": {"pruner": replace(inner.pruner, inverted=True)},
                "random-labels": {"probe": ProbeSpec(random_labels=True)},
                "random-inputs": {"probe": ProbeSpec(random_inputs=True)},
            }[control]
            made = replace(inner, **changed)
            assert other == (replace(cut, dynamics=made) if isinstance(cut, Fit) else made) != cut
            fit = a.fits[level][Arm(name=control)]
            assert fit == replace(ticket, mask=mask_of(other), keep=())
        alone = asked(name, controls=("inverted",), **changes)
        assert alone.others[level].keys() == {"inverted"}
        assert alone.cuts[level] == cut


@every_search
@every_variant
def test_an_untrained_control_is_an_evaluation_of_the_initial_weights(name: str, changes: dict[str, Any]) -> None:
    a = asked(name, **changes)
    for level in a.levels:
        fit = a.fits[level][Arm(name="untrained")]
        assert (fit.start, fit.mask, fit.first, fit.last) == (plan().init(), a.masks[level], 0, 0)


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
    assert digest(one.cuts[1]) != digest(other.cuts[1])


def _requests(a: Asked) -> list[Request]:
    return [request for one in a.rounds for request in (*one.ask.values(), *one.aside.values())]


def _fits(a: Asked) -> list[Fit]:
    return [request for request in _requests(a) if isinstance(request, Fit)]


@every_search
def test_survivors_take_back_their_first_weights(name: str) -> None:
    a = asked(name)
    for level in a.levels:
        ticket, shuffled = a.ticket(level), a.fits[level][Arm(name="shuffled")]
        assert (ticket.start, ticket.first, ticket.held_rate) == (plan().init(), 0, None)
        assert replace(shuffled, mask=ticket.mask) == replace(ticket, keep=())
        assert shuffled.keep == ()
        fresh = a.fits[level][Arm(name="reinit")]
        assert isinstance(fresh.start, Init)
        assert fresh.start != plan().init()
        assert (fresh.first, fresh.last) == (0, STEPS)
    assert not any(arm.name in {"fresh", "reinit-rewound"} for fits in a.fits.values() for arm in fits)
    shuffles = [a.fits[level][Arm(name="shuffled")].mask for level in a.levels]
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
    for level in a.levels:
        for arm in (TICKET, Arm(name="shuffled")):
            fit = a.fits[level][arm]
            assert (fit.start, fit.first, fit.last) == (At(fit=digest(dense), step=20), 20, STEPS)
        for draw in range(2):
            rewound = a.fits[level][Arm(name="reinit-rewound", draw=draw)]
            assert (rewound.start, rewound.first) == (At(fit=digest(fresh[draw]), step=20), 20)
            scratch = a.fits[level][Arm(name="reinit", draw=draw)]
            assert (scratch.start, scratch.first) == (plan().redraw(draw), 0)


@by_level
@pytest.mark.parametrize(
    ("score_at", "step"), [(Moment.END, 60), (Moment.EARLY_STOP, STOP), (45, 45), (Moment.INIT, 0)]
)
def test_weights_are_scored_where_the_plan_says(name: str, score_at: Moment | int, step: int) -> None:
    a = asked(name, score_at=score_at, search_steps=60)
    search = Arm(name="search")
    dense = a.fits[0][search]
    assert (dense.last, a.ticket(0).last) == (60, STEPS)
    assert (score_at in dense.keep) == (score_at not in {Moment.END, Moment.INIT})
    for level in a.levels:
        cut = a.cuts[level]
        assert isinstance(cut, Prune)
        source = a.fits[level - 1][search] if name == "imp" else dense
        start = plan().init() if score_at is Moment.INIT else At(fit=digest(source), step=step)
        assert cut.start == start
        assert cut.mask == (a.masks.get(level - 1, DENSE) if name == "imp" else DENSE)
    searching = [level for level, fits in a.fits.items() if search in fits]
    assert searching == ([0, 1, 2] if name == "imp" else [0])  # nothing is scored after the last


@every_search
def test_a_search_waits_for_no_more_than_it_needs(name: str) -> None:
    a = asked(name, search_steps=60)
    cuts = {CUT, *(Arm(name=f"cut-{control}") for control in CORRUPTED)}
    cuts ^= {CUT, GRADUAL} if name == "gradual" else set()
    assert {arm for one in a.rounds for arm in one.ask} == {*cuts, Arm(name="search")}
    whole = asked(name)
    waited = {arm for one in whole.rounds for arm in one.ask}
    assert waited == {*cuts, TICKET}
    assert {arm.name for one in whole.rounds for arm in one.aside} <= EVERY


@every_search
def test_fine_tuning_goes_on_from_the_end_at_the_last_rate(name: str) -> None:
    a = asked(name, reset=FineTune())
    for level in a.levels:
        before = a.scored(level)
        ticket = a.ticket(level)
        assert (ticket.start, ticket.held_rate) == (At(fit=digest(before), step=STEPS), STEPS)
        assert (ticket.first, ticket.last) == (0, STEPS)
        assert a.fits[level][Arm(name="reinit")].held_rate is None


@every_search
@pytest.mark.parametrize("control", CONTROLS)
def test_each_control_alone(name: str, control: str) -> None:
    a, none = asked(name, controls=(control,), rewind_to=20), asked(name, controls=(), rewind_to=20)
    for level in a.levels:
        alone = {arm.name for arm in a.fits[level]} - {"ticket"}
        assert control in alone
        assert alone <= {control, f"{control}-rewound"}
        assert set(none.fits[level]) == {TICKET}
        assert a.ticket(level) == none.ticket(level)  # controls change nothing of the search
    assert set(none.fits[0]) == {TICKET}


def test_dense_states_are_kept_for_later_experiments() -> None:
    assert asked("imp", steps=6000, keeps=KEEPS[:1]).ticket(0).keep == (0, 100, 500, 1000, 5000, 0)


@every_search
@pytest.mark.parametrize("k", [0, 20])
def test_rewinding_the_learning_rate_keeps_trained_weights(name: str, k: int) -> None:
    a = asked(name, reset=LrRewind(), rewind_to=k)
    for level in a.levels:
        before = a.scored(level)
        ticket = a.ticket(level)
        assert ticket.start == At(fit=digest(before), step=STEPS)
        assert (ticket.first, ticket.last, ticket.held_rate) == (k, STEPS, None)


@every_search
@pytest.mark.parametrize("k", [0, 20])
@pytest.mark.parametrize("reset", [reinit, SignedConstant(scale=2.0), redraw_losers])
def test_a_reset_is_part_of_the_request(name: str, k: int, reset: Any) -> None:
    """Ticket and controls under other masks start from what the reset makes, each by its own mask and one stream."""
    a = asked(name, reset=reset, rewind_to=k)
    dense = reset is redraw_losers
    for level in a.levels:
        rewound = At(fit=digest(a.ticket(0)), step=k) if k else plan().init()
        ticket = a.ticket(level)
        start = ticket.start
        assert isinstance(start, Made)
        assert (start.reset, start.initial, start.trained, start.mask) == (reset, rewound, None, a.masks[level])
        assert (ticket.mask, ticket.first, ticket.last, ticket.frozen) == (
            None if dense else start.mask,
            k,
            STEPS,
            None,
        )
        for control in ("shuffled", *CORRUPTED):
            other = a.fits[level][Arm(name=control)]
            assert isinstance(other.start, Made)
            assert other.start == replace(start, mask=other.start.mask) != start
            assert other.mask == (None if dense else other.start.mask)
        evaluated = a.fits[level][Arm(name="untrained")]
        assert evaluated.start == replace(start, initial=plan().init())
        assert (evaluated.mask, evaluated.last) == (a.masks[level], 0)
        assert isinstance(a.fits[level][Arm(name="reinit")].start, Init)


@every_search
def test_frozen_places_are_part_of_the_request_and_of_the_mask(name: str) -> None:
    a = asked(name, pruned=freeze_init_zero_mask, rewind_to=20)
    for level in a.levels:
        before = a.scored(level)
        ticket, fits = a.ticket(level), a.fits[level]
        frozen = ticket.frozen
        assert isinstance(frozen, Made)
        assert (frozen.reset, frozen.initial) == (freeze_init_zero_mask, At(fit=digest(a.ticket(0)), step=20))
        assert (frozen.trained, frozen.mask) == (At(fit=digest(before), step=STEPS), a.masks[level])
        assert ticket.start == At(fit=digest(a.ticket(0)), step=20)
        assert fits[Arm(name="reinit")].frozen == fits[Arm(name="reinit-rewound")].frozen == frozen
        assert fits[Arm(name="untrained")].frozen == replace(frozen, initial=plan().init())
        for control in ("shuffled", *CORRUPTED):
            assert fits[Arm(name=control)].frozen == replace(frozen, mask=fits[Arm(name=control)].mask)
        assert fits[Arm(name="small-dense")].frozen is None
    for reset in (FineTune(), LrRewind()):
        assert asked(name, pruned=freeze_init_zero_mask, reset=reset).ticket(1).frozen is not None


@every_search
def test_a_reset_of_the_pruned_may_change_the_start_of_survivors(name: str) -> None:
    pruned = FreezeInitZeroAll()
    for reset, inner in ((Rewind(), None), (reinit, reinit)):
        a = asked(name, pruned=pruned, reset=reset)
        start = a.ticket(1).start
        assert isinstance(start, Made)
        assert start.reset == Started(reset=inner, pruned=pruned)
        assert (start.initial, start.trained) == (plan().init(), At(fit=digest(a.scored(1)), step=STEPS))


@every_search
def test_what_a_criterion_gathers_is_asked_of_the_trainings_it_scores(name: str) -> None:
    @needs(gathered=("movement",))
    def moving(model: nn.Module, mask: Mask, probe: Probe) -> dict[str, Tensor]:
        return random(model, mask, probe)

    pruner = Pruner(criterion=moving, allocation=Layerwise())
    a = asked(name, pruner=pruner, controls=("shuffled", "inverted"))
    for level, fits in a.fits.items():
        scored = level < 3 if name == "imp" else level == 0
        thinned = a.cuts.get(level)
        assert not isinstance(thinned, Fit) or thinned.gather == ("movement",)
        assert a.ticket(level).gather == (("movement",) if scored or name == "imp" else ())
        assert all(fit.gather == () for arm, fit in fits.items() if arm.name == "inverted" and name != "imp")


@pytest.mark.parametrize("short", [None, 60])
def test_a_gradual_training_goes_from_the_initial_weights_to_the_ticket_s_mask(short: int | None) -> None:
    a = asked("gradual", search_steps=short, rewind_to=10)
    thinned = a.cuts[1]
    assert isinstance(thinned, Fit) and thinned.dynamics is not None
    assert thinned.dynamics.keeps == BY_STEP["cuts"]
    assert thinned.dynamics.probe == ProbeSpec()
    assert (thinned.start, thinned.mask, thinned.first, thinned.last) == (plan().init(), DENSE, 0, short or STEPS)
    assert (thinned.order, thinned.noise) == (a.ticket(0).order, a.ticket(0).noise)
    assert a.ticket(1).start == At(fit=digest(a.fits[0][Arm(name="search") if short else TICKET]), step=10)
    blind = asked("gradual", pruner=Pruner(), controls=())
    assert isinstance(blind.cuts[1], Fit) and blind.cuts[1].dynamics is not None
    assert blind.cuts[1].dynamics.probe is None


def test_a_plan_whose_parts_contradict_each_other_is_refused() -> None:
    @needs(gathered=("movement",))
    def moving(model: nn.Module, mask: Mask, probe: Probe) -> dict[str, Tensor]:
        return random(model, mask, probe)

    @needs(gathered=("moved",))
    def unknown(model: nn.Module, mask: Mask, probe: Probe) -> dict[str, Tensor]:
        return random(model, mask, probe)

    check_plan(plan())
    check_plan(plan(pruner=Pruner(criterion=moving), score_at=STEPS, controls=("inverted", "untrained")))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"pruner": Pruner(), "controls": ("random-labels",)}, "magnitude does not look at labels"),
        ({"pruner": Pruner(), "controls": ("random-inputs",)}, "magnitude does not look at inputs"),
        ({"pruner": Pruner(criterion=moving), "controls": (), "score_at": 50}, "scores at its end, not at step 50"),
        ({"pruner": Pruner(criterion=moving), "controls": (), "score_at": Moment.INIT}, "not at init"),
        ({"pruner": Pruner(criterion=moving), "controls": (), "score_at": STEPS, "search_steps": 60}, "at step 100"),
        ({"pruner": Pruner(criterion=unknown), "controls": ()}, "Unknown statistic 'moved'"),
        ({"reset": redraw_losers, "pruned": freeze_init_zero_mask}, "redraw_losers trains the network whole"),
        ({"reset": LrRewind(), "pruned": FreezeInitZeroAll()}, "puts survivors back to 0"),
    ]
    for changes, message in wrong:
        with pytest.raises(UsageError, match=message):
            check_plan(plan(**changes))
