"""What every entry of a registry must keep; the tests go over the registries themselves, so none can be left out."""

from __future__ import annotations

import copy
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

from tombola.allocation import ALLOCATIONS
from tombola.criteria import CRITERIA, Probe
from tombola.data import DATASETS, NORMALISATIONS
from tombola.masks import Mask
from tombola.models.net import Net
from tombola.models.registry import MODELS
from tombola.pruning import Pruner, prune
from tombola.recipes import recipe as recipes
from tombola.requests import Moment
from tombola.search import CONTROLS, SEARCHES, Reset
from tombola.specs import canonical
from tombola.streams import seeded
from tombola.training.optimizers import OPTIMIZERS, SCHEDULES, LrSchedule, Optimizer
from tombola.training.settings import Training

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "double": lambda: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)).double(),
    "single": lambda: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)),
    "half": lambda: nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)).bfloat16(),
    "conv": lambda: nn.Sequential(nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 4)),
    "rnn": lambda: nn.LSTM(4, 5, num_layers=2),
    "attention": lambda: nn.MultiheadAttention(8, 2),
}
OPTIONS = {"mlp": Net(hidden=(7, 5))}
INPUTS: dict[str, tuple[int, ...]] = {}  # networks that need other inputs than (1, 8, 8)


def network(name: str, seed: int = 0) -> nn.Module:
    with seeded(seed):
        return NETWORKS[name]()


def test_a_recipe_can_name_every_entry_and_nothing_else() -> None:
    assert set(get_args(recipes.CriterionName)) == set(CRITERIA)
    assert set(get_args(recipes.AllocationName)) == set(ALLOCATIONS)
    assert set(get_args(recipes.SearchName)) == set(SEARCHES)
    assert set(get_args(recipes.ControlName)) == set(CONTROLS)
    assert set(get_args(recipes.ResetName)) == {reset.value for reset in Reset}
    for value in (*(entry.criterion for entry in CRITERIA.values()), *ALLOCATIONS.values()):
        assert canonical(value)  # it can be identified


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", CRITERIA)
class TestCriteria:
    def test_scores_fit_the_mask(self, name: str, kind: str) -> None:
        model = network(kind)
        mask = random_mask(model, 0.6)
        scores = CRITERIA[name].criterion(model, mask, Probe(seed=3))
        weights = dict(model.named_parameters())
        assert list(scores) == list(mask)
        for tensor, score in scores.items():
            assert score.shape == weights[tensor].shape
            assert score.dtype in {weights[tensor].dtype, torch.float32}
            assert score.device == weights[tensor].device
            assert not score.requires_grad
            assert bool(score.isfinite().all())
            assert len(score.unique()) > 1

    def test_nothing_is_changed_and_nothing_is_shared(self, name: str, kind: str) -> None:
        model = network(kind).eval()
        mask, before = random_mask(model, 0.6), {n: t.clone() for n, t in model.state_dict().items()}
        torch.manual_seed(5)
        state = torch.get_rng_state()
        scores = CRITERIA[name].criterion(model, mask, Probe(seed=3))
        assert torch.equal(torch.get_rng_state(), state)
        for score in scores.values():
            score.fill_(7.0)
        assert same_state(
            {n: t.float() for n, t in model.state_dict().items()}, {n: t.float() for n, t in before.items()}
        )
        assert not model.training
        assert all(p.grad is None for p in model.parameters())

    def test_the_same_call_gives_the_same_scores(self, name: str, kind: str) -> None:
        model = network(kind)
        mask = random_mask(model, 0.6)
        scores = [CRITERIA[name].criterion(copy.deepcopy(model), mask, Probe(seed=3)) for _ in range(2)]
        assert all(torch.equal(scores[0][tensor], scores[1][tensor]) for tensor in mask)

    def test_a_pruner_keeps_the_largest_scores(self, name: str, kind: str) -> None:
        model = network(kind)
        mask = random_mask(model, 0.8)
        criterion = CRITERIA[name].criterion
        scores = criterion(model, mask, Probe(seed=3))
        keep = mask.alive * 2 // 3
        after = Pruner(criterion=criterion)(model, mask, keep, Probe(seed=3))
        assert after.alive == keep
        assert after.within(mask)
        kept = torch.cat([scores[n][after[n]].double() for n in mask])
        gone = torch.cat([scores[n][mask[n] & ~after[n]].double() for n in mask])
        assert len(gone) == mask.alive - keep
        assert kept.min() >= gone.max()
        assert isinstance(CRITERIA[name].scored_at, Moment)


@pytest.mark.parametrize("name", ALLOCATIONS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.3, 1.0))
def test_allocations_add_up(name: str, seed: int, share: float) -> None:
    model = nn.Sequential(nn.Linear(9, 8), nn.Linear(8, 7), nn.Linear(7, 6)).double()
    mask = random_mask(model, 0.8, seed)
    generator = torch.Generator().manual_seed(seed)
    scores = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in mask.shapes.items()}
    before = {n: score.clone() for n, score in scores.items()}
    keep = math.ceil(share * mask.alive)
    counts = ALLOCATIONS[name](scores, mask, keep)
    assert list(counts) == list(mask)
    assert sum(counts.values()) == keep
    assert all(isinstance(n, int) and 0 <= n <= mask.kept[tensor] for tensor, n in counts.items())
    assert ALLOCATIONS[name](scores, mask, keep) == counts
    assert ALLOCATIONS[name](scores, mask, mask.alive) == mask.kept
    assert same_state(scores, before)
    assert prune(model, mask, density=keep / mask.total, allocation=name).alive == keep


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
