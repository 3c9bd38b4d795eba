"""Convolutional networks: the native engine against the reference loop, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import random_mask
from torch import Tensor, nn
from torch.nn import functional as F

from tombola import native
from tombola.compiled import VARIANTS, Compiled, load, runs
from tombola.data import from_arrays
from tombola.data.dataset import Dataset
from tombola.masks import Mask
from tombola.models.dropout import CounterDropout
from tombola.models.net import Net
from tombola.models.registry import MODELS
from tombola.native import Native, why_not
from tombola.native.data import view
from tombola.native.fits import unwise
from tombola.native.kernels import Opened, formats_of, machine_of
from tombola.native.structure import links_of
from tombola.requests import Fit
from tombola.starts import Init
from tombola.streams import stream
from tombola.supervised import Supervised
from tombola.training.checkpoint import Checkpoint
from tombola.training.enforce import apply_mask
from tombola.training.loop import Stopped, silent, train
from tombola.training.optimizers import Optimizer
from tombola.training.reference import Reference
from tombola.training.sets import Sets, prepare
from tombola.training.settings import Training
from tombola.training.state import State, state_of

HERE = [load(variant) for variant in VARIANTS if runs(variant)]
SHAPE = (2, 9, 7)
STEPS = 12
ADAM = Training(steps=STEPS, batch_size=20, eval_every=6, normalise="unit", validation=20, optimizer=Optimizer(lr=3e-3))
SGD = Optimizer(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)


@pytest.fixture(params=HERE, ids=lambda compiled: compiled.name)
def library(request: pytest.FixtureRequest) -> Compiled:
    """Each variant that this processor runs."""
    found: Compiled = request.param
    return found


def images(kind: str = "bytes", shape: tuple[int, ...] = SHAPE) -> Dataset:
    """Noise of four grey values around a template for each class: windows hold ties."""
    noise = stream(0, f"test/images/{shape}")
    y = torch.randint(0, 3, (120,), generator=noise)
    x = (
        torch.randint(0, 3, (3, *shape), generator=noise)[y] + torch.randint(0, 2, (120, *shape), generator=noise)
    ) * 60
    x = x.to(torch.uint8) if kind == "bytes" else x.float().sub(90).div(60)
    return from_arrays(kind, x[40:], y[40:], x[:40], y[:40], classes=3)


def network(name: str = "conv-4", **options: Any) -> nn.Module:
    return MODELS[name](SHAPE, 3, Net(**{"width": 0.06, "hidden": (80,), **options}), 1)


def sets_of(data: Dataset, training: Training) -> Sets:
    return prepare(data, training, torch.device("cpu"))


def by(library: Compiled) -> Any:
    """The native engine on this library."""
    return lambda *given: Native(*given, library=library)


def trained(
    engine: Any,
    training: Training,
    data: Dataset,
    mask: Mask | None,
    *,
    events: Any = None,
    resume: Any = None,
    **net: Any,
) -> tuple[Any, State]:
    model = network(**net)
    if mask is not None:
        apply_mask(model, mask)
    fit = Fit(start=Init(seed=1), mask=mask, last=STEPS, order=2, noise=3)
    measured = train(
        model, fit, sets=sets_of(data, training), training=training, prunable=Mask.dense(model),
        events=events or silent(), resume=resume, engine=engine,
    )  # fmt: skip
    return measured, state_of(model)


def apart(one: State, two: State) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


SETTINGS: dict[str, tuple[Training, dict[str, Any]]] = {
    "adam": (ADAM, {}),
    "batch 1": (replace(ADAM, batch_size=1), {}),
    "more than a tile": (replace(ADAM, batch_size=70), {}),
    "sgd": (replace(ADAM, optimizer=SGD, l2=1e-3), {}),
    "clipped": (replace(ADAM, clip_norm=0.1, l2=1e-3), {}),
    "adamw": (replace(ADAM, optimizer=Optimizer(name="adamw", lr=3e-3, weight_decay=0.1)), {}),
    "standard": (replace(ADAM, normalise="standard"), {}),
    "dropout": (ADAM, {"dropout": 0.4}),
}


@pytest.mark.parametrize("density", [None, 0.3, 0.02])
@pytest.mark.parametrize("named", SETTINGS)
def test_both_engines_agree_on_images(named: str, density: float | None, library: Compiled) -> None:
    training, net = SETTINGS[named]
    data = images("numbers" if named == "sgd" else "bytes")
    mask = None if density is None else random_mask(network(**net), density)
    one, weights = trained(Reference, training, data, mask, **net)
    two, ours = trained(by(library), training, data, mask, **net)
    assert apart(weights, ours) < 5e-5
    for reference, found in zip(one.points, two.points, strict=True):
        assert found.train_loss == pytest.approx(reference.train_loss, abs=1e-5)
        assert found.test_loss == pytest.approx(reference.test_loss, abs=1e-5)
        assert found.test_metric == reference.test_metric
    for name in mask or ():
        assert not ours[name][~mask[name]].any()  # type: ignore[index]


def sparse(model: nn.Module, density: float, noise: torch.Generator) -> Mask:
    """A random mask under which one filter and one input channel of each convolution is empty."""
    kept = {name: torch.rand(p.shape, generator=noise) < density for name, p in model.named_parameters() if p.ndim > 1}
    for mask in kept.values():
        if mask.ndim == 4:
            mask[0], mask[:, -1] = False, False
    return Mask(kept)


DOUBLE: dict[str, tuple[tuple[int, int, int], list[tuple[int, bool]], float]] = {
    "odd sizes, a pool that leaves a row": ((3, 9, 11), [(5, False), (6, True), (4, True)], 0.5),
    "no pool": ((1, 5, 4), [(3, False), (3, False)], 1.0),
    "one pixel is left": ((2, 3, 2), [(4, True)], 0.8),
    "larger than a block": ((2, 17, 13), [(9, True), (7, False)], 0.2),
}


@pytest.mark.parametrize("named", DOUBLE)
def test_convolutions_in_double_are_exact(named: str) -> None:
    shape, convolutions, density = DOUBLE[named]
    noise = stream(1, f"test/double/{named}")
    layers: list[nn.Module] = []
    channels, height, width = shape
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for outputs, pool in convolutions:
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]
            channels, height, width = outputs, height // (1 + pool), width // (1 + pool)
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, 4))
    mask = sparse(model, density, noise)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((p * 8).round() / 8)  # coarse weights over few grey values: windows hold equal positive values
    apply_mask(model, mask)
    links = links_of(model, shape)
    model.double()
    x = torch.randint(0, 4, (30, *shape), generator=noise).to(torch.uint8)
    y = torch.randint(0, 4, (30,), generator=noise)
    alive = {name: kept.contiguous() for name, kept in mask.sparse().items()}
    library = load("float64")
    options = {"kind": 0, "scale": 0.25, "shift": -0.25, "momentum": 0.9}
    opened = Opened(
        library, links, alive, order=np.arange(x[0].numel(), dtype=np.int32),
        formats=formats_of(links, alive, machine_of(library), ink=None), options=options,
    )  # fmt: skip
    opened.layout.pack(dict(model.state_dict()), opened.param)
    given = view({"bytes": x.flatten(1).numpy(), "labels": y.int().numpy()}, count=30, features=x[0].numel())
    opened.train(given.structure, torch.arange(30).repeat(4).int().numpy(), np.full(4, 0.05), 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(model(x.double() / 4 - 0.25), y).backward()
        for name, p in model.named_parameters():
            if name in mask and p.grad is not None:
                p.grad *= mask[name]
        optimizer.step()
    for name, value in opened.layout.unpack(opened.param).items():
        assert float((value - model.state_dict()[name]).abs().max()) < 1e-10, name


@pytest.mark.parametrize("value", [1.0, 5.0])
def test_of_equal_pixels_the_first_gets_the_gradient(value: float, library: Compiled) -> None:
    """All pixels are equal, so every window is a tie: the gradient by the first tap tells which pixel won."""
    x = torch.full((4, 1, 4, 4), value)
    x[:, :, ::2, 1::2] = 0  # the upper right pixel of each window differs; its left neighbour is first
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(1.0)
        model[4].weight.copy_(torch.arange(12).view(3, 4) / 12)
    data = from_arrays("ties", x, torch.tensor([0, 1, 2, 0]), x, torch.tensor([0, 1, 2, 0]), classes=3)
    training = replace(
        ADAM, steps=1, batch_size=3, validation=1, normalise="none", optimizer=Optimizer(name="sgd", lr=1.0)
    )
    ends = []
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for engine in (Reference, by(library)):
        model.load_state_dict(start)
        fit = Fit(start=Init(seed=0), mask=None, last=1, order=0, noise=0)
        train(model, fit, sets=sets_of(data, training), training=training, prunable=Mask.dense(model),
              events=silent(), engine=engine)  # fmt: skip
        ends.append(state_of(model))
    assert apart(*ends) < 1e-5
    assert float((ends[0]["0.weight"] - start["0.weight"]).abs().max()) > 1e-3


class Interrupting(silent):
    """Stops at the second look, with the last checkpoint at hand."""

    found: Checkpoint | None = None
    asked = 0

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self.found = checkpoint

    def stopping(self) -> bool:
        self.asked += 1
        return self.asked == 2


def test_a_checkpoint_of_convolutions_goes_on_bit_for_bit(library: Compiled) -> None:
    mask, events = random_mask(network(), 0.4), Interrupting()
    whole, weights = trained(by(library), ADAM, images(), mask)
    with pytest.raises(Stopped):
        trained(by(library), ADAM, images(), mask, events=events)
    assert events.found is not None
    again, ours = trained(by(library), ADAM, images(), mask, resume=events.found)
    assert apart(weights, ours) == 0
    assert again.points == whole.points


def test_a_nan_passes_pools_and_relus(library: Compiled) -> None:
    training = replace(ADAM, optimizer=Optimizer(name="sgd", lr=1e30), eval_every=3)
    found, _ = trained(by(library), training, images(), None)
    assert found.diverged_at == trained(Reference, training, images(), None)[0].diverged_at is not None


class Own(nn.Module):
    """Convolutions as most people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 4, 3, padding="same"), nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Pool, flatten, one layer."""
        x = F.max_pool2d(F.relu(self.one(x)), 2)
        return self.two(torch.flatten(x, 1))  # type: ignore[no-any-return]


def test_a_convolution_in_a_forward_of_its_own_is_read() -> None:
    torch.manual_seed(0)
    assert why_not(Own(), sets_of(images(), ADAM), ADAM) is None
    assert links_of(Own(), SHAPE)[0].behind == (4, 4, 3)


def behind(*layers: nn.Module, inputs: int = 4 * 63) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *layers, nn.Flatten(), nn.Linear(inputs, 3))


def first(**options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 4, **{"kernel_size": 3, "padding": 1, **options}), nn.Flatten(), nn.Linear(9, 3))


REFUSED: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: first(kernel_size=5), r"layer '0' (Conv2d) has kernel_size=(5, 5), not (3, 3)"),
    (lambda: first(stride=2), "layer '0' (Conv2d) has stride=(2, 2)"),
    (lambda: first(padding=0), "layer '0' (Conv2d) has padding=(0, 0)"),
    (lambda: first(dilation=2), "layer '0' (Conv2d) has dilation=(2, 2)"),
    (lambda: first(groups=2), "layer '0' (Conv2d) has groups=2, not 1"),
    (lambda: first(padding_mode="circular"), "layer '0' (Conv2d) has padding_mode='circular'"),
    (lambda: behind(nn.AvgPool2d(2)), "layer '1' is a AvgPool2d"),
    (lambda: behind(nn.BatchNorm2d(4)), "layer '1' is a BatchNorm2d"),
    (lambda: behind(nn.MaxPool2d(3)), "layer '1' (MaxPool2d) has kernel_size=3, not 2"),
    (lambda: behind(nn.MaxPool2d(2, stride=1)), "layer '1' (MaxPool2d) has stride=1"),
    (lambda: behind(nn.MaxPool2d(2, ceil_mode=True)), "layer '1' (MaxPool2d) has ceil_mode=True"),
    (lambda: behind(nn.MaxPool2d(2), nn.MaxPool2d(2)), "layer '2' (MaxPool2d) does not stand behind a convolution"),
    (lambda: behind(nn.MaxPool2d(2), nn.ReLU()), "is not ReLU right behind it"),
    (lambda: behind(nn.Tanh()), "is not ReLU right behind it"),
    (lambda: behind(CounterDropout(0.5)), "a dropout stands behind a convolution"),
    (lambda: behind(inputs=5), "'2.weight' takes 5 inputs of 252"),
    (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Linear(7, 3)), "reads images that are not flattened"),
    (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(9, 3)), "shape (2, 9, 7)"),
    (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten()), "it has no Linear layer"),
    (lambda: nn.Sequential(nn.Flatten(), nn.Linear(126, 9), nn.Conv2d(2, 4, 3, padding=1)), "does not read images"),
]


@pytest.mark.parametrize(("model", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_it_does_not_know_of_images_is_named(model: Callable[[], nn.Module], reason: str) -> None:
    assert reason in str(why_not(model(), sets_of(images(), ADAM), ADAM))


def test_auto_takes_the_kernels_where_a_ladder_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    for variant in VARIANTS:
        monkeypatch.setattr("tombola.native.fits.compiled", lambda name=variant: Compiled(name=name, library=None))  # type: ignore[arg-type]
        assert (unwise(network()) is None) == (variant != "generic")
        assert unwise(nn.Linear(3, 2)) is None
    monkeypatch.undo()
    monkeypatch.setattr("tombola.native.fits.unwise", lambda model: "it is slower")
    made = {"dataset": images(), "model": "conv-2", "net": Net(width=0.06, hidden=(8,)), "training": ADAM}
    found = {engine: Supervised(**made, engine=engine).not_native for engine in ("auto", "native", "torch")}  # type: ignore[arg-type]
    assert found == {"auto": "it is slower", "native": None, "torch": "torch was asked for"}


@pytest.mark.parametrize("count", [0, 1, 70])
def test_a_compiled_convolution_computes_what_the_module_does(count: int) -> None:
    model = network()
    mask = random_mask(model, 0.3)
    run = native.compile(model, mask, scale=0.25, shift=-0.5, shape=SHAPE)
    assert run.engine == "native"
    x = torch.randint(0, 4, (count, *SHAPE), generator=stream(count, "test/compiled"))
    apply_mask(model, mask)
    with torch.no_grad():
        for given in (x.to(torch.uint8), x.float()):
            seen = x.float() / 4 - 0.5 if given.dtype == torch.uint8 else given
            assert torch.allclose(run(given), model(seen), atol=1e-5)
    assert "whose size is not known" in str(native.compile(model, mask).reason)
