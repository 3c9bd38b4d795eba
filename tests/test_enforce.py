"""Under `enforce` a pruned weight does not exist: against a functional reference, for every optimizer."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from helpers import random_mask
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tombola.masks import Mask
from tombola.training.enforce import apply_mask, enforce

Parameters = list[nn.Parameter]
Build = Callable[[Parameters], torch.optim.Optimizer]


def variants() -> dict[str, Build]:
    """Every optimizer in every form that torch has of it."""
    optim = torch.optim
    kinds: dict[str, tuple[type[torch.optim.Optimizer], dict[str, object]]] = {
        "sgd": (optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        "adam": (optim.Adam, {"lr": 0.02}),
        "adam+l2": (optim.Adam, {"lr": 0.02, "weight_decay": 0.05}),
        "adam-amsgrad": (optim.Adam, {"lr": 0.02, "amsgrad": True}),
        "adamw": (optim.AdamW, {"lr": 0.02, "weight_decay": 0.1}),
        "rmsprop": (optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
    }
    forms: dict[str, dict[str, object]] = {"plain": {"foreach": False}, "foreach": {"foreach": True}}
    found: dict[str, Build] = {}
    for name, (kind, settings) in kinds.items():
        for form, how in (forms if name == "rmsprop" else forms | {"fused": {"fused": True}}).items():
            found[f"{name}-{form}"] = lambda p, k=kind, s={**settings, **how}: k(p, **s)
    return found


VARIANTS = variants()


def network(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5), nn.Tanh())
    return nn.Sequential(*layers, nn.Linear(5, 3)).to(dtype)


def batches(steps: int, dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(9)
    return [
        (torch.randn(6, 1, 4, 4, generator=generator).to(dtype), torch.randint(3, (6,), generator=generator))
        for _ in range(steps)
    ]


def off_mask(model: nn.Module, mask: Mask, of: Callable[[nn.Parameter], list[Tensor]]) -> float:
    """Largest magnitude at pruned places of what `of` gives for each masked weight; NaN counts as infinite."""
    named, largest = dict(model.named_parameters()), 0.0
    for name in mask:
        for value in of(named[name]):
            gone = value.detach()[~mask[name]].abs().double().nan_to_num(nan=float("inf"))
            largest = max(largest, float(gone.max()) if gone.numel() else 0.0)
    return largest


def weights(parameter: nn.Parameter) -> list[Tensor]:
    return [parameter]


def gradients(parameter: nn.Parameter) -> list[Tensor]:
    return [parameter.grad] if parameter.grad is not None else []


def slots(optimizer: torch.optim.Optimizer) -> Callable[[nn.Parameter], list[Tensor]]:
    def found(parameter: nn.Parameter) -> list[Tensor]:
        return [v for v in optimizer.state[parameter].values() if isinstance(v, Tensor) and v.shape == parameter.shape]

    return found


def reference(mask: Mask, build: Build, dtype: torch.dtype, clip: float, steps: int) -> tuple[dict[str, Tensor], list]:
    """Train where(m, w, 0) by autograd; the pruned w's are free parameters that nothing depends on."""
    model = network(dtype=dtype)
    leaves = dict(model.named_parameters())
    kept = {name: mask[name] for name in mask}
    optimizer, norms = build(list(leaves.values())), []
    for x, y in batches(steps, dtype):
        optimizer.zero_grad()
        masked = {n: torch.where(kept[n], w, 0) if n in kept else w for n, w in leaves.items()}
        F.cross_entropy(functional_call(model, masked, (x,)), y).backward()
        if clip:
            norms.append(nn.utils.clip_grad_norm_(leaves.values(), clip))
        optimizer.step()
    found = {n: torch.where(kept[n], w, 0).detach() if n in kept else w.detach() for n, w in leaves.items()}
    return {**found, **dict(model.named_buffers())}, norms


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("name", VARIANTS)
def test_training_under_a_mask_is_training_of_the_masked_function(name: str, clip: float, dtype: torch.dtype) -> None:
    model = network(dtype=dtype)
    mask, optimizer, norms = random_mask(model), VARIANTS[name](list(model.parameters())), []
    with enforce(model, optimizer, mask):
        for x, y in batches(6, dtype):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            assert off_mask(model, mask, gradients) == 0
            if clip:
                survivors = [p.grad[mask[n]] if n in mask else p.grad for n, p in model.named_parameters()]
                alone = torch.cat([g.flatten() for g in survivors]).norm()
                norms.append(nn.utils.clip_grad_norm_(model.parameters(), clip))
                torch.testing.assert_close(norms[-1], alone, rtol=1e-6, atol=0)
            optimizer.step()
            assert off_mask(model, mask, weights) == 0
            assert off_mask(model, mask, slots(optimizer)) == 0
    wanted, wanted_norms = reference(mask, VARIANTS[name], dtype, clip, steps=6)
    tolerance = 1e-12 if dtype == torch.float64 else 0
    assert len(norms) == (6 if clip else 0)
    torch.testing.assert_close(norms, wanted_norms, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(dict(model.state_dict()), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_mask_in_the_middle_of_training_revives_nothing(name: str) -> None:
    """Momentum from before the cut would push pruned weights away from 0."""
    model = network()
    optimizer = VARIANTS[name](list(model.parameters()))

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    for x, y in batches(4):
        step(x, y)
    mask = random_mask(model, 0.3)
    assert off_mask(model, mask, slots(optimizer)) > 0 and off_mask(model, mask, gradients) > 0
    survivors = {n: w.detach()[mask[n]].clone() for n, w in model.named_parameters() if n in mask}
    with enforce(model, optimizer, mask):
        assert off_mask(model, mask, slots(optimizer)) == 0
        assert off_mask(model, mask, gradients) == 0
        assert off_mask(model, mask, weights) == 0
        assert all(torch.equal(w[mask[n]], survivors[n]) for n, w in model.named_parameters() if n in mask)
        for x, y in batches(3):
            step(x, y)
            assert off_mask(model, mask, weights) == 0 and off_mask(model, mask, slots(optimizer)) == 0


def test_optimizer_state_that_is_loaded_inside_is_masked() -> None:
    model = network()
    optimizer = VARIANTS["adam-fused"](list(model.parameters()))
    for x, y in batches(2):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    saved, mask = copy.deepcopy(optimizer.state_dict()), random_mask(model)
    with enforce(model, optimizer, mask):
        optimizer.load_state_dict(saved)
        assert off_mask(model, mask, slots(optimizer)) == 0
        index = list(model.parameters()).index(model[0].weight)
        kept = mask["0.weight"]
        assert torch.equal(optimizer.state[model[0].weight]["exp_avg"][kept], saved["state"][index]["exp_avg"][kept])


def test_what_the_mask_removes_changes_no_output() -> None:
    """Two networks that differ in pruned weights alone, by a lot, are one network, then and after training."""
    first, second = network(dtype=torch.float64), network(dtype=torch.float64)
    mask = random_mask(first)
    with torch.no_grad():
        for name, weight in second.named_parameters():
            if name in mask:
                weight[~mask[name]] = torch.tensor([7.0, float("inf"), float("nan")])[
                    torch.arange((~mask[name]).sum()) % 3
                ].double()
    optimizers = [VARIANTS["sgd-plain"](list(m.parameters())) for m in (first, second)]
    with enforce(first, optimizers[0], mask), enforce(second, optimizers[1], mask):
        for x, y in batches(4, torch.float64):
            outputs = [model(x) for model in (first, second)]
            assert torch.equal(*outputs) and bool(outputs[0].isfinite().all())
            for found, optimizer in zip(outputs, optimizers, strict=True):
                optimizer.zero_grad()
                F.cross_entropy(found, y).backward()
                optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_jacobian_is_zero_where_no_path_is_left() -> None:
    """Inputs whose every outgoing weight is pruned have no influence, exactly, and others have some."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    first = torch.ones(4, 6, dtype=torch.bool)
    first[:, [1, 4]] = False
    second = torch.ones(2, 4, dtype=torch.bool)
    second[0, :] = False
    apply_mask(model, Mask({"0.weight": first, "2.weight": second}))
    jacobian = torch.autograd.functional.jacobian(model, torch.randn(6, dtype=torch.float64))
    assert isinstance(jacobian, Tensor)
    assert torch.equal(jacobian[:, [1, 4]], torch.zeros(2, 2).double()) and torch.equal(
        jacobian[0], torch.zeros(6).double()
    )
    assert bool((jacobian[1, [0, 2, 3, 5]] != 0).all())


def test_copies_pickles_and_states_stay_the_users_own() -> None:
    model = network()
    before = {name: (type(value), value.shape, value.dtype) for name, value in model.state_dict().items()}
    optimizer, mask = VARIANTS["adam-fused"](list(model.parameters())), random_mask(model)
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    with enforce(model, optimizer, mask):
        for x, y in batches(2):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        assert {n: (type(v), v.shape, v.dtype) for n, v in model.state_dict().items()} == before
        assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = network(seed=1)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for twin in [*twins, fresh]:
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
        assert not any(p._post_accumulate_grad_hooks for p in twin.parameters())
        F.cross_entropy(twin(x), y).backward()
        assert off_mask(twin, mask, gradients) > 0  # a copy is a free network


def test_tied_weights_have_one_mask() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.down, self.up = nn.Linear(5, 5), nn.Linear(5, 5)
            self.up.weight = self.down.weight

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.up(torch.tanh(self.down(x)))
            return found

    model = Tied().double()
    mask = random_mask(model)
    assert list(mask) == ["down.weight"]
    plain = copy.deepcopy(model)
    data = torch.randn(4, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with enforce(model, optimizer, mask):
        for x in data:
            optimizer.zero_grad()
            model(x).square().mean().backward()
            assert off_mask(model, mask, gradients) == 0
            optimizer.step()
            assert off_mask(model, mask, weights) == 0
    assert model.up.weight is model.down.weight
    leaf, free = plain.down.weight, torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    for x in data:
        free.zero_grad()
        w = torch.where(mask["down.weight"], leaf, 0)
        F.linear(torch.tanh(F.linear(x, w, plain.down.bias)), w, plain.up.bias).square().mean().backward()
        free.step()
    torch.testing.assert_close(model.down.weight, torch.where(mask["down.weight"], leaf, 0), rtol=1e-12, atol=1e-12)
