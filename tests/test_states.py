"""Kept states, rewinding, divergence, dropout that can be replayed, and checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
from helpers import Bench, Recorder, random_mask, same_state, train_by_hand
from test_training import OPTIMIZERS, settings, small, with_batch_norm
from torch import Tensor, nn

from tombola.answers import Curve
from tombola.errors import UsageError
from tombola.models.dropout import CounterDropout
from tombola.models.fully_connected import mlp
from tombola.starts import Moment
from tombola.store.packing import checkpoint_bytes, checkpoint_from
from tombola.streams import derive, key, uniform
from tombola.training.checkpoint import Checkpoint
from tombola.training.enforce import apply_mask, enforce
from tombola.training.loop import Stopped
from tombola.training.optimizers import LrSchedule, Optimizer
from tombola.training.settings import Training
from tombola.training.state import State, load_state, state_of


def test_after_rewinding_the_next_forward_is_that_of_the_masked_early_weights() -> None:
    """theta_k is trained anew by hand; batch-norm buffers rewind too, and no kept state moves."""
    bench, k = Bench(with_batch_norm, settings()), 7
    _, dense, _ = bench.train(bench.fit(keep=(0, k)))
    copies = {step: {n: v.clone() for n, v in state.items()} for step, state in dense.states.items()}
    theta, _ = train_by_hand(bench, OPTIMIZERS["sgd"][1], steps=k)
    assert same_state(dense.states[k], state_of(theta)) and not same_state(dense.states[k], dense.states[25])
    assert not torch.equal(dense.states[k]["1.running_mean"], dense.states[25]["1.running_mean"])
    mask = random_mask(theta)

    model = bench.fresh(dense.states[25])
    load_state(model, dense.states[k])
    with enforce(model, torch.optim.SGD(model.parameters(), lr=0.1), mask):
        found = model.eval()(bench.sets.test.x)
    wanted = bench.fresh(state_of(theta))
    with torch.no_grad():
        for name, weight in wanted.named_parameters():
            if name in mask:
                weight.copy_(torch.where(mask[name], weight, 0))
    assert torch.equal(found, wanted.eval()(bench.sets.test.x))

    _, ticket, _ = bench.train(bench.fit(mask=mask, first=k, keep=(k,)), start=dense.states[k])
    assert same_state(ticket.states[k], state_of(wanted))
    plain, _ = train_by_hand(bench, OPTIMIZERS["sgd"][1], steps=25, first=k, mask=mask, start=state_of(theta))
    assert all(torch.equal(v, ticket.states[25][n]) for n, v in plain.state_dict().items())
    assert all(same_state(dense.states[step], copies[step]) for step in copies)


def test_states_share_nothing_with_the_network() -> None:
    model = with_batch_norm()
    kept = state_of(model)
    copy = {name: value.clone() for name, value in kept.items()}
    objects = {name: id(p) for name, p in model.named_parameters()}
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(1)
    assert same_state(kept, copy)
    load_state(model, kept)
    assert same_state(state_of(model), copy) and {n: id(p) for n, p in model.named_parameters()} == objects
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(1)
    assert same_state(kept, copy)


def test_states_of_other_networks_are_refused() -> None:
    model = with_batch_norm()
    state = state_of(model)
    for strange in (
        {n: v for n, v in state.items() if n != "1.running_var"},
        state | {"more": torch.zeros(2)},
        state | {"0.weight": torch.zeros(8, 6)},
    ):
        with pytest.raises(UsageError, match="another network"):
            load_state(model, strange)
    assert same_state(state_of(model), state)

    class Noted(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"seen": 3}

        def set_extra_state(self, state: dict[str, int]) -> None:
            assert state["seen"] == 3

    with pytest.raises(UsageError, match="only tensors"):
        state_of(Noted(2, 2))


def test_the_start_state_is_not_changed_by_training() -> None:
    bench = Bench(with_batch_norm, settings())
    start = {name: value.clone() for name, value in bench.start.items()}
    bench.train(bench.fit(mask=random_mask(bench.fresh())), start=start)
    assert same_state(start, bench.start)


class Breaking(nn.Module):
    """Puts out NaN from the training step `at` on, as a user's loss may."""

    def __init__(self, at: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.at = nn.Linear(8, 3), at
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        found: Tensor = self.layer(x)
        return found * (math.nan if int(self.seen) > self.at else 1.0)


@pytest.mark.parametrize(("at", "seen", "kept"), [(14, 20, 10), (0, 10, 0), (24, 25, 20)])
def test_a_loss_that_is_not_finite_ends_the_fit_with_the_last_finite_state(at: int, seen: int, kept: int) -> None:
    bench = Bench(lambda: Breaking(at), settings())
    measured, events, _ = bench.train(bench.fit(keep=(Moment.EARLY_STOP,)))
    assert measured.diverged_at == seen and [p.step for p in measured.points][-1] == seen
    assert measured.train_loss is None and measured.train_metric is None
    assert list(events.states) == [kept] and all(bool(v.isfinite().all()) for v in events.states[kept].values())


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_learning_rate_without_sense_is_a_result(name: str, masked: bool) -> None:
    spec = Optimizer(name=name, lr=1e30)  # type: ignore[arg-type]
    build = lambda: mlp((8, 6, 3), seed=3)  # noqa: E731
    bench = Bench(build, settings(optimizer=spec, clip_norm=1.0 if masked else 0.0))
    mask = random_mask(bench.fresh()) if masked else None
    measured, events, model = bench.train(bench.fit(mask=mask))
    assert measured.diverged_at == 10 and list(events.states) == [0]
    assert all(bool(v.isfinite().all()) for v in events.states[0].values())
    for tensor in mask or ():
        assert float(model.state_dict()[tensor][~mask[tensor]].abs().max()) == 0  # type: ignore[index]


def test_a_start_that_is_not_finite_is_seen_at_once() -> None:
    bench = Bench(small(), settings())
    bad = {name: value.fill_(math.nan) for name, value in state_of(bench.fresh()).items()}
    measured, events, _ = bench.train(start=bad)
    assert measured.diverged_at == 0 and events.states == {}


def test_counter_dropout_is_its_formula_and_can_be_replayed() -> None:
    layer, x = CounterDropout(0.3), torch.randn(40, 500, generator=torch.Generator().manual_seed(0))
    layer.key = key(6, "dropout/0", 11)
    found = layer(x)
    kept = uniform(key(6, "dropout/0", 11), x.shape) >= 0.3
    assert torch.equal(found, torch.where(kept, x / 0.7, 0 * x)) or torch.allclose(found, torch.where(kept, x / 0.7, 0))
    assert torch.equal(found, layer(x))
    assert abs(float(kept.double().mean()) - 0.7) < 4 * math.sqrt(0.21 / kept.numel())
    layer.key = key(6, "dropout/0", 12)
    assert 0.5 < float(((layer(x) != 0) == kept).double().mean()) < 0.66  # two steps are independent: 0.58
    layer.eval()
    assert layer(x) is x and CounterDropout(0.0)(x) is x
    free = CounterDropout(0.5)
    torch.manual_seed(1)
    first = free(x)
    torch.manual_seed(1)
    assert torch.equal(first, free(x)) and abs(float((first != 0).double().mean()) - 0.5) < 0.02
    assert "rate=0.5" in repr(free)


def test_the_loop_sets_dropout_from_noise_layer_and_step() -> None:
    """One step of SGD at rate 1 under dropout, with the noise computed here."""
    bench = Bench(small(torch.float64, dropout=0.4), settings(optimizer=Optimizer(name="sgd", lr=1.0)))
    _, events, _ = bench.train(bench.fit(first=4, last=5))
    model = bench.fresh()
    from helpers import order_by_hand

    batch = order_by_hand(bench.sets.train_index, 20, 5, 5)[4]
    hidden = torch.tanh(model.fc1(bench.sets.train.x[batch].double()))  # type: ignore[union-attr,operator]
    noise = uniform(key(6, "dropout/0", 4), hidden.shape)
    loss = nn.functional.cross_entropy(model.output(hidden * (noise >= 0.4) / 0.6), bench.sets.train.y[batch])  # type: ignore[union-attr,operator]
    loss.backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(events.states[5][name], (weight - weight.grad).detach(), rtol=1e-12, atol=1e-12)


def users() -> nn.Module:
    """A user's network with torch's own dropout, batch norm, and a buffer that is no float."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(8, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Dropout(0.3), nn.Linear(10, 3))
    model.register_buffer("version", torch.tensor([1, 2], dtype=torch.int16))
    return model


RESUMED: dict[str, tuple[Callable[[], nn.Module], Training]] = {
    "sgd": (with_batch_norm, settings(steps=30)),
    "sgd without momentum": (small(), settings(steps=30, optimizer=Optimizer(name="sgd", lr=0.1))),
    "adam, dropout": (small(dropout=0.3), settings(steps=30, optimizer=Optimizer(lr=0.02))),
    "adamw, l2, clip": (
        users,
        settings(steps=30, optimizer=OPTIMIZERS["adamw"][0], l2=0.01, clip_norm=0.2, label_smoothing=0.1),
    ),
    "float64, cosine": (small(torch.float64), settings(steps=30, schedule=LrSchedule(name="cosine", warmup=6))),
    "far past the best": (small(), settings(steps=30, optimizer=Optimizer(lr=0.9), eval_every=5)),
}


def round_trip(checkpoint: Checkpoint) -> Checkpoint:
    """Through the bytes that a store writes."""
    data = checkpoint_bytes(checkpoint, {0: "a" * 64})
    again, states = checkpoint_from(data)
    assert states == {0: "a" * 64} and again.step == checkpoint.step and checkpoint_bytes(again, states) == data
    return again


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_training_is_the_undisturbed_one(name: str, masked: bool) -> None:
    build, training = RESUMED[name]
    bench = Bench(build, training)
    mask = random_mask(bench.fresh()) if masked else None
    fit = bench.fit(mask=mask, keep=(3, 10, Moment.EARLY_STOP))
    measured, whole, model = bench.train(fit)
    for stop in (0, 1, 5, 9, 10, 11, 20, 29):
        first = Recorder(stop_at=stop)
        with pytest.raises(Stopped):
            bench.train(fit, events=first)
        assert [c.step for c in first.checkpoints] == [stop]
        torch.manual_seed(stop)  # another process has another random state
        second = Recorder()
        again, _, resumed = bench.train(fit, events=second, resume=round_trip(first.checkpoints[0]))
        assert again.points == measured.points
        assert (again.train_loss, again.train_metric) == (measured.train_loss, measured.train_metric)
        assert same_state(state_of(resumed), state_of(model))
        states: dict[int, State] = first.states | second.states
        assert states.keys() == whole.states.keys()
        assert all(same_state(states[step], whole.states[step]) for step in states)


def test_checkpoints_on_the_way_change_nothing_and_each_can_be_resumed() -> None:
    bench = Bench(users, RESUMED["adamw, l2, clip"][1])
    fit = bench.fit(keep=(Moment.EARLY_STOP,))
    measured, whole, _ = bench.train(fit)
    events = Recorder()
    again, _, _ = bench.train(fit, events=events, checkpoint_seconds=-1.0)
    assert again.points == measured.points and same_state(events.states[30], whole.states[30])
    assert [c.step for c in events.checkpoints] == list(range(30))
    for checkpoint in events.checkpoints[::4]:
        later, found, _ = bench.train(fit, resume=round_trip(checkpoint))
        assert later.points == measured.points and same_state(found.states[30], whole.states[30])
        assert later.seconds > 0 and json.loads(checkpoint.notes)["step"] == checkpoint.step


def test_a_checkpoint_from_a_run_with_other_wishes_never_gives_a_wrong_state() -> None:
    """The best step lies before the checkpoint, whose run did not want its state: then it is missing, not another."""
    bench = Bench(*RESUMED["far past the best"])
    plain, wishing = bench.fit(), bench.fit(keep=(Moment.EARLY_STOP,))
    measured, whole, _ = bench.train(wishing)
    best = Curve(measured.points).early_stop
    assert best is not None and best.step < 20
    for stop in (3, 12, 21, 29):
        for before, after in ((plain, wishing), (wishing, plain), (wishing, wishing)):
            first, second = Recorder(stop_at=stop), Recorder()
            with pytest.raises(Stopped):
                bench.train(before, events=first)
            bench.train(after, events=second, resume=round_trip(first.checkpoints[0]))
            if best.step in second.states:
                assert after is wishing and same_state(second.states[best.step], whole.states[best.step])
            else:
                assert after is plain or (before is plain and stop >= best.step)
            assert second.states.keys() <= {best.step, 30}


def test_a_best_state_from_before_a_run_with_other_wishes_is_not_taken_for_a_later_one() -> None:
    bench = Bench(small(), settings(steps=30, optimizer=Optimizer(lr=0.9), eval_every=1))
    wishing = bench.fit(keep=(Moment.EARLY_STOP,))
    best = Curve(bench.train(wishing)[0].points).early_stop
    assert best is not None and 2 < best.step < 20
    first, second = Recorder(stop_at=2), Recorder(stop_at=best.step + 2)
    with pytest.raises(Stopped):
        bench.train(wishing, events=first)
    assert any(name.startswith("best/") for name in first.checkpoints[0].tensors)
    with pytest.raises(Stopped):
        bench.train(bench.fit(), events=second, resume=first.checkpoints[0])
    _, third, _ = bench.train(wishing, resume=second.checkpoints[0])
    assert list(third.states) == [30]


def test_a_checkpoint_holds_momentum_and_number_of_steps() -> None:
    bench = Bench(small(), settings(optimizer=Optimizer(lr=0.02)))
    events = Recorder(stop_at=7)
    with pytest.raises(Stopped):
        bench.train(events=events)
    tensors = events.checkpoints[0].tensors
    slots = {name.split("/")[-1] for name in tensors if name.startswith("optimizer/")}
    assert slots == {"exp_avg", "exp_avg_sq", "step"} and float(tensors["optimizer/0/step"]) == 7


def test_two_seeds_give_two_networks_and_one_seed_one() -> None:
    first, again, other = (state_of(mlp((8, 6, 3), seed=s)) for s in (1, 1, 2))
    assert same_state(first, again) and not torch.equal(first["fc1.weight"], other["fc1.weight"])
    assert derive(0, "init") != derive(1, "init")


def test_a_mask_is_applied_before_the_first_evaluation() -> None:
    bench = Bench(small(), settings())
    mask = random_mask(bench.fresh(), 0.2)
    measured, events, _ = bench.train(bench.fit(mask=mask, last=0))
    model = bench.fresh()
    apply_mask(model, mask)
    assert same_state(events.states[0], state_of(model))
    loss = float(nn.functional.cross_entropy(model(bench.sets.test.x), bench.sets.test.y).detach())
    assert measured.points[0].test_loss == pytest.approx(loss, rel=1e-6)
