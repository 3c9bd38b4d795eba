"""Pruned places that stand at constants: they never move, and take part in every forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Bench, Counting, Recorder, order_by_hand, random_mask, same_bits, same_state, tiny_data, tiny_recipe
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tombola.answers import Pruned
from tombola.errors import TicketError, UsageError
from tombola.experiment import prepare, run
from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.requests import Fit
from tombola.resets import Ground, written
from tombola.resets.pruned import freeze_init
from tombola.scopes import Scope
from tombola.starts import Init, Made
from tombola.store import Store
from tombola.tickets import stored_ticket
from tombola.training.evaluation import evaluate
from tombola.training.frozen import frozen, standing
from tombola.training.loop import Stopped
from tombola.training.optimizers import Optimizer
from tombola.training.settings import Training

STEPS = 12
OPTIMIZERS = {
    "sgd": Optimizer(name="sgd", lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": Optimizer(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": Optimizer(name="adam", lr=0.02, weight_decay=0.01),
    "adamw": Optimizer(name="adamw", lr=0.02, weight_decay=0.1),
}
CASES = [
    pytest.param(name, further, id=f"{name}-{'-'.join(further) or 'plain'}")
    for name in OPTIMIZERS
    for further in ({}, {"l2": 0.1, "clip_norm": 0.05})
]


def bench(name: str, **further: Any) -> Bench:
    training = Training(
        steps=STEPS, batch_size=20, eval_every=5, normalise="none", optimizer=OPTIMIZERS[name], **further
    )
    return Bench(lambda: mlp((8, 16, 3), seed=1), training)


def case(b: Bench, **changes: Any) -> tuple[Fit, dict[str, Tensor], Mask]:
    """A fit whose pruned places stand at other numbers than zero; its start weights, constants in place."""
    model = b.fresh()
    mask = random_mask(model, 0.5)
    generator = torch.Generator().manual_seed(3)
    values = {
        n: torch.where(kept, b.start[n], torch.randn(kept.shape, generator=generator)) for n, kept in mask.items()
    }
    return b.fit(mask=mask, frozen=Init(seed=9), **changes), written(b.start, values), mask


def by_hand(b: Bench, start: dict[str, Tensor], mask: Mask) -> Iterator[dict[str, Tensor]]:
    """w = m theta + (1 - m) c, written down: the module is a function of theta. The weights after each step."""
    model, training = b.fresh(start), b.training
    theta = [value.detach().clone().requires_grad_() for value in model.parameters()]
    names = [name for name, _ in model.named_parameters()]
    optimizer = training.optimizer.build(theta)

    def weights() -> dict[str, Tensor]:
        pairs = zip(names, theta, strict=True)
        return {n: torch.where(mask[n], t, start[n]) if n in mask else t for n, t in pairs}

    for batch in order_by_hand(b.sets.train_index, training.batch_size, 5, STEPS):
        x, y = b.sets.train.x[batch], b.sets.train.y[batch]
        optimizer.zero_grad()
        F.cross_entropy(functional_call(model, weights(), (x,)), y).backward()
        with torch.no_grad():
            for name, value in zip(names, theta, strict=True):
                if training.l2 and name in mask:
                    value.grad.add_(value * mask[name], alpha=training.l2)  # type: ignore[union-attr]
            if training.clip_norm:
                nn.utils.clip_grad_norm_(theta, training.clip_norm)
        optimizer.step()
        yield {name: value.detach().clone() for name, value in weights().items()}


@pytest.mark.parametrize(("name", "further"), CASES)
def test_constants_stand_still_and_survivors_train_as_in_the_formula(name: str, further: dict[str, float]) -> None:
    b = bench(name, **further)
    fit, start, mask = case(b, keep=tuple(range(STEPS)))
    _, events, model = b.train(fit, start=start)
    assert sorted(events.states) == list(range(STEPS + 1))
    for step, state in events.states.items():
        for tensor, kept in mask.items():
            assert same_bits(state[tensor][~kept], start[tensor][~kept]), (step, tensor)
    for step, wanted in enumerate(by_hand(b, start, mask), start=1):
        for tensor, value in wanted.items():
            assert torch.equal(events.states[step][tensor], value), (step, tensor)
    assert same_state(events.states[STEPS], dict(model.state_dict()))
    assert not same_bits(events.states[STEPS]["fc1.weight"], start["fc1.weight"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_state_of_constants_is_zero_and_nothing_is_left_behind(name: str) -> None:
    b = bench(name)
    _, start, mask = case(b)
    model = b.fresh(start)
    optimizer = b.training.optimizer.build(model.parameters())
    named, constants = dict(model.named_parameters()), standing(model, mask)
    with frozen(model, optimizer, mask, constants):
        for batch in order_by_hand(b.sets.train_index, 20, 5, 4):
            optimizer.zero_grad()
            F.cross_entropy(model(b.sets.train.x[batch]), b.sets.train.y[batch]).backward()
            for tensor, kept in mask.items():
                assert not bool(named[tensor].grad[~kept].any())  # type: ignore[index]
            optimizer.step()
            for tensor, kept in mask.items():
                slots = [v for v in optimizer.state[named[tensor]].values() if v.shape == kept.shape]
                assert slots and not any(bool(v[~kept].any()) for v in slots)
                assert same_bits(named[tensor].detach()[~kept], start[tensor][~kept])
    optimizer.step()
    assert not same_bits(named["fc1.weight"].detach(), start["fc1.weight"])
    with pytest.raises(ZeroDivisionError), frozen(model, optimizer, mask, constants):
        with torch.no_grad():
            named["fc1.weight"].fill_(7)
        raise ZeroDivisionError
    for tensor, kept in mask.items():
        assert same_bits(named[tensor].detach()[~kept], start[tensor][~kept])


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("stop", [1, 5, 8])
def test_a_training_with_constants_goes_on_from_its_checkpoint(name: str, stop: int) -> None:
    b = bench(name)
    fit, start, _ = case(b, keep=(3, 6, 9), gather=("movement",))
    whole, states, _ = b.train(fit, start=start)
    events = Recorder(stop_at=stop)
    with pytest.raises(Stopped):
        b.train(fit, start=start, events=events)
    events.stop_at = None
    rest, _, _ = b.train(fit, start=start, events=events, resume=events.checkpoints[-1])
    assert rest.points == whole.points
    assert events.states.keys() == states.states.keys()
    assert all(same_state(events.states[step], states.states[step]) for step in states.states)
    assert same_state(rest.gathered["movement"], whole.gathered["movement"])


def test_an_evaluation_sees_the_constants() -> None:
    b = bench("sgd")
    fit, start, _ = case(b, last=0)
    measured, events, _ = b.train(fit, start=start)
    loss, accuracy = evaluate(b.fresh(start), b.sets.test, b.sets, b.training)
    (point,) = measured.points
    assert (point.test_loss, point.test_metric) == (loss, accuracy)
    assert same_state(events.states[0], start)
    without, _, _ = b.train(b.fit(mask=fit.mask, last=0), start=start)
    assert without.points[0].test_loss != loss


def test_constants_need_a_mask() -> None:
    with pytest.raises(UsageError, match="no pruned places"):
        bench("sgd").fit(frozen=Init(seed=1))


# --- in experiments


def go(place: Path, **changes: Any) -> tuple[Counting, Any]:
    watcher = Counting()
    chosen = {"replicates": 1, "reset": "signed_constant", "reset_pruned": "freeze_init", "rewind_to": 20, **changes}
    results = run(tiny_recipe(**chosen), data=tiny_data(), store=place, watcher=watcher)
    assert results.failures == ()
    return watcher, results


def test_an_experiment_with_frozen_places(tmp_path: Path) -> None:
    controls = ("reinit", "shuffled", "untrained", "inverted")
    watcher, results = go(tmp_path, controls=controls)
    store, fits = Store(tmp_path), {job.digest: job.request for job in watcher.jobs}
    rewound = store.state(watcher.trained(0).states[20])
    initial = store.state(watcher.trained(0).states[0])
    for level in (1, 2):
        cut = watcher.answers[level, 0, "cut"]
        assert isinstance(cut, Pruned)
        for arm in ("ticket", *controls, "reinit-rewound"):
            answer = watcher.trained(level, arm)
            fit = fits[answer.request]
            assert isinstance(fit, Fit) and isinstance(fit.frozen, Made) and fit.mask is not None
            assert fit.frozen.reset is freeze_init and fit.frozen.mask == fit.mask
            constants = initial if arm == "untrained" else rewound
            end = store.state(answer.states[answer.last])
            for name, kept in fit.mask.items():
                assert same_bits(end[name][~kept], constants[name][~kept])
                assert int((~kept).sum()) > 0
            if answer.provenance["engine"] == "torch" and "not_native" in answer.provenance:
                assert answer.provenance["not_native"]
    assert watcher.trained(2).provenance["engine"] == "torch"
    again, same = go(tmp_path, controls=controls)
    assert again.jobs == [] and same == results
    with pytest.raises(TicketError, match="stand at constants"):
        stored_ticket(store, results.experiment, level=1)
    assert stored_ticket(store, results.experiment, level=0).ticket.mask.density == 1


def test_lost_states_are_made_again_with_their_constants(tmp_path: Path) -> None:
    first, results = go(tmp_path, controls=())
    store = Store(tmp_path)
    for level in (0, 1):
        for digest in set(first.trained(level).states.values()):
            store.object_path(digest).unlink()
    again, same = go(tmp_path, controls=())
    assert same == results and len(again.jobs) == 2
    assert again.trained(1).states == first.trained(1).states
    assert Store(tmp_path).has(first.trained(1).states[60])


def test_the_native_engine_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tombola.native.why_not", lambda *given: None)
    with pytest.raises(UsageError, match=r"freezes pruned places at constants\. Use --engine auto"):
        prepare(tiny_recipe(reset_pruned="freeze_init"), data=tiny_data(), engine="native")
    task = prepare(tiny_recipe(), data=tiny_data(), engine="native").task
    fit = Fit(start=Init(seed=0), mask=task.prunable(Scope()), last=1, order=1, noise=1, frozen=Init(seed=1))
    for wanted, request in (
        ("its pruned places stand at constants", fit),
        ("gathers movement", Fit(start=fit.start, mask=None, last=1, order=1, noise=1, gather=("movement",))),
    ):
        with pytest.raises(UsageError, match=wanted):
            task.fit(request, dict(task.build(0).state_dict()), events=Recorder())


def test_freezing_is_what_the_reset_says() -> None:
    """The ground of the constants is the one of the survivors: with rewinding to k, the weights of step k."""
    plan = prepare(tiny_recipe(reset_pruned="freeze_reinit", rewind_to=20), data=tiny_data()).plans[0]
    assert plan.pruned is not None
    model = mlp((8, 16, 3))
    state = {n: v.clone() for n, v in model.state_dict().items()}
    mask = random_mask(model, 0.5)
    found = plan.pruned(Ground(initial=state, trained={}, mask=mask, seed=1))
    assert found.keys() == state.keys() and not same_bits(found["fc1.weight"], state["fc1.weight"])
