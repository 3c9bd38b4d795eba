"""The binding of the kernels under shapes and inputs that nobody thought of: right numbers or a clear error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor, nn

from tombola import native
from tombola.compiled import load, runs
from tombola.data import Affine, from_arrays
from tombola.errors import DataError, UsageError
from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.native import Native, why_not
from tombola.native.kernels import Opened, formats_of, machine_of
from tombola.native.structure import links_of
from tombola.requests import Fit
from tombola.starts import Init
from tombola.streams import stream
from tombola.training.enforce import apply_mask
from tombola.training.loop import silent, train
from tombola.training.optimizers import Optimizer
from tombola.training.reference import Reference
from tombola.training.sets import Examples, Sets, prepare
from tombola.training.settings import Training
from tombola.training.state import state_of

BEST = load("avx512" if runs("avx512") else "avx2" if runs("avx2") else "generic")
WIDTH = some.sampled_from([1, 2, 3, 4, 7, 8, 15, 16, 17, 33])
SGD = Training(steps=3, optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9))


def sets_of(n: int, features: int, classes: int, *, empty: float = 0.7, bytes_: bool = True) -> Sets:
    noise = stream(n, f"shapes/{features}/{classes}")
    x = torch.randint(0, 256, (n, features), generator=noise) * (torch.rand(n, features, generator=noise) > empty)
    x = x.to(torch.uint8) if bytes_ else x.float().sub(9).div(255)
    y = torch.randint(0, classes, (n,), generator=noise)
    affine = Affine(scale=(1 / 255,), shift=(-0.1,)) if bytes_ else Affine(scale=(1.0,), shift=(0.0,))
    part = Examples(x=x[:1], y=y[:1])
    whole = Examples(x=x, y=y)
    return Sets(train=whole, train_index=torch.arange(n), validation=part, test=whole, affine=affine, classes=classes)


def masked(model: nn.Module, density: float, empty: int | None) -> Mask:
    noise = stream(0, "shapes/mask")
    kept = {name: torch.rand(p.shape, generator=noise) < density for name, p in model.named_parameters() if p.ndim == 2}
    if empty is not None:
        kept[list(kept)[empty % len(kept)]][:] = False
    return Mask(kept)


@settings(max_examples=60, deadline=None)
@given(
    widths=some.lists(WIDTH, min_size=2, max_size=4),
    n=some.sampled_from([1, 2, 5, 63, 64, 65, 130]),
    batch=some.sampled_from([1, 3, 64, 65, 200]),
    density=some.sampled_from([0.0, 0.02, 0.3, 0.7, 1.0]),
    empty=some.none() | some.integers(0, 3),
    inked=some.sampled_from([0.0, 0.5, 1.0]),
    bytes_=some.booleans(),
)
def test_any_shape_trains_as_the_reference_does(
    widths: list[int], n: int, batch: int, density: float, empty: int | None, inked: float, bytes_: bool
) -> None:
    sets = sets_of(n, widths[0], widths[-1], empty=1 - inked, bytes_=bytes_)
    training = replace(SGD, batch_size=batch)
    mask = masked(mlp(widths), density, empty)
    ends = []
    for engine in (Reference, lambda *given: Native(*given, library=BEST)):
        model = mlp(widths, activation="tanh")
        apply_mask(model, mask)
        fit = Fit(start=Init(seed=0), mask=mask, last=3, order=0, noise=0)
        common: dict[str, Any] = {"sets": sets, "training": training, "prunable": mask, "events": silent()}
        measured = train(model, fit, engine=engine, **common)
        ends.append((state_of(model), measured))
    for name, value in ends[0][0].items():
        assert torch.allclose(value, ends[1][0][name], atol=2e-6), name
    for one, two in zip(ends[0][1].points, ends[1][1].points, strict=True):
        assert two.test_loss == pytest.approx(one.test_loss, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    widths=some.lists(WIDTH, min_size=2, max_size=4),
    n=some.sampled_from([0, 1, 8, 9, 63, 64, 65, 300]),
    density=some.sampled_from([0.0, 0.1, 1.0]),
    kind=some.sampled_from([torch.uint8, torch.float32, torch.float64, torch.float16]),
    strided=some.booleans(),
)
def test_a_compiled_network_computes_what_the_module_does(
    widths: list[int], n: int, density: float, kind: torch.dtype, strided: bool
) -> None:
    model = mlp(widths)
    mask = masked(model, density, None)
    run = native.compile(model, mask, scale=1 / 255, shift=-0.2)
    assert run.engine == "native"
    x = torch.randint(0, 3, (n, widths[0] * (2 if strided else 1)), generator=stream(n, "x")).to(kind)
    x = x[:, ::2] if strided else x
    apply_mask(model, mask)
    seen = x.float() / 255 - 0.2 if kind == torch.uint8 else x.float()
    with torch.no_grad():
        assert torch.allclose(run(x), model(seen), atol=1e-5)


def test_a_compiled_network_is_a_copy() -> None:
    model = mlp((6, 5, 3))
    run, x = native.compile(model), torch.ones(2, 6)
    before = run(x)
    with torch.no_grad():
        model[1].weight.zero_()
    assert torch.equal(run(x), before)
    assert run(x).requires_grad is False


def test_layers_that_share_weights_run_in_torch() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    model[4].weight = model[2].weight
    run = native.compile(model, None)
    assert run.engine == "torch"
    assert "the layers '2' and '4' share weights" in str(run.reason)


class Spare(nn.Sequential):
    """Has a layer that its forward leaves out."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 5), nn.Linear(5, 3))
        self.spare = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self[1](self[0](x))
        return found


def test_a_network_with_a_layer_that_is_not_used_runs_in_torch() -> None:
    run = native.compile(Spare(), None)
    assert run.engine == "torch"
    assert "does not read 'spare.weight'" in str(run.reason)


def test_one_number_is_a_target() -> None:
    x, y = torch.randn(60, 6), torch.randn(60)
    training = replace(SGD, loss="mean-squared-error")
    data = from_arrays("numbers", x[20:], y[20:], x[:20], y[:20])
    assert why_not(mlp((6, 3, 1)), prepare(data, training, torch.device("cpu")), training) is None


def test_networks_of_another_kind_run_in_torch() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3))
    mask = masked(model, 0.5, None)
    run = native.compile(model, mask, scale=0.5)
    assert run.engine == "torch"
    assert "GELU" in str(run.reason)
    assert "GELU" in repr(run)
    apply_mask(model, mask)
    x = torch.arange(12, dtype=torch.uint8).view(2, 6)
    with torch.no_grad():
        assert torch.equal(run(x), model(x.float() * 0.5))


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.zeros(3, 5), "(3, 5)"),
        (torch.zeros(()), "expected n examples of 6 numbers"),
        (torch.zeros(3, 6, dtype=torch.int64), "torch.int64"),
        (torch.zeros(3, 6, dtype=torch.bool), "torch.bool"),
    ],
)
def test_inputs_of_another_kind_are_refused(x: Tensor, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(").replace(")", r"\)")):
        native.compile(mlp((6, 3)))(x)


def test_a_mask_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError):
        native.compile(mlp((6, 3)), Mask({"elsewhere": torch.ones(2, 2, dtype=torch.bool)}))


def test_labels_that_are_no_class_are_refused() -> None:
    sets = sets_of(9, 6, 3)
    wrong = replace(sets, train=replace(sets.train, y=sets.train.y.clone().fill_(3)))
    with pytest.raises(DataError, match="run from 3 to 3; expected 0 to 2"):
        why_not(mlp((6, 3)), wrong, SGD)
    held = replace(sets, test=replace(sets.test, y=torch.full((9,), -100)))
    fit = Fit(start=Init(seed=0), mask=None, last=1, order=0, noise=0)
    with pytest.raises(DataError, match="-100"):
        train(
            mlp((6, 3)), fit, sets=held, training=SGD, prunable=Mask.dense(mlp((6, 3))), events=silent(), engine=Native
        )


def test_a_mask_over_biases_is_refused() -> None:
    mask = Mask({"output.bias": torch.tensor([True, False, True])})
    fit = Fit(start=Init(seed=0), mask=mask, last=1, order=0, noise=0)
    with pytest.raises(UsageError, match=r"output\.bias"):
        Native(mlp((6, 3)), fit, sets_of(9, 6, 3), SGD, mask)


def test_kernels_in_double_are_exact() -> None:
    double = load("float64")
    machine = machine_of(double)
    sets = sets_of(100, 83, 5)
    from tombola.native.data import source_of

    source = source_of(sets)
    index = torch.arange(100).repeat(3)[: 50 * 6]
    for first in ("csr", "blocks", "ink"):
        model = mlp((83, 32, 12, 5)).double()
        mask = masked(model, 0.6, None)
        apply_mask(model, mask)
        links = links_of(mlp((83, 32, 12, 5)))
        alive = {name: kept.contiguous() for name, kept in mask.sparse().items()}
        options: dict[str, float] = {
            "kind": 1,
            "beta1": 0.9,
            "beta2": 0.999,
            "eps": 1e-8,
            "scale": 1 / 255,
            "shift": -0.1,
        }
        formats = (first, *formats_of(links, alive, machine, ink=None)[1:])
        opened = Opened(double, links, alive, order=source.order, formats=formats, options=options)  # type: ignore[arg-type]
        opened.layout.pack(dict(model.state_dict()), opened.param)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for batch in index.split(6):
            x = sets.train.x[batch].double() / 255 - 0.1
            loss = nn.functional.cross_entropy(model(x), sets.train.y[batch])
            optimizer.zero_grad()
            loss.backward()
            for name, p in model.named_parameters():
                if name in mask and p.grad is not None:
                    p.grad *= mask[name]
            optimizer.step()
        opened.train(source.examples(sets.train, opened), source.index(index), np.full(50, 1e-3), 0)
        for name, value in opened.layout.unpack(opened.param).items():
            assert float((value - model.state_dict()[name]).abs().max()) < 1e-10, (first, name)


def test_without_compiled_kernels_networks_run_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tombola.native.inference.compiled", lambda: None)
    monkeypatch.setattr("tombola.native.inference.absent", lambda: "the compiled kernels are not built")
    model = mlp((6, 5, 3))
    run, x = native.compile(model), torch.ones(2, 6)
    assert (run.engine, run.reason) == ("torch", "the compiled kernels are not built")
    with torch.no_grad():
        assert torch.equal(run(x), model(x))
