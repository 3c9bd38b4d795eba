"""The native engine against the reference loop: the same requests give the same numbers, to rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import random_mask
from torch import nn

from tombola.compiled import VARIANTS, Compiled, load, runs
from tombola.data import from_arrays
from tombola.data.dataset import Dataset
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.models.net import Net
from tombola.native import Native, why_not
from tombola.pruning import prune
from tombola.requests import Fit
from tombola.starts import Init, Moment
from tombola.streams import stream
from tombola.supervised import Supervised
from tombola.training.checkpoint import Checkpoint
from tombola.training.enforce import apply_mask
from tombola.training.loop import Measured, Stopped, silent, train
from tombola.training.optimizers import LrSchedule, Optimizer
from tombola.training.reference import Reference
from tombola.training.sets import prepare
from tombola.training.settings import Training
from tombola.training.state import State, state_of

HERE = [load(variant) for variant in VARIANTS if runs(variant)]
STEPS = 50


@pytest.fixture(params=HERE, ids=lambda compiled: compiled.name)
def library(request: pytest.FixtureRequest) -> Compiled:
    """Each variant that this processor runs."""
    found: Compiled = request.param
    return found


def images(n: int = 700, features: int = 83, classes: int = 5, *, kind: str = "bytes") -> Dataset:
    """Learnable noise, mostly 0: each class has a template."""
    noise = stream(0, f"test/native/{kind}")
    y = torch.randint(0, classes, (n,), generator=noise)
    template = torch.randint(0, 256, (classes, features), generator=noise) * (
        torch.rand(classes, features, generator=noise) < 0.3
    )
    ink = torch.rand(n, features, generator=noise) < 0.8
    x = (template[y] * ink).to(torch.uint8)
    if kind == "numbers":
        x = x.to(torch.float32).sub(20).div(64)
    if kind == "channels":
        x = torch.cat([x[:, :81].view(n, 3, 27)], 1)
    if kind == "targets":
        targets = torch.randn(n, classes, generator=noise)
        return from_arrays("targets", x[100:], targets[100:], x[:100], targets[:100])
    return from_arrays(kind, x[100:], y[100:], x[:100], y[:100], classes=classes)


def trained(
    engine: Any, data: Dataset, training: Training, *, density: float = 1.0, first: int = 0, **net: Any
) -> tuple[Measured, State, silent]:
    features = data.x_train[0].numel()
    outputs = data.classes or data.y_train.shape[1]
    model = mlp((features, 33, 12, outputs), seed=1, **net)
    dense = Mask.dense(model)
    mask = None if density == 1 else prune(model, dense, density=density, criterion="random")
    if mask is not None:
        apply_mask(model, mask)
    sets = prepare(data, training, torch.device("cpu"))
    keep = (first, first + 7, Moment.EARLY_STOP)
    fit = Fit(start=Init(seed=1), mask=mask, first=first, last=first + STEPS, order=2, noise=3, keep=keep)
    events = silent()
    measured = train(model, fit, sets=sets, training=training, prunable=dense, events=events, engine=engine)
    return measured, state_of(model), events


def by(library: Compiled) -> Any:
    """The native engine on this library."""
    return lambda *given: Native(*given, library=library)


ADAM = Training(steps=STEPS, batch_size=60, eval_every=20, normalise="unit", validation=50)
SETTINGS: dict[str, tuple[Training, dict[str, Any]]] = {
    "adam": (ADAM, {}),
    "batch 1": (replace(ADAM, batch_size=1), {}),
    "batch 64": (replace(ADAM, batch_size=64), {}),
    "batch 65": (replace(ADAM, batch_size=65), {}),
    "more than the set": (replace(ADAM, batch_size=600), {}),
    "clipped": (replace(ADAM, clip_norm=0.1, l2=1e-3), {}),
    "smoothed": (replace(ADAM, label_smoothing=0.1, l2=1e-3), {}),
    "squared": (replace(ADAM, loss="mean-squared-error"), {}),
    "standard": (replace(ADAM, normalise="standard"), {}),
    "tanh": (ADAM, {"activation": "tanh"}),
    "identity": (ADAM, {"activation": "identity"}),
    "dropout": (ADAM, {"dropout": 0.4}),
    "dropout behind tanh": (replace(ADAM, batch_size=100), {"dropout": 0.4, "activation": "tanh"}),
    "adamw": (replace(ADAM, optimizer=Optimizer(name="adamw", lr=3e-3, weight_decay=0.1)), {}),
    "adam with decay": (replace(ADAM, optimizer=Optimizer(weight_decay=0.01)), {}),
    "sgd": (replace(ADAM, optimizer=Optimizer(name="sgd", lr=0.1)), {}),
    "nesterov, cosine": (
        replace(
            ADAM,
            optimizer=Optimizer(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
            schedule=LrSchedule(name="cosine", warmup=5),
        ),
        {},
    ),
    "steps": (replace(ADAM, schedule=LrSchedule(name="step", milestones=(10, 30))), {}),
}


def distance(one: State, two: State) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.parametrize("density", [1.0, 0.5, 0.05])
@pytest.mark.parametrize("named", SETTINGS)
def test_both_engines_agree(named: str, density: float, library: Compiled) -> None:
    training, net = SETTINGS[named]
    data = images()
    reference, weights, events = trained(Reference, data, training, density=density, **net)
    native, ours, own = trained(by(library), data, training, density=density, **net)
    assert distance(weights, ours) < (1e-5 if density <= 0.6 else 5e-5)
    assert own.states.keys() == events.states.keys()
    for step, state in events.states.items():
        assert distance(state, own.states[step]) < 5e-5
    for one, two in zip(reference.points, native.points, strict=True):
        assert one.step == two.step
        assert two.train_loss == pytest.approx(one.train_loss, abs=1e-5)
        assert two.validation_loss == pytest.approx(one.validation_loss, abs=1e-5)
        assert two.test_loss == pytest.approx(one.test_loss, abs=1e-5)
    assert native.train_loss == pytest.approx(reference.train_loss, abs=1e-5)
    assert native.provenance == {"engine": "native", "variant": library.name}


@pytest.mark.parametrize("kind", ["numbers", "channels", "targets"])
def test_other_inputs_and_targets(kind: str, library: Compiled) -> None:
    data = images(kind=kind)
    loss = "mean-squared-error" if kind == "targets" else "cross-entropy"
    training = replace(
        ADAM, loss=loss, normalise="standard" if kind == "channels" else "none" if kind == "numbers" else "unit"
    )
    for density in (1.0, 0.2):
        _, weights, _ = trained(Reference, data, training, density=density)
        _, ours, _ = trained(by(library), data, training, density=density)
        assert distance(weights, ours) < 5e-5


def test_what_is_pruned_stays_0_and_moves_nothing(library: Compiled) -> None:
    model = mlp((83, 33, 12, 5))
    mask = prune(model, Mask.dense(model), density=0.3)
    data, training = images(), SETTINGS["nesterov, cosine"][0]
    sets = prepare(data, training, torch.device("cpu"))
    fit = Fit(start=Init(seed=0), mask=mask, last=STEPS, order=0, noise=0)
    ends = []
    for fill in (0.0, 7.0):
        start = {name: value.clone() for name, value in model.state_dict().items()}
        for name in mask:
            start[name][~mask[name]] = fill
        given = mlp((83, 33, 12, 5))
        given.load_state_dict(start)
        engine = Native(given, fit, sets, training, Mask.dense(model), library=library)
        with engine.running():
            engine.advance(0, STEPS)
            tensors, _ = engine.slots()
        for name, value in engine.state().items():
            if name in mask:
                assert not value[~mask[name]].any()
        for number, name in enumerate(dict(model.named_parameters())):
            if name in mask:
                assert not tensors[f"{number}/momentum_buffer"][~mask[name]].any()
        ends.append(engine.state())
    assert distance(*ends) == 0


def test_a_checkpoint_goes_on_bit_for_bit(library: Compiled) -> None:
    for named in ("adam", "nesterov, cosine", "dropout"):
        training, net = SETTINGS[named]
        whole, weights, _ = trained(by(library), images(), training, density=0.4, **net)

        class Interrupting(silent):
            found: Checkpoint | None = None
            asked = 0

            def checkpoint(self, checkpoint: Checkpoint) -> None:
                self.found = checkpoint

            def stopping(self) -> bool:
                self.asked += 1
                return self.asked == 3

        events = Interrupting()
        data = images()
        sets = prepare(data, training, torch.device("cpu"))
        model = mlp((83, 33, 12, 5), seed=1, **net)
        dense = Mask.dense(model)
        mask = prune(model, dense, density=0.4, criterion="random")
        apply_mask(model, mask)
        fit = Fit(start=Init(seed=1), mask=mask, last=STEPS, order=2, noise=3, keep=(0, 7, Moment.EARLY_STOP))
        common: dict[str, Any] = {"sets": sets, "training": training, "prunable": dense, "engine": by(library)}
        with pytest.raises(Stopped):
            train(model, fit, events=events, **common)
        assert events.found is not None
        again = mlp((83, 33, 12, 5), seed=5, **net)
        measured = train(again, fit, events=silent(), resume=events.found, **common)
        assert distance(weights, state_of(again)) == 0
        assert measured.points == whole.points


def test_how_many_steps_a_call_has_changes_nothing(library: Compiled) -> None:
    data, training = images(), SETTINGS["dropout"][0]
    sets = prepare(data, training, torch.device("cpu"))
    fit = Fit(start=Init(seed=0), mask=None, last=STEPS, order=0, noise=0)
    ends = []
    for stride in (1, 7, STEPS):
        model = mlp((83, 33, 12, 5), dropout=0.4)
        engine = Native(model, fit, sets, training, Mask.dense(model), library=library)
        with engine.running():
            for first in range(0, STEPS, stride):
                engine.advance(first, min(first + stride, STEPS))
        ends.append(state_of(model))
    assert distance(ends[0], ends[1]) == distance(ends[0], ends[2]) == 0


def test_a_loss_that_is_not_finite_is_seen(library: Compiled) -> None:
    data = images()
    for rate in (1e30, 1e38):
        training = replace(ADAM, optimizer=Optimizer(name="sgd", lr=rate), eval_every=5)
        measured, _, _ = trained(by(library), data, training)
        reference, _, _ = trained(Reference, data, training)
        assert measured.diverged_at == reference.diverged_at
        assert measured.diverged_at is not None


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(83, 5), nn.LeakyReLU(), nn.Linear(5, 5)), "layer '2' is a LeakyReLU"),
        (nn.Sequential(nn.Flatten(), nn.Linear(83, 5), nn.BatchNorm1d(5)), "layer '2' is a BatchNorm1d"),
        (nn.Sequential(nn.Flatten(), nn.Linear(83, 5).double()), "'1.weight' is torch.float64"),
        (nn.Sequential(nn.Flatten(), nn.Linear(83, 5).requires_grad_(False)), "frozen"),
        (nn.Sequential(nn.Flatten(), nn.Linear(83, 5), nn.ReLU()), "behind the last Linear"),
        (nn.Sequential(nn.Flatten(), nn.Linear(82, 5)), "takes 82 inputs and an example has 83"),
        (nn.Sequential(nn.Flatten(), nn.Linear(83, 4)), "has 4 outputs for targets of 5"),
        (nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(83, 5))), "parametrized"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_it_does_not_know_is_named(model: nn.Module, reason: str) -> None:
    sets = prepare(images(), ADAM, torch.device("cpu"))
    assert reason in str(why_not(model, sets, ADAM))


class Own(nn.Module):
    """A user's own module, as most people write one."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(83, 9), nn.Linear(9, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Flatten, two layers."""
        hidden = torch.relu(self.one(x.view(x.size(0), -1)))
        return self.two(hidden)  # type: ignore[no-any-return]


class Sly(Own):
    """What its layers say is not what it computes."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Around `forward`, where nobody looks."""
        return super().__call__(x) * 2  # type: ignore[no-any-return]


def test_a_module_with_its_own_forward_is_read(library: Compiled) -> None:
    torch.manual_seed(0)
    sets = prepare(images(), ADAM, torch.device("cpu"))
    model, twin = Own(), Own()
    twin.load_state_dict(model.state_dict())
    assert why_not(model, sets, ADAM) is None
    assert "its layers say" in str(why_not(Sly(), sets, ADAM))
    fit = Fit(start=Init(seed=0), mask=None, last=STEPS, order=0, noise=0)
    common: dict[str, Any] = {"sets": sets, "training": ADAM, "prunable": Mask.dense(model), "events": silent()}
    train(model, fit, **common)
    train(twin, fit, engine=by(library), **common)
    assert distance(state_of(model), state_of(twin)) < 5e-5


def test_a_hook_is_not_overlooked() -> None:
    model = Own()
    model.one.register_forward_hook(lambda module, inputs, output: output * 2)
    assert "has hooks" in str(why_not(model, prepare(images(), ADAM, torch.device("cpu")), ADAM))


@pytest.mark.parametrize("changes", [{"frozen": Init(seed=1)}, {"gather": ("movement",)}], ids=["frozen", "gathered"])
def test_what_the_kernels_do_not_do_is_left_to_the_reference_loop(changes: dict[str, Any], library: Compiled) -> None:
    task = Supervised(dataset=images(), model="mlp", net=Net(hidden=(5,)), training=ADAM)
    mask = random_mask(task.build(0), 0.5)
    fit = Fit(start=Init(seed=0), mask=mask, last=2, order=0, noise=0)
    start, events = state_of(task.build(0)), silent()
    assert task.fit(fit, start, events=events).provenance["engine"] == "native"
    found = task.fit(replace(fit, **changes), start, events=events).provenance
    assert found["engine"] == "torch"
    assert found["not_native"] in {"its pruned places stand at constants", "it gathers movement along the way"}
    sets, dense = prepare(images(), ADAM, torch.device("cpu")), Mask.dense(task.build(0))
    with pytest.raises(UsageError, match=r"The native engine cannot train this: .*\. Use --engine auto"):
        Native(task.build(0), replace(fit, **changes), sets, ADAM, dense, library=library)
