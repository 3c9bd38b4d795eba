"""What every entry of a registry must keep; the tests go over the registries themselves, so none can be left out."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from helpers import random_mask, same_state
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tombola.allocation import ALLOCATIONS, allocation_of
from tombola.criteria import CRITERIA
from tombola.data import DATASETS, NORMALISATIONS
from tombola.granularity import GRANULARITIES
from tombola.masks import Mask
from tombola.models.entries import INITIALIZERS, NETWORKS
from tombola.models.net import Net
from tombola.models.registry import MODELS
from tombola.pruning import prune
from tombola.recipes import recipe as recipes
from tombola.registry import Registry, name_of
from tombola.resets import RESETS, RESETS_PRUNED
from tombola.schedules import SCHEDULES as PRUNING_SCHEDULES
from tombola.search import CONTROLS, SEARCHES
from tombola.specs import canonical
from tombola.training.optimizers import OPTIMIZERS, SCHEDULES, LrSchedule, Optimizer
from tombola.training.settings import Training

CHOICES: dict[str, Registry] = {
    "criterion": CRITERIA,
    "allocation": ALLOCATIONS,
    "granularity": GRANULARITIES,
    "schedule": PRUNING_SCHEDULES,
    "reset": RESETS,
    "reset_pruned": RESETS_PRUNED,
    "search": SEARCHES,
    "control": CONTROLS,
    "model": NETWORKS,
    "initializer": INITIALIZERS,
}
# Allocations that cannot be chosen without options.
WITH_OPTIONS: dict[str, str] = {"per-layer": "per-layer:0.*=0.4,*=0.5"}
NOT_NEGATIVE = {"lamp"}  # allocations that take no other scores
OPTIONS = {"mlp": Net(hidden=(7, 5))} | dict.fromkeys(("vgg-16", "vgg-19", "resnet-18", "resnet-50"), Net(width=0.1))
INPUTS: dict[str, tuple[int, ...]] = {name: (2, 16, 17) for name in MODELS if name.startswith("vgg")}  # else (1, 8, 8)
DROPS = ("lenet-300-100", "mlp", "conv-2", "conv-4", "conv-6")  # networks with dropout and a choice of activations


def test_a_recipe_can_name_every_entry_and_nothing_else() -> None:
    assert set(get_args(recipes.SearchName)) == set(SEARCHES)
    assert set(get_args(recipes.ControlName)) == set(CONTROLS)


@pytest.mark.parametrize("kind", CHOICES)
def test_what_is_chosen_by_name_is_listed_whole(kind: str) -> None:
    registry = CHOICES[kind]
    aliases = [alias for entry in registry.values() for alias in entry.aliases]
    assert len({*registry, *aliases}) == len(registry) + len(aliases)
    for name, entry in registry.items():
        made = entry.load()
        assert 10 <= len(entry.summary) <= 100
        assert not entry.summary.endswith(".")
        assert (made.__doc__ or "").strip()
        for other in (name, *entry.aliases):
            assert name_of(other, registry, kind) == name
        if not inspect.isclass(made):
            assert canonical(made)  # it can be identified


@pytest.mark.parametrize("name", ALLOCATIONS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.3, 1.0))
def test_allocations_add_up(name: str, seed: int, share: float) -> None:
    allocation = allocation_of(WITH_OPTIONS.get(name, name))
    model = nn.Sequential(nn.Linear(9, 8), nn.Linear(8, 7), nn.Linear(7, 6)).double()
    mask = random_mask(model, 0.8, seed)
    generator = torch.Generator().manual_seed(seed)
    scores = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in mask.shapes.items()}
    if name in NOT_NEGATIVE:
        scores = {n: score.abs() for n, score in scores.items()}
    before = {n: score.clone() for n, score in scores.items()}
    keep = math.ceil(share * mask.alive)
    counts = allocation(scores, mask, keep)
    assert list(counts) == list(mask)
    assert sum(counts.values()) == keep
    assert all(isinstance(n, int) and 0 <= n <= mask.kept[tensor] for tensor, n in counts.items())
    assert allocation(scores, mask, keep) == counts
    assert allocation(scores, mask, mask.alive) == mask.kept
    assert same_state(scores, before)
    assert prune(model, mask, density=keep / mask.total, allocation=allocation).alive == keep


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_take_every_setting_and_move_every_weight(name: str) -> None:
    sgd = name == "sgd"
    spec = Optimizer(
        name=name,  # type: ignore[arg-type]
        lr=0.05,
        betas=(0.8, 0.95),
        eps=1e-6,
        momentum=0.7 if sgd else 0.0,
        nesterov=sgd,
        weight_decay=0.01,
    )
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2).requires_grad_(False))
    optimizer = spec.build(model.parameters())
    (group,) = optimizer.param_groups
    assert type(optimizer).__name__.lower() == name
    assert group["fused"]
    used = {key for key in ("lr", "betas", "eps", "momentum", "nesterov", "weight_decay") if key in group}
    assert used == ({"lr", "momentum", "nesterov", "weight_decay"} if sgd else {"lr", "betas", "eps", "weight_decay"})
    assert all(group[key] == getattr(spec, key) for key in used)
    assert len(group["params"]) == 2  # a frozen weight is not the optimizer's
    before = copy.deepcopy(model.state_dict())
    model(torch.ones(5, 4)).square().sum().backward()
    optimizer.step()
    moved = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {"0.weight", "0.bias"}
    assert bool((model[0].weight != before["0.weight"]).all())


FACTORS: dict[str, tuple[dict[str, object], dict[int, float]]] = {
    "constant": ({}, {10: 1.0, 55: 1.0, 100: 1.0}),
    "step": ({"milestones": (50, 80), "factor": 0.5}, {10: 1.0, 49: 1.0, 50: 0.5, 79: 0.5, 80: 0.25, 100: 0.25}),
    "cosine": ({}, {10: 1.0, 55: 0.5, 100: 0.0}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_give_factors(name: str) -> None:
    options, expected = FACTORS[name]
    schedule = LrSchedule(name=name, warmup=10, **options)  # type: ignore[arg-type]
    factors = [schedule.at(step, 100) for step in range(101)]
    assert all(math.isfinite(f) and 0 <= f <= 1 for f in factors)
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert {step: factors[step] for step in expected} == pytest.approx(expected, abs=1e-12)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert LrSchedule(name=name, **options).at(0, 100) == 1.0  # type: ignore[arg-type]
    assert Training(steps=100, schedule=schedule).schedule.at(100, 100) == factors[100]
    assert math.isfinite(LrSchedule(name=name, warmup=300, **options).at(250, 100))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
def test_models_are_built_from_their_seed_alone(name: str) -> None:
    shape, net = INPUTS.get(name, (1, 8, 8)), OPTIONS.get(name, Net())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    model, same, other = (MODELS[name](shape, 3, net, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert same_state(model.state_dict(), same.state_dict())
    dense = Mask.dense(model)
    assert all(bool((model.get_parameter(n) != other.get_parameter(n)).any()) for n in dense)
    x = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    outputs = model(x)
    assert outputs.shape == (4, 3)
    assert bool(outputs.isfinite().all())
    assert model.training
    assert list(dense)[-1] == "output.weight"
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), outputs)
    if name not in DROPS:
        return
    dropped = MODELS[name](shape, 3, Net(hidden=net.hidden, dropout=0.5, activation="tanh"), 1)
    assert not torch.equal(dropped(x), dropped(x))
    assert torch.equal(dropped.eval()(x), dropped(x))


@pytest.mark.parametrize("name", DATASETS)
def test_data_sets_are_covered_by_their_own_tests(name: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_data_*.py")]
    assert any(f'"{name}"' in text for text in texts)


def standardised(x: Tensor) -> Tensor:
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True, correction=0)


NORMALISED: dict[str, Callable[[Tensor], Tensor]] = {
    "unit": lambda x: x / x.max(),
    "pixel": lambda x: x / 255,
    "standard": standardised,
    "none": lambda x: x,
}


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_normalisations_are_what_they_say(name: str) -> None:
    x = torch.randint(0, 200, (50, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    found = NORMALISATIONS[name](x).apply(x)
    assert found.dtype == torch.float32
    assert torch.equal(x, before)
    assert torch.allclose(found.double(), NORMALISED[name](x.double()), atol=1e-5, rtol=1e-6)
    assert canonical(Training(steps=1, normalise=name))
    assert torch.equal(NORMALISATIONS[name](x).apply(x[:7]), found[:7])  # fitted once, applied anywhere
