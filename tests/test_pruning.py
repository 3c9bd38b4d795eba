"""Pruning removes exactly what it should: ties, nesting, bad scores, shuffled controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from helpers import random_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tombola.allocation import Layerwise, globally
from tombola.criteria import Criterion, Probe, Scores
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner, prune, shuffled


@dataclass(frozen=True, kw_only=True)
class Given:
    """A criterion that gives these scores."""

    scores: Mapping[str, Tensor]

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores."""
        return dict(self.scores)


class Holder(nn.Module):
    """Weights `a`, `b`, ... of layers without bias."""

    def __init__(self, **shapes: tuple[int, int]) -> None:
        super().__init__()
        for name, (rows, columns) in shapes.items():
            setattr(self, name, nn.Linear(columns, rows, bias=False, dtype=torch.float64))


def holder(a: tuple[int, int] = (4, 5), b: tuple[int, int] = (3, 4)) -> nn.Module:
    return Holder(a=a, b=b)


def drawn(mask: Mask, seed: int, values: int = 4) -> Scores:
    """Scores with many ties, both signs of zero among them."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, 3e300, -3e300, 2.0], dtype=torch.float64)[:values]
    return {n: table[torch.randint(0, values, shape, generator=generator)] for n, shape in mask.shapes.items()}


def by_sorting(scores: Scores, mask: Mask, keep: int) -> dict[str, list[bool]]:
    """The reference: Python's stable sort of all survivors by score, in module order."""
    places = [
        (float(score), name, i)
        for name in mask
        for i, (score, alive) in enumerate(zip(scores[name].flatten(), mask[name].flatten(), strict=True))
        if alive
    ]
    kept = {(name, i) for _, name, i in sorted(places, key=lambda place: place[0])[len(places) - keep :]}
    return {name: [(name, i) in kept for i in range(mask[name].numel())] for name in mask}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(2, 30))
def test_global_pruning_is_a_stable_sort(seed: int, values: int, keep: int) -> None:
    model = holder()
    mask = Mask.dense(model)
    scores = drawn(mask, seed, values)
    expected = by_sorting(scores, mask, keep)
    pruner = Pruner(criterion=Given(scores=dict(reversed(scores.items()))))  # in any order, with names
    if not all(any(places) for places in expected.values()):
        with pytest.raises(UsageError, match=r"would empty '[ab]\.weight'"):
            pruner(model, mask, keep)
        return
    once = pruner(model, mask, keep)
    assert {name: once[name].flatten().tolist() for name in once} == expected
    assert once.alive == keep
    assert once.within(mask)
    again = by_sorting(scores, once, max(2, keep // 2))
    if all(any(places) for places in again.values()):  # a pruned weight is no candidate, whatever its score
        twice = pruner(model, once, max(2, keep // 2))
        assert {name: twice[name].flatten().tolist() for name in twice} == again
        assert twice.within(once)


def test_equal_scores_go_by_position_in_module_order() -> None:
    model = holder((2, 2), (2, 2))
    mask = Mask.dense(model)
    equal = {name: torch.ones(shape, dtype=torch.float64) for name, shape in mask.shapes.items()}
    pruned = Pruner(criterion=Given(scores=equal))(model, mask, 5)
    assert pruned["a.weight"].tolist() == [[False, False], [False, True]]
    assert pruned.kept == {"a.weight": 1, "b.weight": 4}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_all_equal_scores_lose_exactly_k(dtype: torch.dtype) -> None:
    layer = nn.Linear(6, 7)
    dense = Mask.dense(layer)
    pruner = Pruner(criterion=Given(scores={"weight": torch.full((7, 6), 0.25, dtype=dtype)}))
    for keep in (42, 41, 20, 2, 1):
        assert pruner(layer, dense, keep)["weight"].flatten().tolist() == [False] * (42 - keep) + [True] * keep


def test_nothing_to_remove_and_one_weight_left() -> None:
    layer = nn.Linear(6, 7)
    mask = random_mask(layer)
    for allocation in (globally, Layerwise()):
        assert Pruner(allocation=allocation)(layer, mask, mask.alive) == mask
    one = Pruner()(layer, mask, 1)
    assert one.alive == 1
    assert bool(one["weight"].flatten()[(layer.weight.detach().abs() * mask["weight"]).argmax()])
    assert Pruner()(layer, one, 1) == one


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.floats(0.05, 1.0), min_size=1, max_size=4), st.booleans())
def test_masks_of_successive_cuts_are_nested(seed: int, densities: list[float], layerwise: bool) -> None:
    model = holder((10, 6), (8, 10))
    mask = random_mask(model, 0.9, seed)
    for name, weight in model.named_parameters():
        weight.data.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed + len(name))))
    for density in sorted(densities, reverse=True):
        keep = max(20, round(density * mask.alive))
        if keep > mask.alive:
            continue
        after = Pruner(allocation=Layerwise() if layerwise else globally)(model, mask, keep)
        assert after.alive == keep
        assert after.within(mask)
        kept, gone = (
            torch.cat([model.get_parameter(n).abs()[p] for n, p in places.items()])
            for places in (after, {n: mask[n] & ~after[n] for n in mask})
        )
        assert layerwise or not len(gone) or kept.min() >= gone.max()
        mask = after


@pytest.mark.parametrize("allocation", [globally, Layerwise()])
def test_bad_scores_are_refused_by_name(allocation: Layerwise) -> None:
    model = holder()
    dense = Mask.dense(model)
    good = drawn(dense, 0)
    bad = {**good, "b.weight": good["b.weight"].clone()}
    bad["b.weight"][1, 2] = torch.nan

    def cut(scores: Scores, mask: Mask = dense, keep: int = 30) -> Mask:
        return Pruner(criterion=Given(scores=scores), allocation=allocation)(model, mask, keep)

    with pytest.raises(UsageError, match=r"Given scores \'b\.weight\' nan at \[1, 2\] and at 0 more places"):
        cut(bad)
    with pytest.raises(UsageError, match=r"gave no score for 'b\.weight'; .* shape \(3, 4\)"):
        cut({"a.weight": good["a.weight"]})
    with pytest.raises(UsageError, match=r"gave \(5, 4\) for 'a\.weight'; .* shape \(4, 5\)"):
        cut({**good, "a.weight": good["a.weight"].t()})
    assert cut({**good, "other": torch.zeros(3)}).alive == 30
    hidden = Mask({n: p.clone().index_put_((torch.tensor(1), torch.tensor(2)), ~p[1, 2]) for n, p in dense.items()})
    assert cut(bad, hidden).alive == 30  # what is pruned already may have any score
    assert not cut(bad, hidden)["b.weight"][1, 2]


def test_an_emptied_layer_is_refused_by_name() -> None:
    model = holder()
    mask = Mask.dense(model)
    scores = {"a.weight": torch.ones(4, 5), "b.weight": torch.zeros(3, 4)}
    pruner = Pruner(criterion=Given(scores=scores))
    assert pruner(model, mask, 21).kept == {"a.weight": 20, "b.weight": 1}
    with pytest.raises(UsageError, match=r"would empty 'b\.weight' \(12 left before\); .*layerwise"):
        pruner(model, mask, 20)


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"a.weight": 20}, r"names other tensors than the mask: b\.weight"),
        ({"a.weight": 20, "b.weight": 9}, r"gave 29 weights in all; expected 30: \{'a\.weight': 20"),
        ({"a.weight": 21, "b.weight": 9}, r"gave more weights than are left: 'a\.weight' 21 of 20"),
        ({"a.weight": 30, "c": 0}, r"names other tensors than the mask: b\.weight, c"),
        ({"a.weight": 20.0, "b.weight": 10.0}, r"gave \{'a\.weight': 20\.0.*; expected a whole number for each"),
        (None, r"gave None; expected a whole number for each of a\.weight, b\.weight"),
    ],
)
def test_an_allocation_that_does_not_add_up_is_refused(counts: Any, told: str) -> None:
    model = holder()
    with pytest.raises(UsageError, match=r"The allocation <lambda> " + told):
        Pruner(allocation=lambda scores, mask, keep: counts)(model, Mask.dense(model), 30)


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        (None, r"gave a NoneType; expected a dict"),
        ({"a.weight": torch.ones(4, 5)}, r"gave no score for 'b\.weight'"),
        ({"a.weight": 1.0}, r"gave a float for 'a\.weight'; expected one score for each weight, .* \(4, 5\)"),
        ({"a.weight": torch.ones(4)}, r"gave \(4,\) for 'a\.weight'"),
        ({"a.weight": torch.ones(4, 5) > 0}, r"gave bool scores for 'a\.weight'; expected a dense tensor"),
        ({"a.weight": torch.ones(4, 5).to_sparse()}, r"gave sparse_coo scores for 'a\.weight'"),
    ],
)
def test_scores_of_another_kind_are_refused(scores: Any, told: str) -> None:
    model = holder()
    mask = Mask.dense(model)
    with pytest.raises(UsageError, match=r"The criterion <lambda> " + told):
        Pruner(criterion=lambda model, mask, probe: scores)(model, mask, 10)
    with pytest.raises(UsageError, match=r"The granularity <lambda> " + told):
        Pruner(granularity=lambda given, mask, model: scores)(model, mask, 10)


@dataclass(frozen=True, kw_only=True)
class Adjusts:
    """Keeps large weights, and gives these as their new values."""

    values: Any

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores."""
        return {name: weight.detach().abs() for name, weight in model.named_parameters()}

    def adjusted(self, model: nn.Module, before: Mask, after: Mask, probe: Probe) -> Any:
        """What was given."""
        return self.values


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (None, r"Adjusts\.adjusted gave a NoneType; expected a dict"),
        ({"a.weight": torch.ones(1, 5)}, r"adjusts 'a\.weight' to \(1, 5\); expected a tensor of shape \(4, 5\)"),
        ({"c.weight": torch.ones(1, 5)}, r"adjusts 'c\.weight' to \(1, 5\); expected names of parameters"),
        ({"a.weight": torch.full((4, 5), torch.nan)}, r"adjusts 'a\.weight' to numbers that are not finite"),
    ],
)
def test_adjustments_that_do_not_fit_are_refused(values: Any, told: str) -> None:
    model = holder()
    with pytest.raises(UsageError, match=told):
        Pruner(criterion=Adjusts(values=values))(model, Mask.dense(model), 10)


@pytest.mark.parametrize(
    ("batches", "told"),
    [
        ([torch.ones(6, 5)], r"Batch 0 of the probe for magnitude is \(6, 5\); expected a pair of tensors"),
        ((torch.ones(6, 5), torch.ones(6)), r"Batch 0 .* is \(6, 5\); expected a pair of tensors"),
        ([(torch.ones(6, 5), torch.ones(7))], r"Batch 0 .* has 6 inputs and 7 targets"),
        ([(torch.ones(6, 5), torch.ones(6)), (torch.full((2, 5), torch.nan), torch.ones(2))], r"Batch 1 .* not finite"),
        (iter([]), r"are a list_iterator; expected a list of \(inputs, targets\)"),
    ],
)
def test_a_probe_that_is_none_is_refused(batches: Any, told: str) -> None:
    model = holder()
    with pytest.raises(UsageError, match=told):
        prune(model, Mask.dense(model), density=0.5, probe=Probe(batches=batches))


def test_a_probe_that_the_network_does_not_take_is_told_beside_its_error() -> None:
    model = nn.Sequential(nn.Linear(5, 3))
    probe = Probe(batches=[(torch.ones(6, 4), torch.ones(6).long())], loss=nn.functional.cross_entropy)
    with pytest.raises(RuntimeError) as told:
        prune(model, Mask.dense(model), density=0.5, criterion="snip", probe=probe)
    assert "inputs (6, 4) of float32 and targets (6,) of int64" in told.value.__notes__[0]


def test_a_pruner_refuses_impossible_counts_and_foreign_masks() -> None:
    model = holder()
    mask = Mask.dense(model)
    for keep in (0, -1, 33):
        with pytest.raises(UsageError, match=rf"Cannot keep {keep} of 32 surviving weights; expected 1 to 32"):
            Pruner()(model, mask, keep)
    with pytest.raises(UsageError, match=r"names 'a\.weight', which the model does not have"):
        Pruner()(nn.Linear(2, 2), mask, 3)


def test_prune_keeps_the_density_asked_for() -> None:
    layer = nn.Linear(10, 11, dtype=torch.float64)
    mask = Mask.dense(layer)
    for density in (1.0, 0.5, 0.123, 1 / 110):
        after = prune(layer, mask, density=density)
        assert after.alive == round(density * 110)
        assert after.within(mask)
        mask = after
    largest = int(layer.weight.abs().argmax())
    assert mask["weight"].flatten().nonzero().tolist() == [[largest]]
    by_name = prune(layer, Mask.dense(layer), density=0.3, criterion="random", allocation="layerwise")
    assert by_name.alive == 33
    assert by_name != prune(layer, Mask.dense(layer), density=0.3, criterion="random", probe=Probe(seed=1))
    scores: Criterion = Given(scores={"weight": -layer.weight.detach().abs()})
    assert not prune(layer, Mask.dense(layer), density=0.5, criterion=scores)["weight"].flatten()[largest]


def test_prune_says_what_is_wrong_with_its_arguments() -> None:
    layer = nn.Linear(10, 10)
    half = prune(layer, Mask.dense(layer), density=0.5)
    for bad in (0.0, -0.1, 1.01, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=rf"density={bad!r}; expected kept / prunable, above 0 and at most 1"):
            prune(layer, half, density=bad)
    with pytest.raises(UsageError, match=r"density=0\.6 keeps 60 weights, but the mask has only 50 left"):
        prune(layer, half, density=0.6)
    with pytest.raises(UsageError, match="Cannot keep 0 of 50"):
        prune(layer, half, density=0.001)
    with pytest.raises(UsageError, match=r"Unknown criterion 'magnitud'\. Did you mean 'magnitude'\?"):
        prune(layer, half, density=0.1, criterion="magnitud")
    with pytest.raises(UsageError, match=r"Unknown allocation 'x'\. Known: .*global, "):
        prune(layer, half, density=0.1, allocation="x")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 0.9))
def test_a_shuffled_mask_has_as_many_weights_at_other_places(seed: int, density: float) -> None:
    mask = random_mask(holder((8, 9), (6, 7)), density, seed)
    one, two = shuffled(mask, seed), shuffled(mask, seed + 1)
    for other in (one, two):
        assert other.kept == mask.kept
        assert other.shapes == mask.shapes
        assert other != mask
    assert one == shuffled(mask, seed)
    assert one != two


def test_every_arrangement_is_drawn_about_as_often() -> None:
    mask = Mask({"w": torch.arange(5) == 0})
    found = [int(shuffled(mask, seed)["w"].nonzero()) for seed in range(400)]
    counts = [found.count(place) for place in range(5)]
    assert counts[0] == 0  # never the ticket's own
    assert all(60 < count < 140 for count in counts[1:])


def test_tensors_are_shuffled_independently() -> None:
    places = torch.rand(10, 10, generator=torch.Generator().manual_seed(0)) < 0.5
    other = shuffled(Mask({"a": places, "b": places}), 0)
    assert not torch.equal(other["a"], other["b"])


def test_a_mask_without_another_arrangement_is_refused() -> None:
    dense = Mask.dense(holder())
    with pytest.raises(UsageError, match=r"Mask\(2 tensors, 32 of 32 kept.*no other arrangement"):
        shuffled(dense, 0)
    tiny = Mask({"a": dense["a.weight"], "b": torch.tensor([True, False])})
    assert shuffled(tiny, 0)["b"].tolist() == [False, True]
