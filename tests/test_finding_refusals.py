"""`find_ticket`: loops, models and arguments that can give no ticket."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from finding_helpers import BATCHES, KIND, Counted, loss, train
from own_loops import built, mlp
from torch import nn
from torch.nn import functional as F

from tombola import Mask, TombolaError, apply_mask, enforce, find_ticket, prune, shrink
from tombola.errors import UsageError
from tombola.training.state import state_of


def no_step(model: nn.Module) -> None:
    model(BATCHES[0][0])


def on_a_copy(model: nn.Module) -> None:
    train(copy.deepcopy(model))


def reinitialised(model: nn.Module) -> None:
    nn.init.normal_(model[0].weight)  # type: ignore[index,arg-type]
    train(model)


def replaced(model: nn.Module) -> None:
    train(model)
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())  # type: ignore[index,operator,union-attr]


def grown(model: nn.Module) -> None:
    train(model)
    model.register_buffer("calls", torch.zeros(1))


def by_gradients_of_its_own(model: nn.Module) -> None:
    loaded = state_of(mlp())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.load_state_dict(loaded)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def shared_optimizer() -> tuple[nn.Module, Any]:
    model = built(KIND)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loop(trained: nn.Module) -> None:
        for x, y in BATCHES:
            optimizer.zero_grad()
            F.cross_entropy(trained(x), y).backward()
            optimizer.step()

    return model, loop


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        (no_step, r"made no optimizer step on the model \(none in level 0\)"),
        (on_a_copy, r"no optimizer step on the model \(8 steps of optimizers that hold none"),
        (reinitialised, "'0.weight' is not what level 0 starts from.*Do that before find_ticket"),
        (by_gradients_of_its_own, "'0.weight' is not what level 0 starts from"),
        (replaced, "'0.weight' is another parameter than before"),
        (grown, "Before level 1 the model is not what it was at first.*'calls'"),
    ],
)
def test_loops_that_train_no_ticket_are_refused(loop: Any, message: str) -> None:
    with pytest.raises(TombolaError, match=message):
        find_ticket(built(KIND), loop, levels=2, rate=0.4)


def test_optimizers_from_outside_are_refused() -> None:
    model, loop = shared_optimizer()
    with pytest.raises(UsageError, match=r"SGD has made steps before level 1: it was made outside of train"):
        find_ticket(model, loop, levels=1)
    model = built(KIND)
    used = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)

    def loaded(trained: nn.Module) -> None:
        for x, y in BATCHES:
            used.zero_grad()
            F.cross_entropy(trained(x), y).backward()
            used.step()

    loaded(model)
    with pytest.raises(UsageError, match="Adam has made steps before level 0"):
        find_ticket(model, loaded, levels=1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "evaluate returned nan at level 0; expected a finite number"),
        (torch.tensor(float("inf")), "evaluate returned inf"),
        (None, "evaluate returned a NoneType"),
        (torch.zeros(2), "evaluate returned a Tensor"),
        ("0.9x", "evaluate returned a str"),
    ],
)
def test_metrics_that_are_no_numbers_are_refused(value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_ticket(built(KIND), train, lambda model: value, levels=1)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 3))


def transposed() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(3, 6))
    model[2].weight = nn.Parameter(model[1].weight.detach().t())
    return model


def integers() -> nn.Module:
    model = mlp()
    model[0].weight = nn.Parameter(torch.ones(10, 6, dtype=torch.int8), requires_grad=False)  # type: ignore[index]
    return model


def expanded() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    model[0].weight = nn.Parameter(torch.randn(1, 6).expand(8, 6))
    return model


def test_what_evaluate_does_to_the_model_is_noticed_before_the_next_level() -> None:
    counted = Counted()

    def swapping(model: nn.Module) -> float:
        model[1] = nn.Identity()  # type: ignore[index,operator]
        return 0.5

    with pytest.raises(UsageError, match=r"Before the cut to level 1 .* it has other modules or parameters. train and"):
        find_ticket(built(KIND), counted, swapping, levels=3)
    assert counted.runs == 1


def test_things_of_another_kind_are_refused_by_the_pieces_too() -> None:
    model: Any = built(KIND)
    wrong: Any = {"0.weight": 1}
    mask = Mask.dense(model)
    for call, message in [
        (lambda: prune(model, wrong, density=0.5), "The mask is a dict; expected a tombola.Mask"),
        (lambda: prune(3, mask, density=0.5), "The model is a int"),  # type: ignore[arg-type]
        (lambda: prune(model, mask, density="a"), "density='a'"),  # type: ignore[arg-type]
        (lambda: apply_mask(model, wrong), "The mask is a dict"),
        (lambda: apply_mask(wrong, mask), "The model is a dict"),
        (lambda: shrink(model, wrong, torch.ones(2, 6)), "The mask is a dict"),
        (lambda: enforce(model, None, wrong).__enter__(), "The mask is a dict"),
        (lambda: Mask.dense(wrong), "The model is a dict"),
    ]:
        with pytest.raises(UsageError, match=message):
            call()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (expanded, r"'0.weight' is expanded: .*\(.clone\(\)\)"),
        (lazy, "'0.weight' is lazy.*run one batch"),
        (lambda: mlp().to("meta"), "on the meta device"),
        (integers, r"'0.weight' has dtype torch\.int8"),
        (lambda: nn.Sequential(nn.Linear(6, 3, dtype=torch.complex64)), r"dtype torch\.complex64"),
        (lambda: nn.Sequential(nn.BatchNorm1d(6)), "no prunable weight"),
        (lambda: 3, "factory of the model gave a int"),
        (transposed, r"two parameters over the same numbers.*in forward\(\)"),
        ("model", "model is a str"),
    ],
)
def test_models_that_cannot_be_pruned_are_refused(model: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_ticket(model, train, levels=1, rate=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"controls": ("reinit",)}, "needs fresh initial weights: give a factory"),
        ({"replicates": 2}, "needs fresh initial weights: give a factory"),
        ({"controls": ("reinits",)}, "Did you mean 'reinit'"),
        ({"controls": ("shuffled", "shuffled")}, "names one twice"),
        ({"rate": 1.0}, "rate=1.0"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"levels": 0}, "levels=0"),
        ({"levels": 2.0}, "levels=2.0"),
        ({"levels": 100}, "levels 8|nothing is left|would empty"),
        ({"replicates": 0}, "replicates=0"),
        ({"rewind_to": -1}, "rewind_to=-1"),
        ({"rewind_to": 8}, "rewind_to=8, but train made 8 steps in level 0; expected 0 to 7"),
        ({"rewind_to": 2, "reset": "fine-tune"}, "cannot rewind"),
        ({"reset": "rewindd"}, "Did you mean 'rewind'"),
        ({"after_rewind": "go"}, "after_rewind='go' is unknown"),
        ({"criterion": "magnitud"}, "Did you mean 'magnitude'"),
        ({"allocation": "globl"}, "Did you mean 'global'"),
        ({"protect": ["*nothing*"]}, "matches no parameter"),
        ({"min_metric": 0.5}, "min_metric needs evaluate"),
        ({"min_metric": float("nan"), "evaluate": loss}, "min_metric=nan"),
        ({"min_metric": 0.5, "evaluate": loss}, "min_metric=0.5, but the dense model reaches -"),
        ({"key": 3}, "key=3"),
        ({"evaluate": 3}, "evaluate is a int"),
        ({"allocation": 3}, "The allocation is 3; expected a name"),
        ({"protect": 3}, "protect=3; expected glob patterns"),
        ({"protect": [3]}, r"protect=\[3\]; expected glob patterns"),
        ({"controls": 3}, "controls=3; expected a list"),
        ({"store": 3}, "store=3; expected a directory"),
        ({"store": ""}, "store=''; expected a directory"),
        ({"probe": 3}, "probe=3; expected a tombola.criteria.Probe"),
    ],
)
def test_bad_arguments_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TombolaError, match=message):
        find_ticket(built(KIND), train, **{"levels": 2, "rate": 0.3, **settings})


def test_processes_that_do_not_know_of_each_other_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"init_process_group\(\) before find_ticket"):
        find_ticket(built(KIND), train, levels=1, store=tmp_path)
