"""`enforce` where gradients and weights come by unusual ways, where it must refuse, and what it leaves behind."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator

import pytest
import torch
from helpers import random_mask
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.training.enforce import apply_mask, enforce

X = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))


def layer(dtype: torch.dtype = torch.float32) -> tuple[nn.Linear, Mask, Tensor]:
    """A layer, its mask, and the pruned places."""
    torch.manual_seed(0)
    model = nn.Linear(6, 4).to(dtype)
    mask = random_mask(model, 0.5)
    return model, mask, ~mask["weight"]


def hooks_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Everything that anybody has hooked into the network, the optimizer or torch itself."""
    own = [
        getattr(p, kind) or {}
        for p in model.parameters()
        for kind in ("_post_accumulate_grad_hooks", "_backward_hooks")
    ]
    named = [v for m in model.modules() for k, v in vars(m).items() if k.endswith("hooks") and isinstance(v, dict)]
    stepping = [v for k, v in vars(optimizer).items() if "hooks" in k and isinstance(v, dict)]
    everywhere = [
        v for where in (modules, optimizers) for k, v in vars(where).items() if "global" in k and isinstance(v, dict)
    ]
    assert len(stepping) >= 5 and len(everywhere) >= 5
    return sum(len(found) for found in [*own, *named, *stepping, *everywhere])


class Wandering(torch.optim.Optimizer):
    """Writes every weight, whatever its gradient, as Muon and Langevin noise do."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(torch.randn_like(parameter))
                self.state[parameter]["moment"] = torch.zeros_like(parameter)


def test_weights_that_a_step_writes_are_masked_again() -> None:
    model, mask, gone = layer()
    optimizer = Wandering(model.parameters())
    before = model.weight.detach().clone()
    with enforce(model, optimizer, mask):
        optimizer.step()
        assert float(model.weight.detach()[gone].abs().max()) == 0
        with torch.no_grad():
            model.weight.add_(1)  # a user's write-back, after the step
        assert float(model.weight.detach()[gone].abs().min()) == 1
    assert float(model.weight.detach()[gone].abs().max()) == 0
    assert not torch.equal(model.weight[~gone], before[~gone])


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan"), -1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_any_gradient_of_a_pruned_weight_becomes_zero(dtype: torch.dtype, bad: float) -> None:
    """0 x inf is NaN, and -1 x 0 is -0.0; neither may show."""
    model, mask, gone = layer(dtype)
    model.weight.register_hook(lambda gradient: gradient.masked_fill(gone, bad))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    with enforce(model, optimizer, mask):
        for _ in range(2):
            model(X.to(dtype)).sum().backward()
            assert model.weight.grad is not None
            assert float(model.weight.grad[gone].abs().max()) == 0 and not model.weight.grad[gone].signbit().any()
            assert bool(model.weight.grad[~gone].isfinite().all()) and bool((model.weight.grad[~gone] != 0).any())
            optimizer.step()
            assert float(model.weight.detach()[gone].abs().max()) == 0 and not model.weight[gone].signbit().any()
            assert float(optimizer.state[model.weight]["momentum_buffer"][gone].abs().max()) == 0
    assert model.weight.dtype == dtype and bool(model.weight.isfinite().all())


def test_weights_that_change_their_dtype_inside_stay_masked() -> None:
    model, mask, gone = layer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with enforce(model, optimizer, mask):
        model.double()
        model(X.double()).sum().backward()
        assert model.weight.grad is not None and float(model.weight.grad[gone].abs().max()) == 0
        optimizer.step()
        assert (
            float(model.weight.detach()[gone].abs().max()) == 0 and float(model.weight.detach()[~gone].abs().min()) > 0
        )


def test_gradients_that_no_backward_made_are_masked_before_the_step() -> None:
    model, mask, gone = layer()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    with enforce(model, optimizer, mask):
        for _ in range(3):
            loss = model(X).square().sum()
            for parameter, gradient in zip(
                model.parameters(), torch.autograd.grad(loss, [*model.parameters()]), strict=True
            ):
                parameter.grad = gradient
            optimizer.step()
            assert float(model.weight.detach()[gone].abs().max()) == 0
            for slot in ("exp_avg", "exp_avg_sq"):
                assert float(optimizer.state[model.weight][slot][gone].abs().max()) == 0


@pytest.mark.parametrize("how", ["noise in place", "another tensor", "a norm that is not finite"])
def test_gradients_that_are_changed_after_backward_are_masked_again(how: str) -> None:
    model, mask, gone = layer()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    with enforce(model, optimizer, mask):
        model(X).square().sum().backward()
        assert model.weight.grad is not None
        if how == "noise in place":
            model.weight.grad.add_(torch.ones_like(model.weight.grad))
        elif how == "another tensor":
            model.weight.grad = torch.ones_like(model.weight.grad)
        else:
            model.weight.grad.mul_(float("nan"))
        optimizer.step()
        assert float(model.weight.detach()[gone].abs().max()) == 0
        assert float(optimizer.state[model.weight]["exp_avg"][gone].abs().max()) == 0


def test_accumulated_gradients_are_masked_each_time() -> None:
    model, mask, gone = layer()
    with enforce(model, torch.optim.SGD(model.parameters(), lr=0.1), mask):
        for _ in range(3):
            model(X).sum().backward()
            assert model.weight.grad is not None and float(model.weight.grad[gone].abs().max()) == 0
        torch.testing.assert_close(model.weight.grad, 3 * X.sum(0).expand(4, 6).masked_fill(gone, 0))


def test_a_hook_that_was_there_before_sees_masked_gradients() -> None:
    """As an optimizer within the backward pass has one."""
    model, mask, gone = layer()
    seen: list[Tensor] = []

    def look(weight: Tensor) -> None:
        assert weight.grad is not None
        seen.append(weight.grad.clone())

    model.weight.register_post_accumulate_grad_hook(look)
    with enforce(model, torch.optim.SGD(model.parameters(), lr=0.1), mask):
        model(X).sum().backward()
    assert len(seen) == 1 and float(seen[0][gone].abs().max()) == 0 and float(seen[0][~gone].abs().max()) > 0


def test_a_frozen_weight_that_is_unfrozen_inside_stays_masked() -> None:
    model, mask, gone = layer()
    model.weight.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with enforce(model, optimizer, mask):
        assert not model.weight.requires_grad
        model(X).sum().backward()
        optimizer.step()
        assert model.weight.grad is None and float(model.weight.detach()[gone].abs().max()) == 0
        model.weight.requires_grad_(True)
        before = model.weight.detach().clone()
        model(X).sum().backward()
        assert model.weight.grad is not None and float(model.weight.grad[gone].abs().max()) == 0
        optimizer.step()
        assert float(model.weight.detach()[gone].abs().max()) == 0 and not torch.equal(model.weight, before)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_no_hook_is_left(error: type[BaseException] | None) -> None:
    model, mask, gone = layer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = hooks_of(model, optimizer)
    try:
        with enforce(model, optimizer, mask):
            assert hooks_of(model, optimizer) >= before + 4
            model(X).sum().backward()
            if error is not None:
                with torch.no_grad():
                    model.weight.add_(1)
                raise error
    except (ValueError, KeyboardInterrupt, SystemExit, GeneratorExit) as raised:
        assert type(raised) is error
    assert hooks_of(model, optimizer) == before
    assert float(model.weight.detach()[gone].abs().max()) == 0
    optimizer.zero_grad()
    model(X).sum().backward()
    assert model.weight.grad is not None and float(model.weight.grad[gone].abs().max()) > 0


def test_a_generator_that_is_dropped_inside_leaves_no_hook() -> None:
    model, mask, _ = layer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = hooks_of(model, optimizer)

    def training() -> Iterator[int]:
        with enforce(model, optimizer, mask):
            yield 1

    running = training()
    assert next(running) == 1 and hooks_of(model, optimizer) > before
    del running
    gc.collect()
    assert hooks_of(model, optimizer) == before


@pytest.mark.parametrize("kind", ["sgd", "sparse adam"])
def test_sparse_gradients_are_masked(kind: str) -> None:
    """As an embedding with sparse=True has them; the same rows may come twice."""
    model, twin = nn.Embedding(5, 3, sparse=True), nn.Embedding(5, 3)
    twin.load_state_dict(model.state_dict())
    mask = Mask({"weight": torch.arange(15).view(5, 3) % 2 == 0})
    rows = torch.tensor([1, 2, 2, 4])
    before = model.weight.detach().clone()
    made = torch.optim.SGD if kind == "sgd" else torch.optim.SparseAdam
    optimizer = made(model.parameters(), lr=0.1)
    with enforce(model, optimizer, mask):
        for _ in range(2):
            optimizer.zero_grad()
            (model(rows) + 1).square().sum().backward()
            assert model.weight.grad is not None and model.weight.grad.is_sparse
            found = model.weight.grad.to_dense()
            assert (
                float(found[~mask["weight"]].abs().max()) == 0
                and float(found[rows][mask["weight"][rows]].abs().min()) > 0
            )
            optimizer.step()
            assert float(model.weight.detach()[~mask["weight"]].abs().max()) == 0
    moved = model.weight.detach() != before
    assert bool(moved[rows][mask["weight"][rows]].all()) and torch.equal(moved[[0, 3]], ~mask["weight"][[0, 3]])
    if kind == "sgd":
        with enforce(twin, None, mask):
            stepper = torch.optim.SGD(twin.parameters(), lr=0.1)
            for _ in range(2):
                stepper.zero_grad()
                (twin(rows) + 1).square().sum().backward()
                stepper.step()
        torch.testing.assert_close(model.weight, twin.weight)  # equal rows are summed in another order


def test_masks_that_do_not_fit_are_refused() -> None:
    model, mask, _ = layer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, weight = hooks_of(model, optimizer), model.weight.detach().clone()
    strange = {
        "does not have": Mask({"wieght": mask["weight"]}),
        "has shape": Mask({"weight": torch.zeros(6, 4, dtype=torch.bool)}),
    }
    for message, wrong in strange.items():
        with pytest.raises(UsageError, match=message), enforce(model, optimizer, wrong):
            pytest.fail("entered with a mask that does not fit")
        with pytest.raises(UsageError, match=message):
            apply_mask(model, wrong)
    with pytest.raises(UsageError, match=r"torch\.bool"):
        Mask({"weight": torch.ones(4, 6)})
    whole = nn.Module()
    whole.register_parameter("steps", nn.Parameter(torch.arange(4), requires_grad=False))
    with pytest.raises(UsageError, match=r"'steps' has dtype torch\.int64"):
        apply_mask(whole, Mask({"steps": torch.arange(4) > 1}))
    assert hooks_of(model, optimizer) == before and torch.equal(model.weight, weight)


def test_a_dense_mask_changes_nothing() -> None:
    model, _, _ = layer()
    twin, _, _ = layer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    free = torch.optim.SGD(twin.parameters(), lr=0.1)
    with enforce(model, optimizer, Mask.dense(model)):
        for one, stepper in ((model, optimizer), (twin, free)):
            one(X).square().mean().backward()
            stepper.step()
    assert torch.equal(model.weight, twin.weight) and float(model.weight.detach().abs().min()) > 0


def test_the_mask_in_use_cannot_be_changed_from_outside() -> None:
    model, mask, gone = layer()
    mask["weight"].fill_(True)
    kept = mask.kept
    kept["weight"] = 0
    apply_mask(model, mask)
    assert float(model.weight.detach()[gone].abs().max()) == 0 and mask.alive == int((~gone).sum())
