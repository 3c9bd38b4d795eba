"""Rewinding inside a loop that is not ours: bit for bit what a continuation by hand gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import random_mask, same_bits, same_state
from own_loops import MODULES, SAM, STEPS, Batches, Tied, batches_for, built, cnn, mlp
from torch import nn
from torch.nn import functional as F

from tombola import Mask, find_ticket, prune, rewind
from tombola.errors import UsageError
from tombola.training.enforce import enforce
from tombola.training.state import state_of

K = 3
OneCycle = torch.optim.lr_scheduler.OneCycleLR


def adamw(parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    return [torch.optim.AdamW(parameters, lr=0.01)]


def adagrad(parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    return [torch.optim.Adagrad(parameters, lr=0.05)]


def pair(parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    own = torch.optim.SGD(parameters[:2], lr=0.05, momentum=0.9), torch.optim.Adam(parameters[2:], lr=0.01)
    return list(own)


def lbfgs(parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    return [torch.optim.LBFGS(parameters, lr=0.2, max_iter=2)]


def steps(model: nn.Module, batches: Batches, optimizers: list[Any], schedulers: list[Any]) -> None:
    for x, y in batches:

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            model.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        closure()
        for optimizer in optimizers:
            optimizer.step(closure) if isinstance(optimizer, torch.optim.LBFGS) else optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


Make = Callable[[list[nn.Parameter]], list[torch.optim.Optimizer]]


def schedules(optimizers: list[torch.optim.Optimizer]) -> list[Any]:
    return [OneCycle(optimizer, 0.05, total_steps=STEPS, cycle_momentum=False) for optimizer in optimizers]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # by hand schedules go ahead to k
@pytest.mark.parametrize("after_rewind", ["continue", "restart"])
@pytest.mark.parametrize("make", [adamw, adagrad, pair, lbfgs], ids=lambda make: make.__name__)
def test_rewinding_is_bit_equal_to_a_continuation_by_hand(make: Make, after_rewind: Any) -> None:
    """Weights and buffers of step k, a fresh optimizer, schedule and data order from k on (or from the beginning)."""
    kind = MODULES["cnn+bn"]
    batches = batches_for(kind)

    def train(model: nn.Module) -> None:
        optimizers = make(list(model.parameters()))
        steps(model, batches, optimizers, schedules(optimizers))

    settings: dict[str, Any] = {"levels": 2, "rate": 0.4, "rewind_to": K, "after_rewind": after_rewind}
    ticket = find_ticket(built(kind), train, **settings)

    theta = built(kind)
    optimizers = make(list(theta.parameters()))
    schedulers = schedules(optimizers)
    steps(theta, batches[:K], optimizers, schedulers)
    at_k = copy.deepcopy(theta.state_dict())
    steps(theta, batches[K:], optimizers, schedulers)
    mask = Mask.dense(theta)
    for keep in (84 - round(0.4 * 84), 50 - round(0.4 * 50)):
        mask = prune(theta, mask, density=keep / 84)
        rewind(theta, at_k, mask)
        if (keep, after_rewind) == (30, "continue"):
            assert same_state(ticket.weights, state_of(theta))
        optimizers = make(list(theta.parameters()))
        schedulers = schedules(optimizers)
        first = K if after_rewind == "continue" else 0
        for scheduler in schedulers * first:
            scheduler.step()
        with enforce(theta, None, mask):
            steps(theta, batches[first:], optimizers, schedulers)
    assert ticket.mask == mask and ticket.trained is not None
    assert same_state(ticket.trained, state_of(theta))
    assert not torch.equal(at_k["1.running_mean"], theta.state_dict()["1.running_mean"])
    assert [row.steps for row in ticket.history] == [STEPS] * 3


def test_the_snapshot_holds_what_the_last_optimizer_of_its_step_did() -> None:
    kind = MODULES["mlp"]
    batches = batches_for(kind)
    states: list[dict[str, torch.Tensor]] = []

    def train(model: nn.Module) -> None:
        optimizers = pair(list(model.parameters()))
        for batch in batches:
            steps(model, [batch], optimizers, [])
            states.append(state_of(model))

    ticket = find_ticket(built(kind), train, levels=1, rate=0.5, rewind_to=2)
    wanted = {n: torch.where(ticket.mask[n], w, 0) if n in ticket.mask else w for n, w in states[1].items()}
    assert same_state(ticket.weights, wanted)
    held = states[STEPS : STEPS + 2]
    assert all(same_state(state, wanted) for state in held) and not same_state(states[STEPS + 2], wanted)


def test_a_wrapped_optimizer_rewinds_too() -> None:
    """SAM steps through another optimizer, and undoes its own move outside of that one's step."""
    kind = MODULES["mlp"]
    batches, states = batches_for(kind), list[dict[str, torch.Tensor]]()

    def train(model: nn.Module) -> None:
        optimizer = SAM(model.parameters())
        for x, y in batches:
            closure = lambda x=x, y=y: (model.zero_grad(), F.cross_entropy(model(x), y).backward())  # noqa: E731
            closure()
            optimizer.step(closure)  # type: ignore[arg-type]
            states.append(state_of(model))

    ticket = find_ticket(built(kind), train, levels=1, rate=0.5, rewind_to=2)
    assert same_state(states[STEPS + 1], dict(ticket.weights)) and ticket.history[1].steps == STEPS


def test_by_hand_a_state_is_put_back_under_the_mask() -> None:
    model = cnn()
    before, kept = state_of(model), copy.deepcopy(model.state_dict())
    mask, own = random_mask(model), list(model.parameters())
    model.train()
    model(torch.randn(4, 1, 6, 6))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    rewind(model, kept, mask)
    for name, value in model.state_dict().items():
        wanted = torch.where(mask[name], before[name], 0) if name in mask else before[name]
        assert same_bits(value, wanted), name
    assert all(a is b for a, b in zip(own, model.parameters(), strict=True))
    with torch.no_grad():
        model[0].weight.fill_(3)
    assert same_state(
        state_of(model) | {"0.weight": before["0.weight"]}, state_of(model) | {"0.weight": kept["0.weight"]}
    )
    rewind(model, kept)
    assert same_state(state_of(model), before)


def test_tied_tensors_rewind_under_all_their_names() -> None:
    model = Tied(False)
    before, mask = state_of(model), random_mask(model)
    rewind(model, before, mask)
    assert list(mask) == ["down.weight", "last.weight"]
    wanted = torch.where(mask["down.weight"], before["down.weight"], 0)
    assert torch.equal(model.up.weight, wanted) and model.up.weight is model.down.weight


def test_states_of_other_networks_are_refused() -> None:
    model, other = mlp(), cnn()
    before = state_of(model)
    with pytest.raises(UsageError, match="belongs to another network"):
        rewind(model, state_of(other))
    with pytest.raises(UsageError, match="does not have"):
        rewind(model, before, Mask.dense(other).__class__({"x": torch.ones(1, dtype=torch.bool)}))
    assert same_state(before, state_of(model))
