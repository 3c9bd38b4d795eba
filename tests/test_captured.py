"""Recorded steps: the static buffers give the eager step's bits; what cannot be recorded goes on without a loss."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import Recorder, same_state, tiny_data
from stack_helpers import OPTIMIZERS, Lanes
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import Fit, Gradual
from tombola.starts import Init
from tombola.streams import key, uniform
from tombola.supervised import Supervised
from tombola.training import captured, stacked
from tombola.training.capture import Keys, Replayed
from tombola.training.captured import Captured, not_captured
from tombola.training.determinism import deterministic
from tombola.training.loop import Stopped, silent
from tombola.training.optimizers import LrSchedule
from tombola.training.reference import Reference
from tombola.training.settings import Training
from tombola.training.stacked import Stack
from tombola.training.state import state_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_static_buffers_give_the_bits_of_the_eager_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a recorder that stands in for a CUDA graph: from the fourth step on, only the recording is called."""
    recorded: list[Callable[[], None]] = []

    def record(function: Callable[[], None]) -> Callable[[], None]:
        recorded.append(function)
        return function

    further = {"augment": "flip-crop:pad=1", "parts": 2, "l2": 0.01, "clip_norm": 0.5}
    schedule = LrSchedule(name="step", milestones=(5, 11), warmup=3)
    lanes = Lanes(torch.float32, optimizer=OPTIMIZERS[name], schedule=schedule, **further)
    plain, wanted, _ = lanes.bench.train(lanes.fits[0])
    monkeypatch.setattr(captured, "recorder", lambda device: record)
    static, found, _ = lanes.bench.train(lanes.fits[0], engine=Captured)
    assert static.points == plain.points and len(recorded) == 1
    assert all(same_state(found.states[step], wanted.states[step]) for step in wanted.states)
    assert static.provenance == {"engine": "torch", "step": "captured"}


@pytest.mark.parametrize("engine", [Reference, Captured])
def test_a_resumed_fit_goes_on_bit_for_bit(engine: type[Reference]) -> None:
    """Convolution and batch norm; stopped between two evaluations."""
    lanes = Lanes(torch.float32, optimizer=OPTIMIZERS["sgd"], augment="flip-crop:pad=1", clip_norm=0.5)
    whole, wanted, _ = lanes.bench.train(lanes.fits[0], engine=engine)
    stopped = Recorder(stop_at=13)
    with pytest.raises(Stopped):
        lanes.bench.train(lanes.fits[0], engine=engine, events=stopped)
    again, found, _ = lanes.bench.train(lanes.fits[0], engine=engine, resume=stopped.checkpoints[-1])
    assert again.points == whole.points
    assert all(same_state({**stopped.states, **found.states}[step], wanted.states[step]) for step in wanted.states)


class Watching(TorchDispatchMode):
    """Notes what a CUDA graph could not hold: numbers read back, and numbers brought from the host."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        self.seen.add(str(function))
        return function(*args, **(named or {}))


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_recorded_step_neither_reads_back_nor_brings_numbers(name: str, stacked: bool) -> None:
    further = {"augment": "flip-crop:pad=1", "parts": 2, "l2": 0.01, "clip_norm": 0.5, "normalise": "standard"}
    lanes = Lanes(torch.float32, optimizer=OPTIMIZERS[name], **further)
    model, sets, dense = lanes.bench.fresh(), lanes.bench.sets, Mask.dense(lanes.bench.fresh())
    chosen = lanes.bench.training
    single = Captured(model, lanes.fits[0], sets, chosen, dense)
    stack = Stack(model, lanes.fits, lanes.starts, sets, chosen, dense, capture=True)
    engine = stack if stacked else single
    watching = Watching()
    with engine.running():
        engine.advance(0, 3)
        with watching:
            stack._learn() if stacked else single._learn(single.index, 0)
    assert any("conv" in seen for seen in watching.seen) and any("fused" in seen for seen in watching.seen)
    forbidden = ("_local_scalar_dense", "lift_fresh", "nonzero", "is_nonzero", "equal")
    assert [seen for seen in watching.seen if seen.removeprefix("aten.").split(".")[0] in forbidden] == []


def test_a_recording_is_made_once_and_only_replayed() -> None:
    calls: list[str] = []

    def record(function: Callable[[], None]) -> Callable[[], None]:
        calls.append("record")
        return lambda: calls.append("replay")

    step = Replayed(CPU, record)
    for _ in range(6):
        step(lambda: calls.append("eager"))
    assert calls == ["eager"] * 3 + ["record"] + ["replay"] * 3


def test_what_cannot_be_recorded_goes_on_without_losing_a_step() -> None:
    total = torch.zeros(())

    def record(function: Callable[[], None]) -> Callable[[], None]:
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        finally:
            raise ValueError("the end of a recording fails too, when something in it has")

    step = Replayed(CPU, record)
    for _ in range(6):
        step(lambda: total.add_(1))
    assert float(total) == 6
    assert step.refused == "RuntimeError: operation not permitted when stream is capturing"

    def full(function: Callable[[], None]) -> Callable[[], None]:
        raise torch.OutOfMemoryError("no room")

    step = Replayed(CPU, full)
    with pytest.raises(torch.OutOfMemoryError):
        for _ in range(6):
            step(lambda: total.add_(1))


@pytest.mark.parametrize("capture", [False, True])
def test_what_a_training_held_is_free_when_it_ends(capture: bool) -> None:
    """Without the cyclic collector: on a GPU it may run too late for the next training."""
    lanes = Lanes(torch.float32, optimizer=OPTIMIZERS["adam"])
    model, sets, chosen = lanes.bench.fresh(), lanes.bench.sets, lanes.bench.training
    dense = Mask.dense(model)
    with Captured(copy.deepcopy(model), lanes.fits[0], sets, chosen, dense).running():
        gc.collect()  # what torch imports for the first optimizer of a process holds frames for once
    gc.disable()
    try:
        single = Captured(copy.deepcopy(model), lanes.fits[0], sets, chosen, dense)
        stack = Stack(copy.deepcopy(model), lanes.fits, lanes.starts, sets, chosen, dense, capture=capture)
        for engine in (single, stack):
            with engine.running():
                engine.advance(0, 5)
        held = [weakref.ref(thing) for thing in (single.optimizer, single.loss, stack.holder, stack.optimizer)]
        del single, stack, engine
        assert [thing() for thing in held] == [None] * 4
    finally:
        gc.enable()


def test_a_failed_recording_is_said_and_no_matter_for_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    def record(function: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("not permitted")

    lanes = Lanes(torch.float32)
    plain, _, _ = lanes.bench.train(lanes.fits[0])
    monkeypatch.setattr(captured, "recorder", lambda device: record)
    monkeypatch.setattr(stacked, "recorder", lambda device: record)
    stopped, told = Recorder(stop_at=13), Recorder()
    with pytest.raises(Stopped):
        lanes.bench.train(lanes.fits[0], engine=Captured, events=stopped)
    measured, _, _ = lanes.bench.train(lanes.fits[0], engine=Captured, events=told, resume=stopped.checkpoints[-1])
    assert measured.points == plain.points and 7 not in told.states  # went on, and not anew
    assert measured.provenance["not_captured"] == "RuntimeError: not permitted"


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_keys_in_a_tensor_are_the_keys(shape: tuple[int, ...]) -> None:
    keys = Keys([3, 4], ["augment", "dropout/0"], CPU)
    place = keys.values.data_ptr()
    for step in (0, 5, 2**31 + 7):
        keys.set(step)
        for row, seed in enumerate((3, 4)):
            for purpose in ("augment", "dropout/0"):
                held, wanted = keys.values[row, keys.rows[purpose]], key(seed, purpose, step)
                assert tuple(held.tolist()) == wanted
                assert torch.equal(uniform(held, shape), uniform(wanted, shape))
    assert keys.values.data_ptr() == place


def task(**changes: object) -> Supervised:
    named = {"dataset": tiny_data(), "model": "lenet-300-100", "training": Training(steps=12, batch_size=20)}
    return Supervised(**{**named, **changes})  # type: ignore[arg-type]


def test_a_task_records_where_it_can_and_says_why_not() -> None:
    def made(task: Supervised, fit: Fit) -> dict[str, str]:
        start = state_of(task.build(0))
        return dict(task.fit(fit, start, events=silent()).provenance)

    fit = Fit(start=Init(seed=0), mask=None, last=12, order=0, noise=0)
    chosen = {"engine": "torch", "not_native": "torch was asked for"}
    assert made(task(engine="torch"), fit) == chosen  # auto: a CPU records nothing
    assert made(task(engine="torch", capture="on"), fit) == {**chosen, "step": "captured"}
    gathering = made(task(engine="torch", capture="on"), replace(fit, gather=("movement",)))
    assert gathering == {**chosen, "not_captured": "it gathers movement along the way"}
    with pytest.raises(UsageError, match="capture is 'onn'; expected one of auto, on, off"):
        task(capture="onn")


def test_what_is_known_not_to_be_recorded() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    fit = Fit(start=Init(seed=0), mask=None, last=3, order=0, noise=0)
    pruner = Pruner(criterion="magnitude", allocation="global")
    moving = replace(fit, dynamics=Gradual(pruner=pruner, keeps=((1, 2),), seed=0))
    assert not_captured(model, moving) == "its mask moves"
    assert not_captured(model, fit) == "its Dropout draws from torch's generator"
    assert not_captured(nn.Linear(2, 2), fit) is None


class Puts(nn.Module):
    """Uses an operation that has no deterministic kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x.put_(torch.tensor([0]), torch.zeros(1))
        found: Tensor = self.layer(x)
        return found


def test_deterministic_kernels_alone_on_request() -> None:
    fit = Fit(start=Init(seed=0), mask=None, last=3, order=0, noise=0)
    free = task(model=Puts)
    assert free.fit(fit, state_of(free.build(0)), events=silent()).diverged_at is None
    bound = task(model=Puts, deterministic=True)
    with pytest.raises(UsageError, match=r"put_ has no deterministic kernel here.*Leave --deterministic out"):
        bound.fit(fit, state_of(bound.build(0)), events=silent())
    assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with deterministic(True):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        with pytest.raises(RuntimeError, match="another"), deterministic(True):
            raise RuntimeError("another matter")
    finally:
        torch.use_deterministic_algorithms(False)
