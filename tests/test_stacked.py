"""Stacks: each lane trains as its fit does alone, whatever happens in the others; which networks stack, how many."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from helpers import Bench, Recorder, same_state, tiny_data
from stack_helpers import OPTIMIZERS, Lanes, apart, conv, images, training
from torch import Tensor, nn

from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.requests import Fit
from tombola.starts import Init, Moment
from tombola.training.lanes import stacked_masks, stacked_module
from tombola.training.loop import Measured, Stopped
from tombola.training.optimizers import LrSchedule, Optimizer
from tombola.training.stacked import Stack
from tombola.training.stacking import MOST, lanes_for, stack_key, why_not_stacked
from tombola.training.state import state_of

VARIANTS = {
    "sgd": {"optimizer": OPTIMIZERS["sgd"], "l2": 0.01, "clip_norm": 1.0},
    "adam": {"optimizer": OPTIMIZERS["adam"], "augment": "flip-crop:pad=1", "label_smoothing": 0.1},
    "adamw": {"optimizer": OPTIMIZERS["adamw"], "parts": 3, "schedule": LrSchedule(name="cosine", warmup=5)},
}


def close(a: Measured, b: Measured) -> None:
    for one, other in zip(a.points, b.points, strict=True):
        for name in ("validation_loss", "test_loss", "validation_metric", "test_metric"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-10)
        assert one.train_metric == other.train_metric
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-6)  # summed in float32
    assert a.train_loss == pytest.approx(b.train_loss, abs=1e-10) and a.train_metric == b.train_metric


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_lane_trains_as_its_fit_does_alone(variant: str, capture: bool) -> None:
    """In float64, after 30 steps, to 1e-10: weights, batch-norm buffers, kept states, curves."""
    lanes = Lanes(**VARIANTS[variant])
    found, told = lanes.stacked(width=4 if capture else None, capture=capture)
    for fit, start, measured, events in zip(lanes.fits, lanes.starts, found, told, strict=True):
        alone, kept, _ = lanes.bench.train(fit, start=start)
        assert events.states.keys() == kept.states.keys() == {7, 20, 30}
        assert max(apart(events.states[step], kept.states[step]) for step in kept.states) < 1e-10
        close(measured, alone)
        wanted = {"engine": "stacked", "stack": "4" if capture else "3"} | ({"step": "captured"} if capture else {})
        assert measured.provenance == wanted


def test_regression_and_a_held_learning_rate() -> None:
    lanes = Lanes()
    plain = Bench(
        lambda: mlp((8, 6, 2), seed=3).double(),
        training(loss="mean-squared-error", parts=2, schedule=LrSchedule(name="step", milestones=(3,))),
        tiny_data(regression=True),
    )
    lanes.bench, lanes.starts = plain, [plain.start, state_of(mlp((8, 6, 2), seed=4).double())]
    lanes.fits = [plain.fit(first=5, held_rate=2, order=n) for n in range(2)]
    found, told = lanes.stacked(lanes=[0, 1])
    for fit, start, measured, events in zip(lanes.fits, lanes.starts, found, told, strict=True):
        alone, kept, _ = plain.train(fit, start=start)
        assert apart(events.states[30], kept.states[30]) < 1e-10
        assert measured.points[-1].test_metric == pytest.approx(alone.points[-1].test_metric, abs=1e-10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_off_mask_weights_gradients_and_optimizer_state_are_exactly_0(name: str) -> None:
    lanes = Lanes(optimizer=OPTIMIZERS[name], l2=0.01, clip_norm=0.5)
    model = lanes.bench.fresh()
    sets, dense = lanes.bench.sets, Mask.dense(model)
    stack = Stack(model, lanes.fits, lanes.starts, sets, lanes.bench.training, dense, width=5)
    with stack.running():
        for step in range(4):
            stack.advance(step, step + 1)
            for lane, fit in enumerate(lanes.fits[:2]):
                for weight_name, kept in (fit.mask or {}).items():
                    weight = stack.weights[weight_name]
                    assert weight.grad is not None and weight.grad[lane][kept].any()
                    slots = [v for v in stack.optimizer.state[weight].values() if v.shape == weight.shape]
                    assert len(slots) == (1 if name == "sgd" else 2)
                    for values in (weight.detach(), weight.grad, *slots):
                        assert not values[lane][~kept].view(torch.int64).any()
    dense_lane = stack.weights["6.weight"].detach()[2]
    assert dense_lane.all() and torch.equal(stack.weights["6.weight"][0], stack.weights["6.weight"][4])


def test_a_lane_that_diverges_harms_no_other() -> None:
    lanes = Lanes(optimizer=Optimizer(name="sgd", lr=0.05))
    lanes.starts[1] = {n: v * 1e80 if n == "6.weight" else v for n, v in lanes.starts[1].items()}
    found, told = lanes.stacked()
    alone, kept, _ = lanes.bench.train(lanes.fits[1], start=lanes.starts[1])
    assert alone.diverged_at is not None and alone.diverged_at > 0
    assert found[1].diverged_at == alone.diverged_at and told[1].states.keys() == kept.states.keys()
    assert found[1].train_loss is None
    for lane in (0, 2):
        single, states, _ = lanes.bench.train(lanes.fits[lane], start=lanes.starts[lane])
        close(found[lane], single)
        assert apart(told[lane].states[30], states.states[30]) < 1e-10
    lanes.starts = [lanes.starts[1]] * 3
    assert all(
        measured.diverged_at is not None for measured in lanes.stacked()[0]
    )  # then there is nothing to go on with


@pytest.mark.parametrize("capture", [False, True])
def test_a_resumed_stack_goes_on_bit_for_bit(capture: bool) -> None:
    """Float32, convolution, batch norm, dropout, augmentation; stopped where no evaluation is due."""
    lanes = Lanes(torch.float32, optimizer=OPTIMIZERS["adam"], augment="flip-crop:pad=1")
    lanes.fits = [replace(fit, keep=(*fit.keep, Moment.EARLY_STOP)) for fit in lanes.fits]
    wanted, whole = lanes.stacked(width=4, capture=capture)
    stopped = [Recorder(stop_at=13 if number == 1 else None) for number in range(3)]
    with pytest.raises(Stopped):
        lanes.stacked(stopped, width=4, capture=capture)
    checkpoints = [one.checkpoints[-1] for one in stopped]
    assert [c.step for c in checkpoints] == [13, 13, 13] and len(stopped[0].states) == 1
    found, told = lanes.stacked(width=4, capture=capture, resume=checkpoints)
    assert [m.points for m in found] == [m.points for m in wanted]
    for before, after, full in zip(stopped, told, whole, strict=True):
        assert (before.states | after.states).keys() == full.states.keys()
        assert all(same_state((before.states | after.states)[step], full.states[step]) for step in full.states)

    single, _ = lanes.stacked(lanes=[1], width=4, capture=capture, resume=checkpoints[1:2])
    assert single[0].points == wanted[1].points  # the others have ended meanwhile; the lanes are as many


def test_a_checkpoint_of_another_width_or_step_is_left_aside() -> None:
    class Told(Recorder):
        told = 0

        def anew(self) -> None:
            self.told += 1

    lanes = Lanes()
    wanted, _ = lanes.stacked()
    stopped = [Recorder(stop_at=13) for _ in range(3)]
    with pytest.raises(Stopped):
        lanes.stacked(stopped, width=4)
    checkpoints = [one.checkpoints[-1] for one in stopped]
    told = [Told() for _ in range(3)]
    assert [m.points for m in lanes.stacked(told, resume=checkpoints)[0]] == [m.points for m in wanted]
    assert [one.told for one in told] == [1, 1, 1]
    odd = [replace(checkpoints[0], step=12), *checkpoints[1:]]
    assert lanes.stacked(told, width=4, resume=odd)[0][0].points[-1].step == 30 and told[0].told == 2


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x.flatten(1))
        return found * 2 if float(found.detach().sum()) > 0 else found


class Noisy(Reads):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x.flatten(1))
        return found + torch.rand_like(found)


class Counted(Reads):
    """What it computes goes by how often Python has called it."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        found: Tensor = self.layer(x.flatten(1))
        return found if self.calls == 1 else found * 100


REASONS: dict[str, tuple[Callable[[], nn.Module], str | None]] = {
    "conv": (conv, None),
    "dropout": (lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 3)), "draws from torch's generator"),
    "no dropout": (lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(36, 3)), None),
    "reads": (Reads, "torch.func.vmap cannot run Reads"),
    "noisy": (Noisy, "torch.func.vmap cannot run Noisy"),
}


@pytest.mark.parametrize("name", REASONS)
def test_which_networks_stack(name: str) -> None:
    build, clause = REASONS[name]
    torch.manual_seed(0)
    bench = Bench(build, training(), images())
    model = bench.fresh()
    found = why_not_stacked(model, bench.sets, bench.training)
    assert (found is None) if clause is None else clause in (found or "")
    assert same_state(state_of(model), bench.start)


def test_a_network_that_trains_otherwise_when_stacked_is_found() -> None:
    torch.manual_seed(0)
    bench = Bench(Counted, training(optimizer=Optimizer(name="sgd", lr=1e-3), parts=2), images())
    stacked = bench.fresh()
    assert why_not_stacked(stacked, bench.sets, bench.training) is None  # both count to two
    stacked.calls = 1  # type: ignore[assignment]
    bench.training = training(optimizer=Optimizer(name="sgd", lr=1e-3))

    class Shared(Reads):
        seen: list[int] = []  # noqa: RUF012

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(1)
            found: Tensor = self.layer(x.flatten(1))
            return found if len(self.seen) == 1 else found * 1000

    shared = Bench(Shared, bench.training, images())
    Shared.seen.clear()
    assert "trains to another" in (why_not_stacked(shared.fresh(), shared.sets, shared.training) or "")


def test_how_many_lanes_a_device_holds() -> None:
    bench = Bench(conv, training(), images())

    def lanes(taken: int, free: int) -> int:
        ran: list[object] = []
        found = lanes_for(
            bench.fresh(), bench.sets, bench.training, measure=lambda one: (ran.append(one()), (taken, free))[1]
        )
        assert len(ran) == 1
        return found

    assert [lanes(100, 1000), lanes(100, 99), lanes(1, 10**9), lanes(0, 0)] == [8, 1, MOST, 1]

    def full(one: Callable[[], object]) -> tuple[int, int]:
        raise torch.OutOfMemoryError("no room")

    assert lanes_for(bench.fresh(), bench.sets, bench.training, measure=full) == 1


def test_which_fits_stack() -> None:
    fit = Fit(start=Init(seed=0), mask=None, first=2, last=9, order=1, noise=1)
    same = replace(fit, order=3, noise=4, start=Init(seed=7), mask=Mask.dense(conv()), keep=(4,))
    assert stack_key(fit) == stack_key(same) is not None
    for other in (replace(fit, first=1), replace(fit, last=8), replace(fit, held_rate=2)):
        assert stack_key(other) not in {stack_key(fit), None}
    mask = Mask.dense(conv())
    alone = (
        replace(fit, start=Init(seed=0, at_most=9)),
        replace(fit, gather=("movement",)),
        replace(fit, mask=mask, frozen=Init(seed=1)),
        replace(fit, first=9),
    )
    assert [stack_key(one) for one in alone] == [None] * 4


def test_a_stacked_module_keeps_ties_buffers_and_frozen_weights() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    model[1].weight = model[0].weight
    model[1].bias.requires_grad_(False)
    model.register_buffer("mark", torch.ones(2), persistent=False)
    other = {name: value + 1 for name, value in state_of(model).items()}
    made = stacked_module(model, [state_of(model), other])
    assert made[1].weight is made[0].weight and not made[1].bias.requires_grad
    assert [name for name, _ in made.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert made.state_dict().keys() == model.state_dict().keys() and made.mark.shape == (2, 2)
    assert all(torch.equal(made.state_dict()[name][1], value) for name, value in other.items())
    whole = stacked_masks([None, None], {})
    assert whole is None and not math.isnan(float(made.mark.sum()))
