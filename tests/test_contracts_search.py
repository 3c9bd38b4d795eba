"""What searches and controls ask for, driven by hand: no network is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from search_helpers import (
    BY_STEP,
    CORRUPTED,
    DENSE,
    EVERY,
    KEEPS,
    STEPS,
    asked,
    every_search,
    every_variant,
    fits_of,
    mask_of,
    plan,
    requests_of,
)
from torch import Tensor, nn

from tombola.allocation.lamp import lamp
from tombola.criteria import Probe, needs
from tombola.criteria.surgeon import Obs
from tombola.criteria.weights import movement, random, small_final
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import CUT, GRADUAL, TICKET, Arm, Fit, ProbeSpec
from tombola.resets import LrRewind
from tombola.resets.pruned import FreezeInitZeroAll, freeze_init_zero_mask
from tombola.resets.survivors import redraw_losers
from tombola.search import CONTROLS
from tombola.search.checks import check_plan
from tombola.specs import digest
from tombola.starts import At, Init, Moment


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
    assert [digest(r) for r in requests_of(one)] == [digest(r) for r in requests_of(same)]
    pairs = [{(f.order, f.noise) for f in fits_of(a)} for a in (one, other)]
    assert [len(found) for found in pairs] == [1, 1]
    ((order, noise), (other_order, other_noise)) = (found.pop() for found in pairs)
    assert len({order, noise, other_order, other_noise}) == 4
    assert not {digest(r) for r in requests_of(one)} & {digest(r) for r in requests_of(other)}
    inits = [{f.start.seed for f in fits_of(a) if isinstance(f.start, Init)} for a in (one, other)]
    assert not inits[0] & inits[1]
    assert digest(one.cuts[1]) != digest(other.cuts[1])


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
        ({"pruner": Pruner(criterion=movement), "controls": (), "score_at": Moment.INIT}, "all are alike"),
        ({"pruner": Pruner(criterion=small_final, allocation=lamp), "controls": ()}, "those of small_final can be"),
        (
            {"pruner": Pruner(criterion=Obs()), "probe": ProbeSpec(size=10**9)},
            r"obs would hold 1,000,000,000 gradients of [\d,]* weights",
        ),
        ({"reset": redraw_losers, "pruned": freeze_init_zero_mask}, "redraw_losers trains the network whole"),
        ({"reset": LrRewind(), "pruned": FreezeInitZeroAll()}, "puts survivors back to 0"),
    ]
    for changes, message in wrong:
        with pytest.raises(UsageError, match=message):
            check_plan(plan(**changes))
