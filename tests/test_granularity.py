"""Granularity: whole units go, exactly as many weights as asked, the output layer weight by weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from criteria_helpers import network, probe
from helpers import random_mask, tiny_data, tiny_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from test_contracts_criteria import QUICK, REFUSED
from test_looking import Conv1D
from torch import Tensor, nn

import tombola
from tombola.allocation import Layerwise, globally
from tombola.criteria import CRITERIA, Probe, Scores, criterion_of, needs_of
from tombola.errors import UsageError
from tombola.granularity import GRANULARITIES, Filter, Granularity, Rule, Unit, by_unit, granularity_of, unit_dim
from tombola.granularity.units import as_units, hidden_of, spread_units
from tombola.masks import Mask
from tombola.pruning import Pruner, prune
from tombola.scopes import Scope
from tombola.shrinking import shrink
from tombola.store import Store
from tombola.tickets.stored import stored_ticket

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 4), (5,)),
    "transformers": (lambda: Conv1D(4, 5), (1, 5)),
    "convolution": (lambda: nn.Conv2d(3, 4, (3, 2)), (1, 3, 3, 2)),
    "groups": (lambda: nn.Conv1d(4, 6, 2, groups=2), (1, 4, 2)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, (3, 2)), (1, 3, 1, 1)),
    "transposed, groups": (lambda: nn.ConvTranspose1d(4, 6, 2, groups=2), (1, 4, 1)),
}


@pytest.fixture(autouse=True)
def drawn() -> None:
    """The same draws whatever ran before."""
    torch.manual_seed(0)


def hand(name: str) -> Tensor:
    """Scores of two units, one of their weights pruned."""
    score, alive = torch.tensor([[1.0, -4.0, 9.0], [2.0, 0.0, -1.0]]), torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    return by_unit(score, alive, 0, Rule(name))


def test_rules_by_hand() -> None:
    assert hand("mean").tolist() == pytest.approx([-1.5, 1 / 3])
    assert hand("sum").tolist() == [-3.0, 1.0]
    assert hand("max").tolist() == [1.0, 2.0]
    assert hand("norm").tolist() == pytest.approx([17**0.5, 5**0.5])
    nothing = torch.tensor([[True, True], [False, False]])
    for rule in Rule:
        assert by_unit(torch.full((2, 2), -3.0), nothing, 0, rule)[1] == 0
        columns = by_unit(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.ones(2, 2).bool(), 1, rule)
        assert torch.equal(columns, by_unit(torch.tensor([[1.0, 3.0], [2.0, 4.0]]), torch.ones(2, 2).bool(), 0, rule))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_unit_is_what_leads_into_one_output(kind: str) -> None:
    """Against autograd: the weights that the output unit's gradient reaches."""
    build, shape = LAYERS[kind]
    layer = build()
    out = layer(torch.rand(shape) + 1)
    outputs = out.flatten() if out.ndim < 3 else out[0].flatten(1).sum(1)
    numbers = torch.arange(len(outputs)).double()
    spread = spread_units(numbers, layer, "weight", tuple(layer.weight.shape))
    assert as_units(layer, "weight", spread).tolist() == [
        [n] * (spread.numel() // len(numbers)) for n in range(len(numbers))
    ]
    for unit, output in enumerate(outputs):
        (gradient,) = torch.autograd.grad(output, [layer.weight], retain_graph=True)
        assert torch.equal(gradient != 0, spread == unit)
    if "groups" not in kind:
        assert layer.weight.shape[unit_dim(layer, "weight")] == len(numbers)


class Everything(nn.Sequential):
    """A layer of each layout, and a head."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 4, 2), nn.ConvTranspose2d(4, 6, 2, groups=2), nn.ConvTranspose2d(6, 3, 2), Conv1D(5, 4),
            nn.Linear(5, 6), nn.Linear(6, 3),
        )  # fmt: skip


def tied(mask: Mask, seed: int, values: int) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randint(-1, values, shape, generator=generator).double() for n, shape in mask.shapes.items()}


def given_scores(scores: Scores) -> Callable[[nn.Module, Mask, Probe], Scores]:
    return lambda model, mask, probe: scores


def in_part(model: nn.Module, before: Mask, after: Mask, name: str) -> int:
    """Units of which some survivors went and some stayed."""
    had, has = (as_units(model, name, mask[name]).sum(1) for mask in (before, after))
    return int(((has > 0) & (has < had)).sum())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), values=st.integers(0, 6), rule=st.sampled_from(Rule), share=st.floats(0.3, 1.0),
    dense=st.booleans(), everywhere=st.booleans(),
)  # fmt: skip
def test_all_units_but_one_of_a_budget_go_whole(
    seed: int, values: int, rule: Rule, share: float, dense: bool, everywhere: bool
) -> None:
    model = Everything()
    shapes = {n: tuple(w.shape) for n, w in model.named_parameters() if w.ndim > 1}
    mask = Mask({n: torch.ones(shape).bool() for n, shape in shapes.items()})
    if not dense:
        generator = torch.Generator().manual_seed(seed)
        mask = Mask({n: torch.rand(s, generator=generator) < 0.8 for n, s in shapes.items()})
    keep, scores = round(share * mask.alive), tied(mask, seed, values)
    pruner = Pruner(
        criterion=given_scores(scores), allocation=globally if everywhere else Layerwise(), granularity=Unit(rule=rule)
    )
    try:
        after = pruner(model, mask, keep)
    except UsageError as error:
        assert "would empty" in str(error)
        return
    assert after.alive == keep
    assert after.within(mask)
    parts = [in_part(model, mask, after, name) for name in list(mask)[:-1]]
    assert sum(parts) <= 1 if everywhere else max(parts) <= 1
    for name in list(mask)[:-1]:  # what went whole had no larger score than what stayed whole
        units = by_unit(as_units(model, name, scores[name]), as_units(model, name, mask[name]), 0, rule)
        had, has = (as_units(model, name, m[name]).sum(1) for m in (mask, after))
        gone, stayed = units[(had > 0) & (has == 0)], units[(had > 0) & (has == had)]
        assert not (len(gone) and len(stayed)) or gone.max() <= stayed.min()


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 1e300, -2.3e-308])
def test_equal_units_of_a_transposed_layout_go_one_after_the_other(value: float) -> None:
    model = nn.Sequential(nn.ConvTranspose1d(3, 4, 2), nn.Linear(3, 2))
    mask = Mask.dense(model)
    scores = {n: torch.full(shape, value, dtype=torch.float64) for n, shape in mask.shapes.items()}
    counts = {"0.weight": 12, "1.weight": 6}
    pruner = Pruner(criterion=given_scores(scores), allocation=lambda *_: counts, granularity=Unit())
    after = pruner(model, mask, 18)
    assert as_units(model, "0.weight", after["0.weight"]).sum(1).tolist() == [0, 0, 6, 6]


@pytest.mark.parametrize("rule", Rule)
def test_the_output_layer_is_pruned_weight_by_weight(rule: Rule) -> None:
    model = Everything()
    mask = Mask({n: torch.ones(w.shape).bool() for n, w in model.named_parameters() if w.ndim > 1})
    scores = tied(mask, 0, 9)
    found = Unit(rule=rule)(scores, mask, model)
    assert torch.equal(found["5.weight"], scores["5.weight"])
    assert all(as_units(model, n, found[n]).unique(dim=1).shape[1] == 1 for n in list(mask)[:-1])
    turned = Mask({n: mask[n] for n in reversed(list(mask))})  # it is the model that says what is last
    again = Unit(rule=rule)(scores, turned, model)
    assert all(torch.equal(again[n], found[n]) for n in mask)


def test_a_protected_output_layer_makes_no_other_layer_the_last() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2))
    mask = Mask.dense(model, Scope(protect=("2.*",)))
    assert hidden_of(model, mask) == ["0.weight", "1.weight"]
    assert hidden_of(nn.Linear(3, 4), Mask.dense(nn.Linear(3, 4))) == []


@pytest.mark.parametrize("rule", Rule)
def test_filters_are_of_convolutions_only(rule: Rule) -> None:
    model = Everything()
    mask = Mask({n: torch.ones(w.shape).bool() for n, w in model.named_parameters() if w.ndim > 1})
    scores = tied(mask, 0, 9)
    found, whole = Filter(rule=rule)(scores, mask, model), Unit(rule=rule)(scores, mask, model)
    for name in mask:
        expected = whole if name[0] in "012" else scores
        assert torch.equal(found[name], expected[name])
    fully = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 1))
    drawn = tied(Mask.dense(fully), 0, 9)
    assert torch.equal(Filter()(drawn, Mask.dense(fully), fully)["1.weight"], drawn["1.weight"])


@pytest.mark.parametrize("name", GRANULARITIES)
def test_granularities_read_and_write_nothing_else(name: str) -> None:
    model = network("conv")
    mask, granularity = random_mask(model, 0.6), granularity_of(name)
    scores = tied(mask, 1, 5)
    before = {n: score.clone() for n, score in scores.items()}
    found = granularity(scores, mask, model)
    assert list(found) == list(mask)
    assert {n: tuple(score.shape) for n, score in found.items()} == mask.shapes
    assert all(torch.equal(scores[n], before[n]) for n in mask)
    other = {n: score.where(mask[n], 77.0) for n, score in scores.items()}  # what is pruned has no say
    again = granularity(other, mask, model)
    assert all(torch.equal(found[n][mask[n]], again[n][mask[n]]) for n in mask)


@pytest.mark.parametrize("allocation", ["layerwise", "global"])
@pytest.mark.parametrize("name", [n for n in CRITERIA if "conv" not in REFUSED.get(n, ())])
def test_every_criterion_prunes_by_unit(name: str, allocation: str) -> None:
    model = network("conv")
    mask = Mask.dense(model)
    after = prune(
        model, mask, density=0.7, criterion=QUICK.get(name, name), allocation=allocation,
        granularity="unit:rule=max", probe=probe(model, "conv"),
    )  # fmt: skip
    assert after.alive == round(0.7 * mask.total)
    assert in_part(model, mask, after, "0.weight") <= 1


@pytest.mark.parametrize("name", [n for n in CRITERIA if needs_of(criterion_of(QUICK.get(n, n))).units])
def test_what_scores_units_takes_them_whole_by_itself(name: str) -> None:
    model = network("conv")
    mask = Mask.dense(model)
    after = prune(model, mask, density=0.7, criterion=QUICK.get(name, name), probe=probe(model, "conv"))
    assert in_part(model, mask, after, "0.weight") <= 1


def cut(model: nn.Module, counts: dict[str, int], granularity: Granularity, x: Tensor) -> nn.Module:
    """The model without what goes, given what each tensor keeps."""
    mask = Mask.dense(model)
    pruner = Pruner(allocation=lambda *_: counts, granularity=granularity)
    shrunk = shrink(model, pruner(model, mask, sum(counts.values())), x, strict=True)
    assert not shrunk.fallback
    return shrunk.model


def test_units_of_a_perceptron_are_really_gone() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
    counts = {"0.weight": 10 * 8, "2.weight": 7 * 16, "4.weight": 48}
    small = cut(model, counts, Unit(rule=Rule.NORM), torch.randn(3, 8))
    assert [(m.in_features, m.out_features) for m in small if isinstance(m, nn.Linear)] == [(8, 10), (10, 7), (7, 4)]
    kept = model[0].weight.norm(dim=1).sort().values[-10:]
    assert torch.allclose(small[0].weight.norm(dim=1).sort().values, kept)


def test_filters_of_a_convolutional_network_are_really_gone() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4),
    ).eval()  # fmt: skip
    counts = {"0.weight": 4 * 18, "4.weight": 5 * 54, "9.weight": 48, "11.weight": 24}
    small = cut(model, counts, Filter(rule=Rule.SUM), torch.randn(2, 2, 8, 8))
    convolutions = [m for m in small if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [(2, 4), (4, 5)]
    assert [m.num_features for m in small if isinstance(m, nn.BatchNorm2d)] == [4, 5]
    assert [(m.in_features, m.out_features) for m in small if isinstance(m, nn.Linear)] == [(5, 6), (6, 4)]


@pytest.mark.parametrize(("criterion", "granularity"), [("magnitude", "unit"), ("apoz", "natural")])
def test_an_experiment_by_units(criterion: str, granularity: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(replicates=1, controls=("shuffled",), criterion=criterion, granularity=granularity, rate=0.5)
    found = tombola.run(recipe, data=tiny_data(), store=tmp_path)
    assert not found.failures
    assert not found.ended
    assert [row["kept"] for row in found.document["arms"]["ticket"]] == [176, 64 + 36, 32 + 27]
    ticket = stored_ticket(Store(tmp_path), found.experiment).ticket
    rows = next(iter(ticket.mask.values())).sum(1)
    assert sorted(rows.tolist()) == [0] * 12 + [8] * 4  # half of the units at each level, whole
