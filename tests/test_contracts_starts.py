"""Which weights searches start from, and what they gather, driven by hand: no network is trained."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from search_helpers import CORRUPTED, DENSE, STEPS, STOP, asked, by_level, every_search, plan
from torch import Tensor, nn

from tombola.allocation import Layerwise
from tombola.criteria import Probe, needs
from tombola.criteria.weights import random
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import TICKET, Arm, Fit, Prune
from tombola.resets import FineTune, LrRewind, Rewind, Started
from tombola.resets.pruned import FreezeInitZeroAll, freeze_init_zero_mask
from tombola.resets.survivors import SignedConstant, redraw_losers, reinit
from tombola.specs import digest
from tombola.starts import At, Init, Made, Moment


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
def test_fine_tuning_goes_on_from_the_end_at_the_last_rate(name: str) -> None:
    a = asked(name, reset=FineTune())
    for level in a.levels:
        before = a.scored(level)
        ticket = a.ticket(level)
        assert (ticket.start, ticket.held_rate) == (At(fit=digest(before), step=STEPS), STEPS)
        assert (ticket.first, ticket.last) == (0, STEPS)
        assert a.fits[level][Arm(name="reinit")].held_rate is None


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
