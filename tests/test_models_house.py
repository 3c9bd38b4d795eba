"""The named networks with the rest of the house: rates, narrower forms, shrinking, tickets, batches of one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from cli_helpers import call
from helpers import random_mask, same_state, tiny_recipe
from model_helpers import CIFAR, count, stirred, weights
from shrink_nets import same
from test_schedules import PAPER
from ticket_helpers import same_ticket
from torch import Tensor, nn

from tombola import Mask, Scope, Ticket, shrink
from tombola.allocation import Layerwise, allocation_of
from tombola.data import Dataset, from_arrays
from tombola.errors import UsageError
from tombola.ladder import budgets
from tombola.models import MODELS, Net
from tombola.models.costs import uses_per_weight
from tombola.planning import plan_of
from tombola.schedules import geometric
from tombola.specs import canonical_json
from tombola.supervised import Supervised
from tombola.tickets import NamedModel
from tombola.tickets.seed import made
from tombola.training.settings import Training

CONV_LADDER = {
    "lenet-300-100": PAPER,
    "conv-2": {
        **dict(
            enumerate((100, 80.10, 64.16, 51.41, 41.20, 33.02, 26.47, 21.23, 17.03, 13.66, 10.97, 8.81, 7.08, 5.69))
        ),
        **{14: 4.57, 15: 3.68, 16: 2.97, 18: 1.93, 20: 1.26, 22: 0.83},
    },
    "conv-4": {
        **dict(
            enumerate((100, 81.08, 65.84, 53.55, 43.63, 35.61, 29.13, 23.88, 19.62, 16.16, 13.35, 11.06, 9.18, 7.65))
        ),
        **{14: 6.40, 15: 5.37, 16: 4.51, 18: 3.23, 20: 2.34, 22: 1.72},
    },
    "conv-6": {
        **dict(
            enumerate((100, 82.54, 68.20, 56.39, 46.68, 38.67, 32.07, 26.61, 22.11, 18.38, 15.29, 12.74, 10.62, 8.86))
        ),
        **{14: 7.39, 15: 6.18, 16: 5.17, 18: 3.62, 20: 2.54, 22: 1.79},
    },
}
RATES = {"lenet-300-100": 0.0, "conv-2": 0.1, "conv-4": 0.1, "conv-6": 0.15}


@pytest.mark.parametrize("name", CONV_LADDER)
def test_densities_of_the_paper_level_by_level(name: str) -> None:
    """Convolutions lose 10 or 15 % a level, hidden layers 20 %, the output 10 %."""
    mask = Mask.dense(MODELS[name]((1, 28, 28) if name[0] == "l" else CIFAR, 10, Net(), 0))
    allocation = allocation_of(f"layerwise:conv={RATES[name]}", {"rate": 0.2, "output": 0.5})
    assert isinstance(allocation, Layerwise)
    ladder = [mask.kept, *geometric(mask.kept, allocation.rates(mask), max(CONV_LADDER[name]))]
    for level, printed in CONV_LADDER[name].items():
        assert 100 * sum(ladder[level].values()) / mask.total == pytest.approx(printed, abs=0.0051), level
    for level, counts in enumerate(ladder):
        for layer, kept in counts.items():
            rate = 0.1 if layer == "output.weight" else RATES[name] if "conv" in layer else 0.2
            assert abs(kept - mask.kept[layer] * (1 - rate) ** level) <= 5, (level, layer)
    for level in (1, 7, 20):  # a single cut to the budget of a level shares it as the levels do
        assert allocation({}, mask, sum(ladder[level].values())) == ladder[level]


def test_the_convolutions_rate_reaches_the_plan_and_own_loops() -> None:
    mask = Mask.dense(MODELS["conv-2"]((1, 8, 8), 10, Net(width=0.25), 0))
    rates = {"conv1.weight": 0.1, "conv2.weight": 0.1, "fc1.weight": 0.2, "fc2.weight": 0.2, "output.weight": 0.1}
    assert Layerwise(conv=0.1).rates(mask) == pytest.approx(rates)
    assert Layerwise(conv=0.1, output_name="conv2.weight").rates(mask)["conv2.weight"] == pytest.approx(0.05)
    plan = plan_of(tiny_recipe(model="conv-2", allocation="layerwise:conv=0.1", rate=0.2, levels=5), mask)
    ladder = [sum(counts.values()) for counts in geometric(mask.kept, rates, 5)]
    assert list(plan.keeps) == ladder
    assert budgets(mask, "layerwise:conv=0.1", 0.2, 5, 0.3)[1][1:] == ladder
    deep = Mask.dense(MODELS["conv-6"]((1, 8, 8), 10, Net(width=0.25), 0))
    for rate, levels in ((0.0, 6), (0.1, 11), (0.4, 3)):
        _, kept = budgets(deep, f"layerwise:conv={rate}", 0.2, None, 0.3)
        assert (len(kept) - 1, kept[-1] <= 0.3 * deep.total < kept[-2]) == (levels, True)
    assert "conv" not in canonical_json(Layerwise())  # stored prunings keep their identity
    assert "conv" in canonical_json(Layerwise(conv=0.1))
    for rate in (-0.1, 1.0, math.nan):
        with pytest.raises(UsageError, match=r"rate of convolutions is .*; expected a fraction from 0 to below 1"):
            Layerwise(conv=rate)


def images(size: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(40, 1, size, size, generator=generator), torch.arange(40) % 2
    return from_arrays("images", x, y, x, y)


def task(model: str, size: int = 8, net: Net | None = None, **training: int) -> Supervised:
    chosen = Training(**{"steps": 1, "batch_size": 4, **training})  # type: ignore[arg-type]
    return Supervised(dataset=images(size), model=model, training=chosen, net=net or Net(width=0.1))


def flat() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


class Picky(nn.Module):
    """Cannot train on a batch of one for a reason of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            raise RuntimeError("too lonely")
        y: Tensor = self.layer(x.flatten(1))
        return y


def test_batch_norm_needs_two_values() -> None:
    said = r"The batch norm 'norm11' has one value per channel in a batch of 1 example.*a batch size of 2 or more"
    with pytest.raises(UsageError, match=said):
        task("vgg-16", 16, batch_size=1)
    with pytest.raises(UsageError, match=said):
        task("vgg-16", 16, batch_size=4, parts=4)
    with pytest.raises(UsageError, match="The batch norm '2' has one value"):
        Supervised(dataset=images(8), model=flat, training=Training(steps=1, batch_size=1))
    with pytest.raises(UsageError, match="cannot train on a batch of 1 example: RuntimeError: too lonely"):
        Supervised(dataset=images(8), model=Picky, training=Training(steps=1, batch_size=1))
    task("vgg-16", 16, batch_size=2)
    task("resnet-20", 8, batch_size=1)  # its last maps are 2 x 2
    task("conv-2", 8, batch_size=1)


def test_the_command_line_says_what_an_image_lacks(tmp_path: Path) -> None:
    found = call("run", "digits-lenet", "--model", "vgg-16", "--dry-run", "--store", tmp_path / "s")
    assert found.code == 2 and not found.out
    assert "needs images of one channel or more and 16 x 16 places or more, got 1 x 8 x 8" in " ".join(
        found.err.split()
    )
    found = call("run", "digits-lenet", "--model", "resnet-20", "--net.dropout", "0.5", "--dry-run")
    assert found.code == 2
    assert "resnet-20 has no fully connected hidden layer for dropout" in " ".join(found.err.split())


@pytest.mark.parametrize("name", ["conv-2", "resnet-20"])
def test_the_smaller_dense_network_is_the_widest_that_fits(name: str) -> None:
    found = task(name, net=Net())
    whole = found.prunable(Scope()).total
    at_most = whole // 10
    model = found.build(3, at_most=at_most)
    assert 0.8 * at_most < count(weights(model)) <= at_most
    assert same_state(model.state_dict(), found.build(3, at_most=at_most).state_dict())
    assert all(not p.is_meta and bool(p.isfinite().all()) for p in model.parameters())
    assert count(weights(found.build(3, at_most=whole))) == whole


def test_no_network_is_as_small_as_that() -> None:
    with pytest.raises(UsageError, match="No form of conv-2 has at most 3 weights"):
        task("conv-2").build(3, at_most=3)


def test_how_often_a_weight_is_used() -> None:
    x = torch.zeros(1, 1, 8, 8)
    assert uses_per_weight(MODELS["conv-2"]((1, 8, 8), 10, Net(width=0.1), 0), x) == {
        **{"conv1.weight": 64, "conv2.weight": 64},
        **{"fc1.weight": 1, "fc2.weight": 1, "output.weight": 1},
    }
    uses = uses_per_weight(MODELS["resnet-20"]((1, 8, 8), 10, Net(width=0.1), 0), x)
    places = {"conv": 64, "stage1": 64, "stage2": 16, "stage3": 4, "output": 1}
    assert uses == {name: places[name.partition(".")[0]] for name in uses} and len(uses) == 22


@pytest.mark.parametrize(
    ("name", "dead"),
    [
        ("conv-2", "conv1.weight"),
        ("resnet-20", "stage2.1.body.conv1.weight"),
        ("separable-20", "stage2.1.body.pointwise1.weight"),
    ],
)
def test_shrinking_and_paths(name: str, dead: str) -> None:
    model = stirred(MODELS[name]((1, 8, 8), 2, Net(width=0.5), 1)).eval()
    if name != "conv-2":  # a dead unit is 0 behind its ReLU; another constant would stay for the padding's sake
        model.get_parameter(f"{dead.rpartition('body')[0]}body.norm1.bias").data[:3] = -1
    drawn = random_mask(model, 0.5)
    units = torch.arange(len(drawn[dead])) < 3
    mask = Mask({n: kept & ~units.view(-1, 1, 1, 1) if n == dead else kept for n, kept in drawn.items()})
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shrunk = shrink(model, mask, x)
    assert not shrunk.fallback and set(shrunk.gone[dead]) >= {0, 1, 2}
    with torch.no_grad():
        for tensor, kept in mask.items():
            model.get_parameter(tensor).mul_(kept)
        assert same(model, shrunk.model, x)
    effective = task(name, net=Net(width=0.5)).effective(mask)
    assert effective is not None and 0 < effective < mask.alive


@pytest.mark.parametrize("name", ["conv-2", "resnet-20"])
def test_a_ticket_is_its_seed(name: str, tmp_path: Path) -> None:
    build = NamedModel(name=name, input_shape=(1, 8, 8), outputs=3, net=Net(width=0.25))
    mask = random_mask(build(0))
    ticket = Ticket(mask=mask, weights=made(build, 5, mask))
    path = ticket.save(tmp_path / "t", seed=5, build=build)
    assert same_ticket(Ticket.load(path), ticket)
    assert path.stat().st_size < 0.5 * 4 * mask.total
