"""Pruning while training: the schedule's numbers, the masks on the way, what survivors keep, and the search."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Bench, Counting, Recorder, order_by_hand, random_mask, same_state, tiny_data, tiny_recipe
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.allocation import allocation_of
from tombola.answers import Curve, Point, Trained
from tombola.criteria import Probe, criterion_of, needs_of
from tombola.errors import UsageError
from tombola.executors.base import Done, Job
from tombola.executors.work import compute
from tombola.experiment import Experiment, prepare, run, run_experiment
from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.preview import preview
from tombola.pruning import Pruner
from tombola.requests import Fit, Gradual, ProbeSpec
from tombola.resets import FineTune
from tombola.schedules import Cubic, Custom, Geometric, Linear, cuts_of, levels_of
from tombola.starts import Init, Moment
from tombola.store import Store
from tombola.store.collect import collect
from tombola.streams import derive
from tombola.tickets import stored_ticket
from tombola.training.examples import probe_of
from tombola.training.loop import Stopped
from tombola.training.optimizers import Optimizer
from tombola.training.reference import Reference
from tombola.training.settings import Training

STEPS = 12
KEEPS = ((3, 120), (4, 90), (8, 40))  # of 8 x 16 + 16 x 3 = 176 weights
OPTIMIZERS = {
    "sgd": Optimizer(name="sgd", lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": Optimizer(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": Optimizer(name="adam", lr=0.02, weight_decay=0.01),
    "adamw": Optimizer(name="adamw", lr=0.02, weight_decay=0.1),
}
CRITERIA = ["magnitude", "magnitude_increase", "movement_pruning", "snip", "obs:damping=1e-4"]


# --- the schedule


def test_the_formula_by_hand() -> None:
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3; 1 - s_t of the weights are left."""
    # 0.2 + 0.8 (8/27, 1/27, 0)
    assert cuts_of(Cubic(final=0.2, every=10, end=30), 1000, 30) == ((10, 437), (20, 230), (30, 200))
    assert cuts_of(Cubic(final=0.2, every=10), 1000, 40) == ((10, 437), (20, 230), (30, 200))  # ends at 3/4
    assert cuts_of(Cubic(final=0.2, every=20, begin=20, end=60), 1000, 60) == ((40, 300), (60, 200))
    assert cuts_of(Linear(final=0.1, every=5, begin=5, end=21), 1000, 24) == ((10, 700), (15, 400), (20, 100))
    assert cuts_of(Linear(final=0.5, every=4), 10, 8) == ((4, 5),)


@given(
    st.fractions(Fraction(1, 50), Fraction(9, 10)),
    st.integers(1, 40),
    st.integers(0, 100),
    st.integers(1, 30),
    st.integers(1000, 10**7),
)
def test_the_formula_of_the_paper(final: Fraction, every: int, begin: int, n: int, total: int) -> None:
    steps = begin + n * every
    for schedule, power in ((Cubic, 3), (Linear, 1)):
        made = schedule(final=float(final), every=every, begin=begin, end=steps)
        cuts = cuts_of(made, total, steps + 7)
        for step, keep in cuts:
            aimed = 1 - final
            sparsity = aimed + (0 - aimed) * (1 - Fraction(step - begin, n * every)) ** power
            assert abs(keep - (1 - sparsity) * total) < 0.51
        assert {step for step, _ in cuts} <= {begin + i * every for i in range(1, n + 1)}
        assert cuts[-1][1] == round(float(final) * total)
        assert all(after < before for (_, before), (_, after) in pairwise(cuts))
        assert levels_of(made, 9) == 1


def test_a_cut_that_removes_nothing_is_none() -> None:
    found = cuts_of(Cubic(final=0.5, every=1, end=10), 10, 10)
    assert found == ((1, 9), (2, 8), (3, 7), (4, 6), (6, 5))  # 8.6, 7.6, 6.7, 6.1, 5.6, 5.3, ...
    assert (
        cuts_of(Geometric(), 10, 10)
        == cuts_of(Custom(densities=(0.5,)), 10, 10)
        == cuts_of(Cubic(final=0.1), 9, 9)
        == ()
    )
    assert levels_of(Cubic(final=0.1), 9) == levels_of(Linear(final=0.1), 9) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": -1}, "every is -1; expected a whole number of training steps"),
        ({"every": 5, "begin": -1}, "begin is -1"),
        ({"every": True}, "every is True"),
        ({"begin": 5}, "every is 0, which goes by level; set every"),
        ({"end": 5}, "set every"),
        ({"every": 5, "begin": 4, "end": 8}, r"no cut every 5 steps; expected end - begin >= every"),
    ],
)
def test_steps_that_contradict_each_other_are_refused(options: dict[str, int], message: str) -> None:
    for schedule in (Linear, Cubic):
        with pytest.raises(UsageError, match=message):
            schedule(final=0.5, **options)


@pytest.mark.parametrize(
    "schedule",
    [
        Cubic(final=0.5, every=40),  # ends at step 30 of 40
        Cubic(final=0.5, every=5, begin=30),
        Linear(final=0.5, every=5, end=41),
    ],
)
def test_a_training_without_room_for_the_cuts_is_refused(schedule: Cubic | Linear) -> None:
    with pytest.raises(UsageError, match="expected one cut or more, and none after its end"):
        cuts_of(schedule, 1000, 40)


# --- the training


def bench(name: str = "sgd", **further: Any) -> Bench:
    training = Training(
        steps=STEPS, batch_size=20, eval_every=5, normalise="none", optimizer=OPTIMIZERS[name], **further
    )
    return Bench(lambda: mlp((8, 16, 3), seed=1), training)


def dynamics(criterion: str = "magnitude", **changes: Any) -> Gradual:
    chosen = criterion_of(criterion)
    probe = ProbeSpec(size=30) if needs_of(chosen).data else None
    return Gradual(**{"pruner": Pruner(criterion=chosen), "keeps": KEEPS, "seed": 4, "probe": probe, **changes})


def thinned(b: Bench, criterion: str = "magnitude", **changes: Any) -> Fit:
    gather = needs_of(criterion_of(criterion)).gathered
    return b.fit(**{"dynamics": dynamics(criterion), "gather": gather, "keep": tuple(range(STEPS)), **changes})


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


# --- bad input


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


# --- in experiments

CHOSEN: dict[str, Any] = {"search": "gradual", "schedule": "cubic:final=0.2,every=10", "allocation": "global"}
BUDGETS = ((10, 95), (20, 53), (30, 37), (40, 35))  # 0.2 + 0.8 (27, 8, 1, 0) / 64 of 176


def go(place: Path, **changes: Any) -> tuple[Counting, Any]:
    watcher = Counting()
    results = run(tiny_recipe(**{**CHOSEN, "replicates": 1, **changes}), data=tiny_data(), store=place, watcher=watcher)
    assert results.failures == ()
    return watcher, results


def ready(**changes: Any) -> Experiment:
    return prepare(tiny_recipe(**{**CHOSEN, **changes}), data=tiny_data())


@pytest.mark.parametrize("criterion", ["magnitude", "snip", "movement_pruning", "magnitude_increase"])
def test_an_experiment_trains_the_ticket_of_a_pruned_training(criterion: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"criterion": criterion, "probe": ProbeSpec(size=30), "rewind_to": 20}
    plan = ready(replicates=1, **changes).plans[0]
    assert (plan.cuts, plan.keeps) == (BUDGETS, (35,))
    watcher, results = go(tmp_path, controls=("reinit", "shuffled", "inverted"), **changes)
    store, pruned, ticket = Store(tmp_path), watcher.trained(1, "gradual"), watcher.trained(1)
    assert pruned.mask is not None and pruned.mask.alive == 35 and ticket.mask is None
    assert pruned.mask.digest == pruned.mask_digest == ticket.mask_digest
    assert pruned.kept == ticket.kept == pruned.mask.kept and pruned.effective == ticket.effective
    assert pruned.provenance["engine"] == "torch"
    end, rewound = store.state(pruned.states[60]), store.state(watcher.trained(0).states[20])
    assert not any(bool(end[name][~kept].any()) for name, kept in pruned.mask.items())
    assert pruned.curve.settled == 40 and pruned.curve.early_stop is not None and pruned.curve.early_stop.step >= 40
    arms = results.document["arms"]
    assert set(arms) == {"ticket", "gradual", "reinit", "reinit-rewound", "shuffled", "inverted"}
    assert [row["kept"] for row in arms["ticket"]] == [176, 35] and [row["kept"] for row in arms["gradual"]] == [35]
    assert (
        watcher.trained(1, "inverted").mask_digest
        == watcher.trained(1, "cut-inverted").mask_digest
        != pruned.mask_digest
    )
    assert store.get(pruned.request) == pruned
    taken = stored_ticket(store, results.experiment, level=1).ticket
    assert taken.mask == pruned.mask
    for name, kept in taken.mask.items():
        assert torch.equal(taken.weights[name], rewound[name] * kept)
    assert collect(store).files == 0
    again, same = go(tmp_path, controls=("reinit", "shuffled", "inverted"), **changes)
    assert again.jobs == [] and same == results


def test_fine_tuning_goes_on_from_the_pruned_training(tmp_path: Path) -> None:
    watcher, results = go(tmp_path, reset="fine-tune", controls=())
    store, pruned = Store(tmp_path), watcher.trained(1, "gradual")
    (fit,) = [job.request for job in watcher.jobs if job.digest == watcher.trained(1).request]
    assert isinstance(fit, Fit) and fit.start == pruned.at(Moment.END) and fit.held_rate == 60
    taken = stored_ticket(store, results.experiment, level=1).ticket
    end = store.state(pruned.states[60])
    assert all(torch.equal(taken.weights[name], end[name]) for name in taken.mask)


@pytest.mark.parametrize("stop", [5, 20, 33])
def test_an_interrupted_training_goes_on_in_its_store(stop: int, tmp_path: Path) -> None:
    task, seen = ready(controls=()).task, [0]
    fit = Fit(start=Init(seed=1), mask=None, last=60, order=2, noise=3, dynamics=dynamics(keeps=BUDGETS), keep=(15, 25))

    def made(store: Store, last: int) -> Trained:
        done = compute(
            task,
            store,
            Job(digest="a" * 32, request=fit),
            progress=seen.append,
            stopping=lambda: seen[-1] == last,
            device="cpu",
        )
        assert isinstance(done, Done) and isinstance(done.answer, Trained)
        return done.answer

    whole, store = made(Store(tmp_path / "whole"), 99), Store(tmp_path / "stopped")
    with pytest.raises(Stopped):
        made(store, stop)
    count = len(seen)
    rest = made(store, 99)
    assert len(seen) - count == 60 - stop
    assert (rest.mask, rest.states, rest.curve, rest.kept) == (whole.mask, whole.states, whole.curve, whole.kept)


def test_what_the_store_lost_is_made_again(tmp_path: Path) -> None:
    first, results = go(tmp_path, controls=())
    pruned, store = first.trained(1, "gradual"), Store(tmp_path)
    store.object_path(pruned.states[60]).unlink()
    again, same = go(tmp_path, controls=())
    assert same == results and [job.digest for job in again.jobs] == [pruned.request]
    assert pruned.mask is not None
    store.object_path(store.keep_mask(pruned.mask)).unlink()
    assert Store(tmp_path, report=lambda line: None).get(pruned.request) is None
    third, same = go(tmp_path, controls=())
    assert same == results and pruned.request in [job.digest for job in third.jobs]
    made = third.trained(1, "gradual")
    assert (made.mask, made.states, made.curve) == (pruned.mask, pruned.states, pruned.curve)


def test_a_state_on_the_way_is_made_by_the_cuts_up_to_it(tmp_path: Path) -> None:
    """Before the first cut, between two, and at one."""
    experiment, store = ready(replicates=1, controls=()), Store(tmp_path)
    run_experiment(experiment, store)
    plan = experiment.plans[0]
    thinning = Gradual(pruner=plan.pruner, keeps=plan.cuts, seed=derive(plan.seed, "prune"))
    steps = (7, 20, 25)
    whole = plan.fit(plan.init(), plan.dense, dynamics=thinning, keep=steps)

    def made(fit: Fit, name: str) -> Trained:
        done = compute(
            experiment.task,
            store,
            Job(digest=name * 32, request=fit),
            progress=lambda step: None,
            stopping=lambda: False,
            device="cpu",
        )
        assert isinstance(done, Done) and isinstance(done.answer, Trained)
        return done.answer

    wanted = made(whole, "a").states
    plain = made(plan.fit(plan.init(), plan.dense, dynamics=thinning), "b")
    assert plain.states == {60: wanted[60]}
    for step in reversed(steps):  # each is another training, as far as its step
        assert (
            made(plan.fit(plan.init(), plan.dense, dynamics=thinning, keep=(step,)), "b").states[step] == wanted[step]
        )
    assert {name: len(value.unique()) > 20 for name, value in store.state(wanted[7]).items() if "weight" in name} == {
        "fc1.weight": True,
        "output.weight": True,
    }


def test_an_answer_without_a_mask_is_stored_as_before(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fit = Fit(start=Init(seed=1), mask=None, last=3, order=0, noise=0)
    mask = random_mask(mlp((8, 16, 3)), 0.3)
    for answer in (
        Trained(request="a" * 32, first=0, last=3, curve=Curve()),
        Trained(
            request="b" * 32, first=0, last=3, curve=Curve((Point(step=2),), 2), mask=mask, mask_digest=mask.digest
        ),
    ):
        store.put(answer.request, fit, answer)
        assert store.get(answer.request) == answer
        text = store.answer_path(answer.request).read_text()
        assert ('"mask": "' in text) == ('"settled"' in text) == (answer.mask is not None)


@pytest.mark.parametrize(
    "further", [{}, {"search_steps": 40}, {"rewind_to": 20, "draws": 2}, {"controls": ("inverted",)}]
)
def test_a_preview_counts_what_is_run(further: dict[str, Any], tmp_path: Path) -> None:
    experiment = ready(**further)
    foretold = preview(experiment, None)
    watcher = Counting()
    results = run_experiment(experiment, Store(tmp_path), watcher=watcher)
    assert results.failures == ()
    fits = [job.request for job in watcher.jobs if isinstance(job.request, Fit)]
    assert (foretold.fits, foretold.steps) == (len(fits), sum(fit.last - fit.first for fit in fits))
    again = preview(experiment, Store(tmp_path))
    assert (again.fits, again.stored) == (foretold.fits, foretold.fits)
    reported = sum(map(len, results.document["arms"].values()))
    assert sum(foretold.levels.values()) == reported
    fit = next(fit for fit in fits if fit.dynamics is not None)
    assert fit.last == further.get("search_steps", 60) and fit.settled == (30 if "search_steps" in further else 40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schedule": "geometric"},
            r"gradual prunes while it trains, and the schedule geometric goes by level; .* cubic:final=0\.05,every=50",
        ),
        ({"schedule": "cubic:final=0.2"}, "the schedule cubic:final=0.2 goes by level"),
        (
            {"search": "imp"},
            "goes by training step, and the search imp by level; use --search gradual, or leave every, begin and",
        ),
        ({"search": "oneshot", "schedule": "linear:final=0.2,every=10"}, "the search oneshot by level"),
        ({"score_at": "end"}, "not at score_at end; leave score_at at auto"),
        ({"schedule": "cubic:final=0.2,every=50"}, "prunes every 50 steps from 0 to 45, in a training of 60"),
        ({"schedule": "cubic:final=0.2,every=10,end=61"}, "to 61, in a training of 60"),
        ({"search_steps": 12}, "in a training of 12"),
        ({"schedule": "cubic:final=0.001,every=10"}, "name a higher density in the schedule"),
        ({"schedule": "cubic:final=0.2,every=x"}, "every is 'x'; expected a whole number"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_training(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ready(**changes)


def test_the_native_engine_declines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tombola.native.why_not", lambda *given: None)
    with pytest.raises(UsageError, match=r"prunes while it trains\. Use --engine auto"):
        prepare(tiny_recipe(**CHOSEN), data=tiny_data(), engine="native")
    task = prepare(tiny_recipe(), data=tiny_data(), engine="native").task
    fit = Fit(start=Init(seed=0), mask=None, last=9, order=1, noise=1, dynamics=dynamics(keeps=((3, 50),)))
    with pytest.raises(UsageError, match="it prunes while it trains"):
        task.fit(fit, dict(task.build(0).state_dict()), events=Recorder())
    task = prepare(tiny_recipe(), data=tiny_data()).task
    measured = task.fit(fit, dict(task.build(0).state_dict()), events=Recorder())
    assert measured.provenance == {"engine": "torch", "not_native": "it prunes while it trains"}


def test_a_pruned_training_does_not_look_at_the_reset() -> None:
    """What becomes of survivors is asked after it, so that experiments share it."""
    plans = [ready(reset=reset).plans[0] for reset in ("rewind", "fine-tune")]
    assert isinstance(plans[1].reset, FineTune) and plans[0].cuts == plans[1].cuts
