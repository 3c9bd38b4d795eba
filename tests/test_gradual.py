"""Pruning while training: the masks on the way, and what survivors keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from gradual_helpers import CRITERIA, KEEPS, OPTIMIZERS, STEPS, bench, dynamics, thinned
from helpers import Bench, Recorder, order_by_hand, random_mask, same_state
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.allocation import allocation_of
from tombola.answers import Curve, Point
from tombola.criteria import Probe, criterion_of
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.pruning import Pruner
from tombola.starts import Init, Moment
from tombola.store import Store
from tombola.streams import derive
from tombola.training.examples import probe_of
from tombola.training.loop import Stopped
from tombola.training.optimizers import Optimizer
from tombola.training.reference import Reference
from tombola.training.settings import Training


class Watched(Reference):
    """The reference engine; after each step it looks at what is pruned, and notes the mask."""

    masks: list[Mask]

    def advance(self, first: int, last: int) -> None:
        super().advance(first, last)
        mask = self.moved()
        assert mask is not None
        for name, weight in self.model.named_parameters():
            gone = ~mask[name] if name in mask else torch.zeros(weight.shape, dtype=torch.bool)
            slots = [
                v for v in self.optimizer.state[weight].values() if isinstance(v, Tensor) and v.shape == gone.shape
            ]
            assert slots and weight.grad is not None
            assert not any(bool(values[gone].any()) for values in (weight.detach(), weight.grad, *slots))
        assert self.model.training
        Watched.masks.append(mask)


def by_hand(b: Bench, start: Mask | None = None) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """A plain loop: the smallest weights of all go after the steps of `KEEPS`; (weights, places) after each step."""
    model, training = b.fresh(), b.training
    named = dict(model.named_parameters())
    optimizer = training.optimizer.build(named.values())
    places = {
        name: start[name].clone() if start else torch.ones(shape) > 0
        for name, shape in Mask.dense(model).shapes.items()
    }

    def clear() -> None:
        with torch.no_grad():
            for name, kept in places.items():
                for value in (named[name], *optimizer.state[named[name]].values()):
                    if value.shape == kept.shape:
                        value[~kept] = 0

    clear()
    for step, batch in enumerate(order_by_hand(b.sets.train_index, training.batch_size, 5, STEPS), start=1):
        optimizer.zero_grad()
        F.cross_entropy(model(b.sets.train.x[batch]), b.sets.train.y[batch]).backward()
        for name, kept in places.items():
            named[name].grad[~kept] = 0  # type: ignore[index]
            if training.l2:
                named[name].grad.add_(named[name].detach(), alpha=training.l2)  # type: ignore[union-attr]
        if training.clip_norm:
            nn.utils.clip_grad_norm_(named.values(), training.clip_norm)
        optimizer.step()
        for keep in (keep for at, keep in KEEPS if at == step):
            ranked = sorted(
                (abs(value), number, place, name)
                for number, (name, kept) in enumerate(places.items())
                for place, value in enumerate(named[name].detach().flatten().tolist())
                if kept.flatten()[place]
            )
            for _, _, place, name in ranked[: len(ranked) - keep]:
                places[name].view(-1)[place] = False
            clear()
        yield {n: v.detach().clone() for n, v in named.items()}, {n: kept.clone() for n, kept in places.items()}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("further", [{}, {"l2": 0.1, "clip_norm": 0.05}], ids=["plain", "clipped"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_pruned_training_is_the_plain_loop_bit_for_bit(name: str, further: dict[str, float], masked: bool) -> None:
    b = bench(name, **further)
    start = random_mask(b.fresh(), 0.9) if masked else None
    Watched.masks = []
    measured, events, model = b.train(thinned(b, mask=start), engine=Watched)
    masks, before = Watched.masks, (start or Mask.dense(model))
    wanted, left = dict(KEEPS), before.alive
    for step, (weights, places) in enumerate(by_hand(b, start), start=1):
        for tensor, value in weights.items():
            assert torch.equal(events.states[step][tensor], value), (step, tensor)
        mask = masks[step - 1]
        left = wanted.get(step, left)
        assert mask == Mask(places) and mask.alive == left and mask.within(before)
        before = mask
    assert measured.mask == masks[-1] and measured.mask.alive == 40
    assert same_state(events.states[STEPS], dict(model.state_dict()))


def test_without_cuts_nothing_is_different() -> None:
    b = bench()
    (plain, one, _), (cut, two, _) = b.train(), b.train(thinned(b, dynamics=dynamics(keeps=((STEPS, 30),))))
    assert plain.mask is None and cut.mask is not None
    assert (
        cut.points[:-1] == plain.points[:-1] and cut.points[-1] != plain.points[-1]
    )  # the last point is of what is left
    end = {n: v * cut.mask[n] if n in cut.mask else v for n, v in one.states[STEPS].items()}
    assert all(torch.equal(two.states[STEPS][n], value) for n, value in end.items())


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_cut_is_that_of_the_pruner_on_the_weights_of_the_moment(criterion: str) -> None:
    b = bench()
    before, events, _ = b.train(thinned(b, criterion, dynamics=None, last=3))
    fit = thinned(b, criterion, dynamics=dynamics(criterion, keeps=KEEPS[:1]))
    Watched.masks = []
    after, states, _ = b.train(fit, engine=Watched)
    pruner, spec, seed = fit.dynamics.pruner, fit.dynamics.probe, derive(4, "cut", 3)  # type: ignore[union-attr]
    probe = Probe(seed=seed) if spec is None else probe_of(b.sets, b.training, spec, seed, torch.float32)
    full = Probe(
        seed=seed, batches=probe.batches, loss=probe.loss, more=probe.more, initial=b.start, gathered=before.gathered
    )
    model = b.fresh(events.states[3])
    cut = pruner.cut(model.eval(), Mask.dense(model), 120, full)
    assert Watched.masks[2] == after.mask == cut.mask
    assert bool(cut.adjusted) == criterion.startswith("obs")
    weights = {**events.states[3], **cut.adjusted}
    for name, value in states.states[3].items():
        assert torch.equal(value, weights[name] * cut.mask[name] if name in cut.mask else weights[name])


@pytest.mark.parametrize("allocation", ["layerwise", "layerwise:rate=0.5", "uniform", "erk", "lamp"])
def test_other_allocations_meet_every_budget(allocation: str) -> None:
    b = bench()
    Watched.masks = []
    b.train(thinned(b, dynamics=dynamics(pruner=Pruner(allocation=allocation_of(allocation)))), engine=Watched)
    assert [mask.alive for mask in Watched.masks] == [176] * 2 + [120] + [90] * 4 + [40] * 5


def evaluating(model: nn.Module, mask: Mask, probe: Probe) -> dict[str, Tensor]:
    """Scores that need evaluation mode, and leave gradients behind."""
    assert not model.training and torch.is_grad_enabled()
    total = sum(weight.square().sum() for weight in model.parameters())
    assert isinstance(total, Tensor)
    total.backward()
    return {name: model.get_parameter(name).detach().abs() for name in mask}


def test_criteria_look_in_evaluation_mode_and_disturb_nothing() -> None:
    training = Training(steps=STEPS, batch_size=20, eval_every=5, normalise="none", optimizer=OPTIMIZERS["adam"])
    layers = (nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
    states = {name: value.clone() for name, value in nn.Sequential(*layers).state_dict().items()}

    def build() -> nn.Module:
        model = nn.Sequential(*(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)))
        model.load_state_dict(states)
        return model

    b = Bench(build, training)
    found = []
    for criterion in (evaluating, criterion_of("magnitude")):
        Watched.masks = []
        found.append((*b.train(thinned(b, dynamics=dynamics(pruner=Pruner(criterion=criterion))), engine=Watched)[:2],))
    (one, events), (other, same) = found
    assert one.points == other.points and one.mask == other.mask
    assert all(same_state(events.states[step], same.states[step]) for step in events.states)


@pytest.mark.parametrize(
    ("name", "criterion"), [("sgd", "magnitude"), ("adam", "magnitude"), *(("adam", name) for name in CRITERIA[1:])]
)
def test_it_goes_on_from_its_checkpoint_at_every_step(name: str, criterion: str, tmp_path: Path) -> None:
    b, store = bench(name), Store(tmp_path)
    fit = thinned(b, criterion)
    whole, states, _ = b.train(fit)
    for stop in range(STEPS):
        events = Recorder(stop_at=stop)
        with pytest.raises(Stopped):
            b.train(fit, events=events)
        events.stop_at = None
        store.save_checkpoint("a" * 32, events.checkpoints[-1], {})
        saved = store.checkpoint("a" * 32)
        assert saved is not None and saved[0].step == stop
        rest, _, _ = b.train(fit, events=events, resume=saved[0])
        assert (rest.points, rest.mask, rest.train_loss) == (whole.points, whole.mask, whole.train_loss)
        assert rest.mask is not None and whole.mask is not None and list(rest.mask) == list(whole.mask)
        assert events.states.keys() == states.states.keys()
        assert all(same_state(events.states[step], states.states[step]) for step in states.states)
        assert rest.gathered.keys() == whole.gathered.keys()
        assert all(same_state(rest.gathered[n], sums) for n, sums in whole.gathered.items())


def test_a_training_that_diverges_says_so_and_is_not_cut() -> None:
    b = Bench(
        lambda: mlp((8, 16, 3), seed=1),
        Training(steps=STEPS, batch_size=20, eval_every=5, normalise="none", optimizer=Optimizer(name="sgd", lr=1e30)),
    )
    plain, _, _ = b.train()
    measured, events, _ = b.train(thinned(b))
    assert measured.diverged_at == plain.diverged_at == 5
    assert measured.mask is not None and measured.mask.alive == 176
    assert all(bool(value.isfinite().all()) for value in events.states[0].values())


def test_early_stop_is_looked_for_behind_the_last_cut() -> None:
    losses = {0: 9.0, 5: 1.0, 10: 3.0, 12: 2.0}
    points = tuple(Point(step=step, validation_loss=loss) for step, loss in losses.items())
    steps = [getattr(Curve(points, settled).early_stop, "step", None) for settled in (0, 5, 6, 12, 13)]
    assert steps == [5, 5, 12, 12, None]
    b = bench()
    fit = thinned(b, dynamics=dynamics(keeps=((3, 120), (8, 4))), keep=(Moment.EARLY_STOP,))
    measured, events, _ = b.train(fit)
    stop = Curve(measured.points, fit.settled).early_stop
    assert fit.settled == 8 and stop is not None and stop.step >= 10
    assert set(events.states) == {stop.step, STEPS}
    assert b.train(b.fit(keep=(Moment.EARLY_STOP,)))[1].states.keys() >= {STEPS}


@pytest.mark.parametrize(
    ("keeps", "message"),
    [
        ((), "keeps is empty"),
        (((0, 5),), "after step 0 comes behind step 0; expected steps that rise from 1"),
        (((3, 50), (3, 40)), "after step 3 comes behind step 3"),
        (((3, 50), (2, 40)), "after step 2 comes behind step 3"),
        (((3, 50), (4, 50)), "after step 4 leaves 50 weights; expected 1 or more, fewer from cut to cut"),
        (((3, 0),), "leaves 0 weights"),
    ],
)
def test_cuts_that_do_not_follow_each_other_are_refused(keeps: tuple[tuple[int, int], ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dynamics(keeps=keeps)


def test_what_a_fit_cannot_do_is_refused_before_it_begins() -> None:
    b = bench()
    for changes, message in (
        ({"last": 7}, "Cuts after the steps 3 to 8 of a fit from step 0 to 7"),
        ({"first": 3}, "of a fit from step 3 to"),
        ({"mask": Mask.dense(b.fresh()), "frozen": Init(seed=1)}, "leave frozen or dynamics out"),
    ):
        with pytest.raises(UsageError, match=message):
            thinned(b, **changes)
    assert thinned(b, first=2, last=8).dynamics is not None
    for fit, message in (
        (thinned(b, "movement_pruning", gather=()), "goes by 'movement', and this fit does not gather it; set gather"),
        (
            thinned(b, dynamics=dynamics("snip", probe=None)),
            "snip looks at examples, and this fit's dynamics has no probe",
        ),
        (thinned(b, dynamics=dynamics(keeps=((3, 177),))), "step 3 keeps 177 weights, and there are 176 before it"),
    ):
        with pytest.raises(UsageError, match=message):
            b.train(fit)
    assert dynamics().until(7) == dynamics(keeps=KEEPS[:2])
    assert dynamics().until(2) is None
