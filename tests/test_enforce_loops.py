"""`enforce` by hand in loops that make their own optimizers, and models that it must refuse."""

from __future__ import annotations

import pytest
import torch
from helpers import random_mask, same_state
from own_loops import mlp
from test_enforce import off_mask, slots, weights
from test_enforce_edges import hooks_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import optimizer as optimizers

from tombola import Mask, apply_mask, enforce
from tombola.errors import Hint, UsageError, hint
from tombola.training.state import state_of

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(8, 6, generator=GENERATOR), torch.randint(3, (8,), generator=GENERATOR)


def backward(model: nn.Module) -> Tensor:
    model.zero_grad()
    loss = F.cross_entropy(model(X), Y)
    loss.backward()
    return loss


def test_with_no_optimizer_named_every_one_is_enforced() -> None:
    """Two at once, one that is made later, and one that has been stepping before."""
    model = mlp()
    own = list(model.parameters())
    early = torch.optim.Adam(own[:2], lr=0.02)
    backward(model)
    early.step()
    mask = random_mask(model)
    with enforce(model, None, mask):
        for _ in range(3):
            late = torch.optim.SGD(own[2:], lr=0.1, momentum=0.9)
            for _ in range(2):
                backward(model)
                early.step()
                late.step()
                for optimizer in (early, late):
                    assert off_mask(model, mask, slots(optimizer)) == 0
                assert off_mask(model, mask, weights) == 0


def test_naming_the_optimizer_or_none_trains_the_same() -> None:
    found = []
    for named in (True, False):
        torch.manual_seed(0)
        model = mlp()
        mask = random_mask(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
        with enforce(model, optimizer if named else None, mask):
            for _ in range(4):
                backward(model)
                optimizer.step()
        found.append(state_of(model))
    assert same_state(*found)


def test_other_networks_are_left_alone() -> None:
    model, other = mlp(), mlp()
    mask = random_mask(model)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    with enforce(model, None, mask):
        backward(other)
        optimizer.step()
    assert all(bool((weight != 0).all()) for weight in other.parameters())
    assert all(bool(slot["momentum_buffer"].any()) for slot in optimizer.state.values())


def test_parameters_that_are_added_inside_are_enforced_with_their_state() -> None:
    model = mlp()
    own, mask = list(model.parameters()), random_mask(model)
    optimizer = torch.optim.Adam(own[:1], lr=0.1)
    with enforce(model, None, mask):
        backward(model)
        optimizer.step()
        optimizer.add_param_group({"params": own[1:]})
        optimizer.state[own[2]] = {
            "step": torch.tensor(1.0),
            **{n: torch.ones(8, 10) for n in ("exp_avg", "exp_avg_sq")},
        }
        optimizer.step()
        assert off_mask(model, mask, slots(optimizer)) == 0 and off_mask(model, mask, weights) == 0


def test_state_of_lbfgs_from_before_the_mask_is_cleared_and_said() -> None:
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=3)
    for _ in range(2):
        optimizer.step(lambda: backward(model))
    mask = random_mask(model)
    assert optimizer.state
    hint.cache_clear()
    with pytest.warns(Hint, match="LBFGS has state from before the mask"), enforce(model, None, mask):
        for _ in range(3):
            optimizer.step(lambda: backward(model))
            assert off_mask(model, mask, weights) == 0
            direction = optimizer.state[next(model.parameters())]["d"]
            whole = [mask[n] if n in mask else torch.ones(p.shape).bool() for n, p in model.named_parameters()]
            gone = ~torch.cat([kept.flatten() for kept in whole])
            assert not bool(direction[gone].any()) and bool(direction[~gone].any())


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
def test_no_hook_is_left_anywhere(error: type[BaseException] | None) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = hooks_of(model, optimizer)
    shared = len(optimizers._global_optimizer_pre_hooks)
    try:
        with enforce(model, None, random_mask(model)):
            backward(model)
            optimizer.step()
            assert hooks_of(model, optimizer) == before + 3 + 2 + 1  # weights, global ones, loading of state
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt, SystemExit) as raised:
        assert type(raised) is error
    assert hooks_of(model, optimizer) == before and len(optimizers._global_optimizer_pre_hooks) == shared


def test_the_hint_about_adam_names_the_fix_and_is_given_once() -> None:
    hint.cache_clear()
    with pytest.warns(Hint, match="fused=True") as given:
        for fused in (True, False, False):
            model = mlp()
            optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
            with enforce(model, optimizer, random_mask(model)):
                backward(model)
                optimizer.step()
                assert len(given) == (not fused)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_compiled_steps_and_networks_are_enforced() -> None:
    model = mlp()
    mask = random_mask(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @torch.compile(backend="eager")
    def step() -> None:
        optimizer.step()

    compiled = torch.compile(model, backend="eager")
    with enforce(model, None, mask):
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(compiled(X), Y).backward()
            step()
            assert off_mask(model, mask, weights) == 0 and off_mask(model, mask, slots(optimizer)) == 0


def views() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = nn.Parameter(model[0].weight.detach().t())
    return model


def sharded() -> nn.Module:
    model = mlp()
    model[0].weight.placements = ()  # type: ignore[union-attr]  # what tells a DTensor
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Sequential(nn.LazyLinear(3)), "'0.weight' is lazy"),
        (lambda: mlp().to("meta"), "meta device"),
        (views, "'0.weight' and '1.weight' are two parameters over the same numbers"),
        (sharded, "DTensor.*use DistributedDataParallel"),
        (lambda: nn.Sequential(nn.Linear(6, 10, dtype=torch.complex64)), r"dtype torch\.complex64"),
    ],
)
def test_models_that_cannot_carry_a_mask_are_refused(build: object, message: str) -> None:
    model = build()  # type: ignore[operator]
    mask = Mask({"0.weight": torch.eye(6, dtype=torch.bool) if message[:9] == "'0.weight" else torch.eye(10, 6).bool()})
    with pytest.raises(UsageError, match=message), enforce(model, None, mask):
        pytest.fail("entered")
    with pytest.raises(UsageError, match=message):
        apply_mask(model, mask)


def test_a_lazy_module_has_no_dense_mask_yet() -> None:
    with pytest.raises(UsageError, match=r"'0\.weight' is lazy.*run one batch"):
        Mask.dense(nn.Sequential(nn.LazyLinear(3)))


def test_slices_of_one_storage_are_not_the_same_numbers() -> None:
    """As an LSTM's flattened weights are on a GPU."""
    whole = torch.randn(2, 6, 6)
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    for layer, part in zip(model, whole, strict=True):
        layer.weight = nn.Parameter(part)
    mask = random_mask(model)
    apply_mask(model, mask)
    assert off_mask(model, mask, weights) == 0 and bool((model[1].weight[mask["1.weight"]] != 0).all())
