"""The reference loop: against a plain loop, its rules, its settings, and what it leaves untouched."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import Bench, Recorder, order_by_hand, random_mask, same_state, tiny_data, train_by_hand
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.answers import Curve, Point
from tombola.data import from_arrays
from tombola.errors import UsageError
from tombola.models.fully_connected import mlp
from tombola.starts import Moment
from tombola.streams import stream
from tombola.supervised import Supervised
from tombola.training.optimizers import LrSchedule, Optimizer
from tombola.training.order import Order
from tombola.training.sets import loss_of
from tombola.training.settings import Training
from tombola.training.state import state_of

Build = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, tuple[Optimizer, Build]] = {
    "sgd": (
        Optimizer(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01, fused=True),
    ),
    "adam": (
        Optimizer(lr=0.02, betas=(0.8, 0.99), eps=1e-6),
        lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.99), eps=1e-6, fused=True),
    ),
    "adamw": (
        Optimizer(name="adamw", lr=0.02, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1, fused=True),
    ),
}


def small(dtype: torch.dtype = torch.float32, *, dropout: float = 0.0) -> Callable[[], nn.Module]:
    return lambda: mlp((8, 6, 3), activation="tanh", dropout=dropout, seed=3).to(dtype)


def with_batch_norm() -> nn.Module:
    generator = stream(4, "init")
    model = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.rand(weight.shape, generator=generator) - 0.3)
    return model


def settings(**changes: object) -> Training:
    named = {"steps": 25, "batch_size": 20, "eval_every": 10, "normalise": "none", "optimizer": OPTIMIZERS["sgd"][0]}
    return Training(**{**named, **changes})


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loop_is_the_plain_one(name: str, masked: bool) -> None:
    spec, build = OPTIMIZERS[name]
    bench = Bench(with_batch_norm, settings(optimizer=spec))
    mask = random_mask(bench.fresh()) if masked else None
    measured, _, model = bench.train(bench.fit(mask=mask))
    wanted, seen = train_by_hand(bench, build, steps=25, mask=mask)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), wanted.state_dict().values(), strict=True)
    )
    rows = {point.step: point for point in measured.points}
    assert list(rows) == [0, 10, 20, 25] and measured.diverged_at is None
    assert rows[0].train_loss is None and rows[0].train_metric is None
    for before, step in ((0, 10), (10, 20), (20, 25)):
        losses, right = zip(*seen[before:step], strict=True)
        assert rows[step].train_loss == pytest.approx(sum(losses) / len(losses), rel=1e-6)
        assert rows[step].train_metric == pytest.approx(sum(right) / (20 * len(right)), rel=1e-12)
    wanted.eval()
    sets = bench.sets
    assert len(sets.validation) == 20 and len(sets.train_index) == 180 and len(sets.test) == 80
    for part, loss, metric in (
        ((sets.validation.x, sets.validation.y), rows[25].validation_loss, rows[25].validation_metric),
        ((sets.test.x, sets.test.y), rows[25].test_loss, rows[25].test_metric),
        ((sets.train.x[sets.train_index], sets.train.y[sets.train_index]), measured.train_loss, measured.train_metric),
    ):
        outputs = wanted(part[0])
        assert loss == pytest.approx(float(F.cross_entropy(outputs, part[1]).detach()), rel=1e-6)
        assert metric == pytest.approx(float((outputs.argmax(1) == part[1]).double().mean()), rel=1e-12)


def test_validation_examples_are_never_trained_on() -> None:
    bench = Bench(small(), settings())
    train, dataset = bench.sets.train_index.tolist(), tiny_data()
    held = [i for i in range(200) if any(torch.equal(dataset.x_train[i], x) for x in bench.sets.validation.x)]
    assert sorted(train + held) == list(range(200))


@pytest.mark.parametrize(
    ("first", "last", "wanted"), [(0, 25, [0, 10, 20, 25]), (5, 20, [10, 20]), (10, 11, [10, 11]), (7, 7, [7])]
)
def test_the_evaluation_grid(first: int, last: int, wanted: list[int]) -> None:
    bench = Bench(small(), settings())
    measured, events, model = bench.train(bench.fit(first=first, last=last))
    assert [p.step for p in measured.points] == wanted and list(events.states) == [last]
    assert (first == last) == same_state(state_of(model), bench.start)


def test_the_early_stop_is_the_first_smallest_after_step_0() -> None:
    def curve(*losses: float | None) -> Curve:
        return Curve(tuple(Point(step=10 * i, validation_loss=loss) for i, loss in enumerate(losses)))

    def stop(found: Curve) -> int | None:
        return found.early_stop.step if found.early_stop else None

    assert stop(curve(0.0, 0.5, 0.3, 0.3, 0.4)) == 20
    assert stop(curve(0.0, 0.0, 0.0)) == 10
    assert stop(curve(0.1, 0.5, math.nan, 0.4, math.inf)) == 30
    assert stop(curve(0.1)) is None and stop(curve()) is None and stop(curve(0.1, None)) is None
    assert stop(Curve((Point(step=30, validation_loss=0.2), Point(step=40, validation_loss=0.3)))) == 30


@pytest.mark.parametrize("lr", [0.02, 0.9])
def test_the_early_stop_state_is_that_of_its_step(lr: float) -> None:
    bench = Bench(small(), settings(steps=30, optimizer=Optimizer(lr=lr), eval_every=5))
    measured, events, _ = bench.train(bench.fit(keep=(Moment.EARLY_STOP, Moment.INIT)))
    stop = Curve(measured.points).early_stop
    assert stop is not None and (stop.step < 20) == (lr == 0.9)
    assert events.states.keys() == {0, stop.step, 30}
    assert same_state(events.states[0], bench.start)
    assert same_state(events.states[stop.step], bench.train(bench.fit(keep=(stop.step,)))[1].states[stop.step])


def test_the_same_fit_twice_is_equal_bit_for_bit_and_seeds_matter() -> None:
    bench = Bench(small(dropout=0.3), settings())
    runs = [bench.train(bench.fit(keep=(13,))) for _ in range(2)]
    assert runs[0][0].points == runs[1][0].points
    assert all(same_state(runs[0][1].states[s], runs[1][1].states[s]) for s in (13, 25))
    for change in ({"order": 6}, {"noise": 7}):
        assert not same_state(bench.train(bench.fit(**change))[1].states[25], runs[0][1].states[25])
    calm = Bench(small(), settings())
    assert same_state(calm.train(calm.fit(noise=7))[1].states[25], calm.train()[1].states[25])


@given(st.integers(1, 30), st.integers(1, 70), st.integers(0, 2**40), st.lists(st.integers(0, 12), max_size=8))
def test_the_order_is_a_permutation_an_epoch_and_a_function_of_the_step(
    n: int, batch: int, seed: int, asked: list[int]
) -> None:
    examples = torch.arange(100, 100 + n)
    wanted = order_by_hand(examples, batch, seed, 13)
    order = Order(examples, batch=batch, seed=seed)
    assert [order.batch(step).tolist() for step in [*asked, *range(13)]] == [wanted[s] for s in [*asked, *range(13)]]
    sequence = [place for places in wanted for place in places]
    epochs = [sequence[i * n : (i + 1) * n] for i in range(len(sequence) // n)]
    assert all(sorted(epoch) == examples.tolist() for epoch in epochs)
    assert n < 6 or len(epochs) < 2 or epochs[0] != epochs[1]


def test_global_state_is_as_before() -> None:
    class Drawing(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            noise = random.random() + float(np.random.rand()) + float(torch.rand(()))
            return super().forward(x) + 0.01 * noise

    network = nn.Sequential(Drawing(8, 3), nn.Dropout(0.5))
    bench = Bench(lambda: copy.deepcopy(network), settings())
    for flushed in (True, False):
        torch.set_flush_denormal(flushed)
        random.seed(1)
        np.random.seed(2)
        torch.manual_seed(3)
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
        measured, events, _ = bench.train()
        after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
        assert before[:2] == after[:2] and torch.equal(before[2], after[2])
        assert (float(torch.full((), 1e-40) * 1.0) == 0) == flushed
        again, others, _ = bench.train()
        assert measured.points == again.points and same_state(events.states[25], others.states[25])


def test_global_state_is_as_before_when_the_network_raises() -> None:
    class Raising(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            torch.rand(3)
            raise ZeroDivisionError("no")

    network = Raising(8, 3)
    bench = Bench(lambda: copy.deepcopy(network), settings())
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        bench.train()
    assert torch.equal(before, torch.get_rng_state()) and float(torch.full((), 1e-40) * 1.0) != 0


SCHEDULES: dict[str, tuple[LrSchedule, Callable[[int], float]]] = {
    "step": (LrSchedule(name="step", milestones=(5, 12), factor=0.5), lambda t: 0.5 ** ((t >= 5) + (t >= 12))),
    "warm": (LrSchedule(warmup=8), lambda t: min(1.0, (t + 1) / 8)),
    "cosine": (LrSchedule(name="cosine"), lambda t: (1 + math.cos(math.pi * t / 25)) / 2),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_goes_by_absolute_steps(name: str) -> None:
    schedule, factor = SCHEDULES[name]
    bench = Bench(small(torch.float64), settings(schedule=schedule))
    build = OPTIMIZERS["sgd"][1]
    plain, _ = train_by_hand(bench, build, steps=25, rate=lambda t: 0.05 * factor(t))
    torch.testing.assert_close(dict(bench.train()[2].state_dict()), dict(plain.state_dict()), rtol=1e-12, atol=1e-12)
    later, _ = train_by_hand(bench, build, steps=25, first=9, rate=lambda t: 0.05 * factor(t))
    _, _, model = bench.train(bench.fit(first=9))
    torch.testing.assert_close(dict(model.state_dict()), dict(later.state_dict()), rtol=1e-12, atol=1e-12)
    held, _ = train_by_hand(bench, build, steps=25, rate=lambda t: 0.05 * factor(20))
    _, _, model = bench.train(bench.fit(held_rate=20))
    torch.testing.assert_close(dict(model.state_dict()), dict(held.state_dict()), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(held.output.weight, plain.output.weight)  # type: ignore[union-attr,arg-type]


def test_l2_is_the_penalty_on_prunable_weights() -> None:
    bench = Bench(small(torch.float64), settings(l2=0.3))

    def penalty(model: nn.Module) -> Tensor:
        return 0.15 * sum(w.square().sum() for w in (model.fc1.weight, model.output.weight))  # type: ignore[union-attr,operator,return-value]

    for mask in (None, random_mask(bench.fresh())):
        wanted, _ = train_by_hand(bench, OPTIMIZERS["sgd"][1], steps=25, penalty=penalty, mask=mask)
        model = bench.train(bench.fit(mask=mask))[2]
        torch.testing.assert_close(dict(model.state_dict()), dict(wanted.state_dict()), rtol=1e-12, atol=1e-12)


def test_clipping_bounds_the_norm_over_survivors() -> None:
    """With plain SGD at rate 1 a step is the clipped gradient itself."""
    bench = Bench(small(torch.float64), settings(clip_norm=0.01, optimizer=Optimizer(name="sgd", lr=1.0)))
    mask = random_mask(bench.fresh())
    _, events, _ = bench.train(bench.fit(mask=mask, last=2, keep=(0, 1)))
    for step in (0, 1):
        moved = [events.states[step + 1][n] - events.states[step][n] for n in events.states[0]]
        assert float(torch.cat([m.flatten() for m in moved]).norm()) == pytest.approx(0.01, rel=1e-5)


def test_losses_are_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 3, 1, 1, 2, 0])
    logs = outputs - outputs.logsumexp(1, keepdim=True)
    hot = F.one_hot(y, 4).double()
    smooth = 0.8 * hot + 0.2 / 4
    for chosen, each in (
        (settings(), -(hot * logs).sum(1)),
        (settings(label_smoothing=0.2), -(smooth * logs).sum(1)),
        (settings(loss="mean-squared-error"), (outputs - hot).square().mean(1)),
    ):
        assert float(loss_of(outputs, y, chosen)) == pytest.approx(float(each.mean()), rel=1e-12)
        assert float(loss_of(outputs, y, chosen, reduction="sum")) == pytest.approx(float(each.sum()), rel=1e-12)


@pytest.mark.parametrize("shape", ["(n, 2) from 2 outputs", "(n,) from 1 output", "(n,) from none"])
def test_regression(shape: str) -> None:
    data = tiny_data(regression=True)
    outputs = 2
    if shape.startswith("(n,)"):
        y, tests = data.y_train[:, 0], data.y_test[:, 0]
        data, outputs = from_arrays("one", data.x_train, y, data.x_test, tests), 1
    build: Callable[[], nn.Module] = lambda: mlp((8, 6, outputs), seed=1)  # noqa: E731
    if shape.endswith("none"):
        build = lambda: nn.Sequential(mlp((8, 6, 1), seed=1), nn.Flatten(0))  # noqa: E731
    training = settings(loss="mean-squared-error", optimizer=Optimizer(lr=0.01), steps=60)
    bench = Bench(build, training, data)
    measured, _, model = bench.train()
    model.eval()
    error = float((model(data.x_test).view_as(data.y_test) - data.y_test).square().mean().detach())
    last = measured.points[-1]
    assert last.test_metric == last.test_loss == pytest.approx(error, rel=1e-5)
    assert measured.train_loss is not None and measured.train_loss < 0.5 * float(measured.points[0].test_loss or 0)
    task = Supervised(dataset=data, model=build, training=training)
    assert task.metric.name == "mean squared error" and not task.metric.larger_is_better
    with pytest.raises(UsageError, match="mean-squared-error"):
        Supervised(dataset=data, model=build, training=settings())


def test_a_network_that_does_not_fit_the_labels_is_refused() -> None:
    strange: list[Callable[[], nn.Module]] = [
        lambda: nn.Sequential(nn.Linear(8, 1), nn.Flatten(0)),
        lambda: nn.Linear(8, 4),
    ]
    for build in strange:
        with pytest.raises(UsageError, match="does not fit the 3 classes"):
            Supervised(dataset=tiny_data(), model=build, training=settings())
    with pytest.raises(UsageError, match="cannot read inputs of shape"):
        Supervised(dataset=tiny_data(), model=lambda: nn.Linear(7, 3), training=settings())


def test_progress_is_told_at_every_step() -> None:
    class Told(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[int] = []

        def progress(self, step: int) -> None:
            self.told.append(step)

    bench, told = Bench(small(), settings()), Told()
    bench.train(bench.fit(first=4, last=9), events=told)
    assert told.told == [5, 6, 7, 8, 9] and told.checkpoints == []
