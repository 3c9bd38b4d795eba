"""Allocations: published densities, closed forms, and what each of them promises for any network."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tombola.allocation import ALLOCATIONS, Allocation, Reordering, allocation_of, globally
from tombola.allocation.depth import Depth, Factor
from tombola.allocation.lamp import adapted, lamp
from tombola.allocation.per_layer import PerLayer
from tombola.allocation.sharing import proportional, rounded
from tombola.allocation.smart_ratio import SmartRatio
from tombola.allocation.unit_budget import UnitBudget
from tombola.errors import Emptied, UsageError
from tombola.experiment import prepare
from tombola.masks import Mask
from tombola.recipes import RECIPES
from tombola.tensors import smallest

Shapes = dict[str, tuple[int, ...]]
LENET: Shapes = {"fc1": (300, 784), "fc2": (100, 300), "output": (10, 100)}
CONV4: Shapes = {
    "conv1": (64, 3, 3, 3),
    "conv2": (64, 64, 3, 3),
    "conv3": (128, 64, 3, 3),
    "conv4": (128, 128, 3, 3),
    "fc1": (256, 8192),
    "fc2": (256, 256),
    "output": (10, 256),
}
BY_SIZE = ("uniform", "uniform-plus", "er", "erk", "smart-ratio", "per-layer:a*=0.9,*=0.3")


def dense(shapes: Shapes) -> Mask:
    return Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})


def densities(allocation: Allocation, shapes: Shapes, density: float) -> dict[str, float]:
    mask = dense(shapes)
    keep = round(density * mask.total)
    counts = allocation({}, mask, keep)
    assert sum(counts.values()) == keep
    return {name: count / math.prod(shapes[name]) for name, count in counts.items()}


def draws(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}


def cut(allocation: Allocation, scores: dict[str, Tensor], mask: Mask, keep: int) -> Mask:
    """What `Pruner` makes of an allocation, without its checks."""
    if isinstance(allocation, Reordering):
        scores = allocation.reordered(scores, mask, keep)
    counts, left = allocation(scores, mask, keep), mask.kept
    gone = {n: smallest([scores[n]], left[n] - counts[n], [mask[n]])[0] for n in mask}
    return Mask({n: mask[n] & ~gone[n] for n in mask})


@pytest.mark.parametrize(
    ("sparsity", "expected"),
    [
        (0.8, (0.1622, 0.4694, 1.0)),
        (0.9, (0.0796, 0.2302, 1.0)),
        (0.95, (0.0385, 0.1113, 0.9185)),
        (0.98, (0.0154, 0.0445, 0.3674)),
        (0.99, (0.0077, 0.0223, 0.1837)),
    ],
)
@pytest.mark.parametrize("name", ["er", "erk"])
def test_erdos_renyi_densities_of_lenet(name: str, sparsity: float, expected: Sequence[float]) -> None:
    found = densities(allocation_of(name), LENET, 1 - sparsity)
    for (layer, density), published in zip(found.items(), expected, strict=True):
        assert density == pytest.approx(published, abs=0.00005 + 1 / math.prod(LENET[layer]))


def test_erdos_renyi_kernel_densities_of_conv4() -> None:
    found = densities(allocation_of("erk"), CONV4, 0.1)
    assert list(found.values()) == pytest.approx([1, 0.0906, 0.0670, 0.0443, 0.1004, 0.1948, 1], abs=0.0001)


def test_erdos_renyi_counts_the_channels_alone() -> None:
    """Solved by hand: 16 = e (3 + 5) + e (5 + 3) for a 1 x 1 convolution, and 4 times that share for a 2 x 2 one."""
    shapes: Shapes = {"a": (5, 3, 2, 2), "b": (3, 5)}
    assert allocation_of("er")({}, dense(shapes), 40) == {"a": 32, "b": 8}
    assert allocation_of("erk")({}, dense(shapes), 20) == {"a": 12, "b": 8}


def test_uniform_is_exact_by_largest_remainders() -> None:
    mask = dense({"a": (10,), "b": (10,), "c": (13,)})
    assert allocation_of("uniform")({}, mask, 8) == {"a": 3, "b": 2, "c": 3}  # 2.42, 2.42, 3.15
    assert allocation_of("uniform")({}, mask, 33) == {"a": 10, "b": 10, "c": 13}
    thin = Mask({"a": torch.arange(10) < 1, "b": torch.ones(10, dtype=torch.bool)})
    assert allocation_of("uniform")({}, thin, 8) == {"a": 1, "b": 7}  # what a has not, b has


def test_uniform_plus_spares_both_ends() -> None:
    shapes: Shapes = {"first": (4, 3, 3, 3), "middle": (40, 50), "output": (10, 40)}
    found = allocation_of("uniform-plus")({}, dense(shapes), 388)
    assert found == {"first": 108, "middle": 200, "output": 80}  # whole; the rest; a fifth
    many = allocation_of("uniform-plus")({}, dense(shapes), 108 + 1200)
    assert many == {"first": 108, "middle": 1000, "output": 200}  # above a fifth: as dense as the others
    assert allocation_of("uniform-plus:last=0")({}, dense(shapes), 108 + 240)["output"] == 40
    flat: Shapes = {"first": (4, 3, 9), "middle": (40, 50), "output": (10, 40)}
    assert allocation_of("uniform-plus")({}, dense(flat), 388)["first"] < 20
    with pytest.raises(
        Emptied, match=r"108 weights of 'first' and 80 weights of 'output', 8 more than the 180 weights"
    ):
        allocation_of("uniform-plus")({}, dense(shapes), 180)


def test_smart_ratio_by_hand() -> None:
    """Four layers with the output: 20 : 12 : 6, and the output at 0.3."""
    shapes: Shapes = {"a": (10, 10), "b": (10, 20), "c": (20, 10), "output": (5, 20)}
    found = SmartRatio()({}, dense(shapes), 170)
    assert found == {"a": 50, "b": 60, "c": 30, "output": 30}  # 140 in 20 x 100 : 12 x 200 : 6 x 200
    over = SmartRatio()({}, dense(shapes), 380)
    assert over == {"a": 100, "b": 175, "c": 75, "output": 30}  # 125 : 150 : 75, of which 25 are pushed on to b
    full = SmartRatio()({}, dense(shapes), 580)
    assert full == {"a": 100, "b": 200, "c": 200, "output": 80}
    assert SmartRatio(output=0.5)({}, dense(shapes), 190)["output"] == 50
    convolution = {**shapes, "output": (5, 20, 1)}  # no matrix: a layer as the others
    assert SmartRatio()({}, dense(convolution), 290) == {"a": 100, "b": 120, "c": 60, "output": 10}  # 20 : 12 : 6 : 2
    with pytest.raises(Emptied, match=r"30 weights of 'output', 10 more than the 20 asked for"):
        SmartRatio()({}, dense(shapes), 20)


def test_per_layer_densities_are_met_and_scaled() -> None:
    shapes: Shapes = {"fc1.weight": (10, 20), "fc2.weight": (10, 10), "output.weight": (5, 10)}
    chosen = allocation_of("per-layer:*fc1*=0.1,*fc*=0.5,*=0.8")
    assert chosen == PerLayer(densities=(("*fc1*", 0.1), ("*fc*", 0.5), ("*", 0.8)))  # the first that fits
    assert chosen({}, dense(shapes), 110) == {"fc1.weight": 20, "fc2.weight": 50, "output.weight": 40}
    assert chosen({}, dense(shapes), 55) == {"fc1.weight": 10, "fc2.weight": 25, "output.weight": 20}
    assert chosen({}, dense(shapes), 290) == {"fc1.weight": 140, "fc2.weight": 100, "output.weight": 50}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("per-layer:*fc1*=0.1", "no pattern that fits 'fc2.weight'; add one for the rest"),
        ("per-layer:fc3*=0.1,*=0.5", r"no tensor goes by the pattern 'fc3\*'"),
        ("per-layer:*=0.5,fc1*=0.1", r"no tensor goes by the pattern 'fc1\*' .*\. Put it before '\*'\."),
        ("per-layer:*=0", r"allocation 'per-layer': \*=0.0; expected a density above 0 and at most 1"),
        ("per-layer:*=nan", r"\*=nan; expected a density"),
        ("per-layer:*=much", r"\*='much'; expected a density"),
        ("per-layer:*=0.1,*=0.2", r"sets \* twice"),
        ("per-layer", "densities is empty"),
        ("uniform-plus:last=2", "last is 2.0; expected a density from 0 to 1"),
        ("smart-ratio:output=0", "output is 0.0; expected a density above 0"),
        ("unit-budget:share=-1", "share is -1.0; expected a fraction"),
        ("depth:by=length", "by is 'length'; expected size or norm or mean"),
        ("lamb", "Unknown allocation 'lamb'. Did you mean 'lamp'"),
    ],
)
def test_what_cannot_be_chosen_says_why(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        allocation_of(text)({}, dense({"fc1.weight": (2, 2), "fc2.weight": (2, 2)}), 3)


def test_lamp_by_hand() -> None:
    a, b = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[0.2, 0.1, 0.4]])
    # a rising: 1/14, 4/13, 1; b rising: 0.01/0.21, 0.04/0.20, 1
    assert adapted(a.flatten()).tolist() == pytest.approx([1 / 14, 4 / 13, 1])
    assert adapted(b.flatten()).tolist() == pytest.approx([1 / 21, 1 / 5, 1])
    expected = {2: (1, 1), 3: (2, 1), 4: (2, 2), 5: (3, 2), 6: (3, 3)}
    mask = dense({"a": (1, 3), "b": (1, 3)})
    for keep, counts in expected.items():
        assert tuple(lamp({"a": a, "b": b}, mask, keep).values()) == counts
        assert tuple(lamp({"a": 1e-200 * a.double(), "b": 1e200 * b.double()}, mask, keep).values()) == counts


def test_lamp_looks_at_survivors_alone() -> None:
    scores = {"a": torch.tensor([9.0, 2.0, 1.0]), "b": torch.tensor([2.0, 1.0, 1.0])}
    mask = Mask({"a": torch.tensor([False, True, True]), "b": torch.ones(3, dtype=torch.bool)})
    assert lamp(scores, mask, 3) == {"a": 1, "b": 2}  # a: 1/5, 1; b: 1/6, 1/5, 1: the later tie stays


def test_lamp_refuses_scores_below_zero() -> None:
    mask = dense({"a": (2,), "b": (2,)})
    with pytest.raises(UsageError, match=r"none may be below 0, and 'b' has -0\.5; use scores such as magnitude"):
        lamp({"a": torch.ones(2), "b": torch.tensor([1.0, -0.5])}, mask, 2)
    away = Mask({"a": torch.ones(2, dtype=torch.bool), "b": torch.tensor([True, False])})
    assert lamp({"a": torch.ones(2), "b": torch.tensor([1.0, -0.5])}, away, 2) == {"a": 1, "b": 1}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), min_size=1, max_size=5),
    st.floats(0, 1),
    st.lists(st.integers(-100, 100), min_size=5, max_size=5),
)
def test_lamp_never_empties_a_layer_whatever_the_scales(
    layers: list[list[float]], share: float, powers: list[int]
) -> None:
    scores = {
        f"l{i}": torch.tensor(layer, dtype=torch.float64) * 10.0**power
        for i, (layer, power) in enumerate(zip(layers, powers, strict=False))
    }
    mask = dense({name: tuple(score.shape) for name, score in scores.items()})
    keep = len(layers) + round(share * (mask.total - len(layers)))
    counts = lamp(scores, mask, keep)
    assert sum(counts.values()) == keep
    assert min(counts.values()) >= 1


def test_depth_factors_by_hand() -> None:
    scores = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([3.0])}
    mask = dense({"a": (4,), "b": (1,)})
    expected = {Factor.SIZE: (3, 0), Factor.NORM: (2, 1), Factor.MEAN: (2, 1)}  # x 2, 1; x 1/10, 1/3; x 4/10, 1/3
    assert globally(scores, mask, 3) == {"a": 2, "b": 1}
    assert {by: tuple(Depth(by=by)(scores, mask, 3).values()) for by in Factor} == expected
    wide = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([6.0, 7.0])}
    two = dense({"a": (4,), "b": (2,)})
    assert Depth(by=Factor.NORM)(wide, two, 3) == {"a": 1, "b": 2}  # 0.4, 0.3 | 0.54, 0.46
    assert Depth(by=Factor.MEAN)(wide, two, 3) == {"a": 2, "b": 1}  # 1.6, 1.2 | 1.08, 0.92
    nothing = {"a": torch.zeros(4), "b": torch.tensor([3.0])}
    assert Depth(by=Factor.NORM)(nothing, mask, 1) == {"a": 0, "b": 1}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), first=st.floats(0.5, 1.0), second=st.floats(0.4, 1.0))
@pytest.mark.parametrize("name", BY_SIZE)
def test_two_cuts_keep_as_many_as_one(name: str, seed: int, first: float, second: float) -> None:
    """Densities that do not look at scores: levels are nested, and end where one cut does, to rounding."""
    shapes: Shapes = {"a": (9, 2, 2, 2), "b": (8, 9), "c": (7, 8), "output": (6, 7)}
    whole, scores, allocation = dense(shapes), draws(shapes, seed), allocation_of(name)
    above = round(first * whole.total)
    keep = max(90, round(second * above))
    middle = cut(allocation, scores, whole, max(above, keep))
    after, once = cut(allocation, scores, middle, keep), cut(allocation, scores, whole, keep)
    assert after.within(middle)
    assert all(abs(after.kept[n] - once.kept[n]) <= 1 for n in shapes)


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 50)), min_size=1, max_size=6),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_shares_are_proportional_up_to_what_is_left(
    layers: list[tuple[float, int]], share: float, least: float
) -> None:
    weights = {str(i): weight for i, (weight, _) in enumerate(layers)}
    left = {str(i): count for i, (_, count) in enumerate(layers)}
    low = {"0": float(math.floor(least * left["0"]))}
    keep = max(round(share * sum(left.values())), int(low["0"]))
    counts = proportional(weights, left, keep, low)
    assert sum(counts.values()) == keep
    assert all(low.get(n, 0) <= count <= left[n] for n, count in counts.items())
    free = [n for n in counts if counts[n] < left[n] and (counts[n] > low.get(n, 0) or n != "0")]
    for a, b in itertools.permutations(free, 2):  # to rounding, nobody could get more at the cost of another
        assert (counts[a] - 1) / weights[a] <= (counts[b] + 1) / weights[b] + 1e-9
    with pytest.raises(UsageError, match="only"):
        proportional(weights, left, sum(left.values()) + 1)


def test_rounding_keeps_ties_in_order() -> None:
    assert rounded({"a": 0.5, "b": 0.5, "c": 1.0}, {"a": 1, "b": 1, "c": 1}, 2) == {"a": 1, "b": 0, "c": 1}


def living(mask: Mask) -> list[Tensor]:
    """By brute force, which units of each layer lie on a path from an input to an output."""
    blocks: list[Tensor] = []
    for name in mask:
        places = mask[name].flatten(2).any(2) if mask[name].ndim > 2 else mask[name]
        before = blocks[-1].shape[0] if blocks else places.shape[1]
        blocks.append(places.reshape(len(places), before, -1).any(2))
    forward = [torch.ones(blocks[0].shape[1], dtype=torch.bool)]
    for block in blocks:
        forward.append((block & forward[-1]).any(1))
    back = [torch.ones(len(blocks[-1]), dtype=torch.bool)]
    for block in reversed(blocks[1:]):
        back.insert(0, (block & back[0][:, None]).any(0))
    return [there & on for there, on in zip(forward[1:], back, strict=True)]


def half_alive(mask: Mask) -> int:
    """Hidden units with weights in and none out, or the other way."""
    found, names = 0, list(mask)
    for name, after in itertools.pairwise(names):
        places = mask[after].flatten(2).any(2) if mask[after].ndim > 2 else mask[after]
        into = mask[name].flatten(1).any(1)
        out = places.reshape(len(places), len(into), -1).any(2).any(0)
        found += int((into ^ out).sum())
    return found


NETS: dict[str, Shapes] = {
    "matrices": {"a": (7, 6), "b": (5, 7), "c": (4, 5), "output": (3, 4)},
    "convolutions": {"a": (4, 2, 3, 3), "b": (3, 4, 3, 3), "c": (6, 12), "output": (3, 6)},
}


@pytest.mark.parametrize("kind", NETS)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.3, 0.5, 1.0]), place=st.floats(0, 1), tied=st.booleans()
)
def test_a_unit_budget_leaves_units_a_path_each(kind: str, seed: int, share: float, place: float, tied: bool) -> None:
    shapes = NETS[kind]
    mask, budget = dense(shapes), UnitBudget(share=share)
    scales = {n: 10.0 ** ((seed // 7**i) % 7 - 3) for i, n in enumerate(shapes)}  # globally, layers would empty
    scores = {n: score.round(decimals=int(not tied) * 9) * scales[n] for n, score in draws(shapes, seed).items()}
    enough = sum(s[0] for s in shapes.values()) + sum(s[0] for s in list(shapes.values())[:-1])
    for part in (1.0, 0.5):
        keep = enough + round(part * place * (mask.alive - enough))
        after = cut(budget, scores, mask, keep)
        assert after.alive == keep
        assert after.within(mask)
        assert all(bool(units.all()) for units in living(after))  # so every unit has a weight in and a weight out
        mask = after


@pytest.mark.parametrize("kind", NETS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.3, 0.5]), keep=st.integers(3, 40))
def test_a_small_unit_budget_lets_whole_units_go(kind: str, seed: int, share: float, keep: int) -> None:
    shapes = NETS[kind]
    mask, budget, scores = dense(shapes), UnitBudget(share=share), draws(shapes, seed)
    try:
        after = cut(budget, scores, mask, keep)
    except Emptied as error:
        needed, more = map(int, re.findall(r"needs (\d+) .* (\d+) more than", str(error))[0])
        assert needed - more == keep
        assert cut(budget, scores, mask, needed).alive == needed
        with pytest.raises(Emptied):
            cut(budget, scores, mask, needed - 1)
        return
    units = living(after)
    for name, alive in zip(shapes, units, strict=True):
        least = len(alive) if name == "output" else max(1, math.ceil(share * len(alive)))
        assert int(alive.sum()) >= least
    assert after.alive == keep
    assert half_alive(after) == 0


def test_a_unit_budget_takes_the_best_path_first() -> None:
    """Two hidden units, two weights to keep: the path whose worst weight is best, though the other has the best one."""
    scores = {"a": torch.tensor([[9.0], [4.0]]), "output": torch.tensor([[1.0, 5.0]])}
    after = cut(UnitBudget(), scores, dense({"a": (2, 1), "output": (1, 2)}), 2)
    assert {name: after[name].flatten().tolist() for name in after} == {"a": [False, True], "output": [False, True]}
    same = {name: torch.ones_like(score) for name, score in scores.items()}
    assert cut(UnitBudget(), same, dense({"a": (2, 1), "output": (1, 2)}), 2).kept == {"a": 1, "output": 1}


def test_a_unit_budget_that_no_scores_could_meet_is_refused_without_looking_at_them() -> None:
    shapes: Shapes = {"a": (300, 64), "b": (100, 300), "c": (10, 100)}
    with pytest.raises(Emptied, match=r"unit-budget needs 630 weights for 90% .* most of them in 'b', 128 more"):
        UnitBudget(share=0.9)({}, dense(shapes), 502)  # 270 into a, 270 out of it, 90 out of b
    with pytest.raises(UsageError, match="unit-budget needs 630 weights"):
        prepare(replace(RECIPES["digits-lenet"], allocation="unit-budget:share=0.9", rate=0.99, levels=1))


def test_a_unit_budget_says_what_it_lacks() -> None:
    shapes: Shapes = {"a": (10, 4), "output": (3, 10)}
    with pytest.raises(Emptied, match=r"needs \d+ weights for 50% of the units.*in 'a', 5 more than the 5 asked"):
        UnitBudget(share=0.5).reordered(draws(shapes, 0), dense(shapes), 5)
    thin = Mask({"a": (torch.arange(40) < 8).view(10, 4), "output": torch.ones(3, 10, dtype=torch.bool)})
    with pytest.raises(Emptied, match=r"keeps 5 units of 'a' alive, and the mask has 2 .*, 3 too few"):
        UnitBudget(share=0.5).reordered(draws(shapes, 0), thin, 20)
    silent = Mask({"a": torch.ones(10, 4, dtype=torch.bool), "output": (torch.arange(30) < 20).view(3, 10)})
    with pytest.raises(Emptied, match=r"keeps 3 units of 'output' alive, and the mask has 2 .*, 1 too few"):
        UnitBudget().reordered(draws(shapes, 0), silent, 20)


def test_a_unit_budget_guards_weights_in_where_layers_do_not_follow_one_another() -> None:
    shapes: Shapes = {"a": (5, 4), "branch": (6, 7), "output": (3, 6)}
    after = cut(
        UnitBudget(), {n: s * (1e-3 if n == "a" else 1) for n, s in draws(shapes, 1).items()}, dense(shapes), 30
    )
    assert bool(after["a"].any(1).all())
    assert (
        bool(after["branch"].any(1).all()) and bool(after["output"].any(0).all()) and bool(after["output"].any(1).all())
    )


def test_every_rule_of_the_survey_is_there() -> None:
    assert {"uniform", "uniform-plus", "er", "erk", "global", "lamp", "unit-budget", "smart-ratio", "depth"} < set(
        ALLOCATIONS
    )
