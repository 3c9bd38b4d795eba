"""Ladders of weights: exact integers, the paper's densities, and what a ladder is refused for."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_data, tiny_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tombola.allocation import Layerwise
from tombola.analysis.verdict import experiment_verdict
from tombola.errors import UsageError
from tombola.experiment import prepare, run_experiment
from tombola.masks import Mask
from tombola.preview import preview
from tombola.pruning import Pruner
from tombola.registry import chosen
from tombola.schedules import SCHEDULES, check_ladder, counts_of, geometric, levels_of, step_down
from tombola.store import Store

LENET = {"fc1.weight": 784 * 300, "fc2.weight": 300 * 100, "output.weight": 100 * 10}
# Percent of the weights left at each level; the published labels at the levels 3, 7, 12, 15: 51.3, 21.1, 7.0, 3.6.
PAPER = {
    **dict(enumerate((100, 80.04, 64.06, 51.28, 41.05, 32.87, 26.32, 21.07, 16.88, 13.52, 10.83, 8.68, 6.95, 5.57))),
    **{14: 4.47, 15: 3.58, 16: 2.87, 18: 1.85, 20: 1.19, 22: 0.77, 24: 0.50},
}


def ladder_by_hand(counts: dict[str, int], levels: int) -> list[dict[str, int]]:
    """20 % of every layer and 10 % of the last goes at each level; exact fractions."""
    last, found = list(counts)[-1], [dict(counts)]
    for _ in range(levels):
        now = found[-1]
        found.append({n: c - round(Fraction(1 if n == last else 2, 10) * c) for n, c in now.items()})
    return found


def lenet() -> nn.Module:
    """LeNet-300-100 for MNIST, without biases; only counts matter here, so its weights are a cheap ramp."""
    model = nn.Module()
    for name, (rows, columns) in {"fc1": (300, 784), "fc2": (100, 300), "output": (10, 100)}.items():
        layer = nn.Linear(columns, rows, bias=False)
        layer.weight.data = torch.linspace(-1, 1, rows * columns).view(rows, columns)
        setattr(model, name, layer)
    return model


def test_lenet_keeps_the_paper_s_densities_level_by_level() -> None:
    model, pruner = lenet(), Pruner(allocation=Layerwise(rate=0.2, output=0.5))
    dense = mask = Mask.dense(model)
    assert dense.kept == LENET
    expected = ladder_by_hand(LENET, 24)
    assert [dict(counts) for counts in geometric(LENET, Layerwise().rates(dense), 24)] == expected[1:]
    for level, counts in enumerate(expected):
        keep = sum(counts.values())
        after = pruner(model, mask, keep)
        assert after.kept == counts
        assert after.within(mask)
        mask = after
        if level in PAPER:
            assert 100 * mask.density == pytest.approx(PAPER[level], abs=0.00501)
        if level in {7, 15, 24}:  # a single cut keeps as many in every layer
            assert pruner(model, dense, keep).kept == counts
    assert {3, 7, 12, 15} <= PAPER.keys()
    for count, published in zip(expected[15].values(), (8275, 1056, 206), strict=True):
        assert abs(count - published) <= 5


def test_one_cut_keeps_as_many_in_every_layer_as_the_ladder_at_every_level() -> None:
    dense = Mask({name: torch.ones(count, 1, dtype=torch.bool) for name, count in LENET.items()})
    expected = ladder_by_hand(LENET, 24)
    for counts in expected:
        assert Layerwise()({}, dense, sum(counts.values())) == counts
    for start, after in zip(expected, expected[2:], strict=False):  # two levels at once, from any level
        mask = Mask({name: (torch.arange(LENET[name]) < n).view(-1, 1) for name, n in start.items()})
        assert Layerwise()({}, mask, sum(after.values())) == after


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(30, 3000), min_size=1, max_size=5),
    st.floats(0.05, 0.95),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_a_budget_between_two_levels_is_met_exactly(sizes: list[int], rate: float, output: float, place: float) -> None:
    mask = Mask({f"layer{i}": torch.ones(n, dtype=torch.bool) for i, n in enumerate(sizes)})
    layerwise = Layerwise(rate=rate, output=output)
    rates = layerwise.rates(mask)
    above, below = [mask.kept, *geometric(mask.kept, rates, 3)][-2:]
    keep = sum(below.values()) + round(place * (sum(above.values()) - sum(below.values())))
    counts = layerwise({}, mask, keep)
    assert sum(counts.values()) == keep
    assert list(counts) == list(mask)
    assert all(below[name] <= counts[name] <= above[name] for name in mask)


def test_layerwise_rates() -> None:
    mask = Mask({n: torch.ones(c, dtype=torch.bool) for n, c in {"a": 100, "b": 100, "c": 100}.items()})
    assert Layerwise(rate=0.5, output=0.5).rates(mask) == {"a": 0.5, "b": 0.5, "c": 0.25}
    assert Layerwise(rate=0.5, output=0.5, output_name="a").rates(mask) == {"a": 0.25, "b": 0.5, "c": 0.5}
    assert Layerwise(rate=0.5, output=0.0)({}, mask, 200) == {"a": 50, "b": 50, "c": 100}
    assert Layerwise(rate=0.5).rates(Mask({"a": mask["a"]})) == {"a": 0.5}
    with pytest.raises(UsageError, match=r"output layer 'd' is not prunable\. Known: a, b, c\."):
        Layerwise(output_name="d").rates(mask)
    with pytest.raises(UsageError, match=r"Rate 0\.2 stops at 9 weights, above the 5 asked for"):
        Layerwise()({}, mask, 5)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_rates_out_of_range_are_refused(bad: float) -> None:
    with pytest.raises(UsageError, match=rf"rate is {bad!r}; expected a fraction above 0 and below 1"):
        Layerwise(rate=bad)
    if bad not in (0.0, 1.0):
        with pytest.raises(UsageError, match=rf"factor is {bad!r}; expected a fraction from 0 to 1"):
            Layerwise(output=bad)


def test_step_down_removes_a_share_of_the_survivors() -> None:
    assert step_down({"a": 30000, "b": 1000}, {"a": 0.2, "b": 0.1}) == {"a": 24000, "b": 900}
    assert step_down({"a": 1000}, {"a": 0.2}, share=0.5) == {"a": 900}
    assert step_down({"a": 1}, {"a": 0.2}) == {"a": 1}


def test_geometric() -> None:
    counts = {"a": 1000, "b": 10}
    assert geometric(counts, {"a": 0.2, "b": 0.1}, 0) == []
    assert geometric(counts, {"a": 0.2, "b": 0.0}, 3) == [{"a": 800, "b": 10}, {"a": 640, "b": 10}, {"a": 512, "b": 10}]
    assert counts == {"a": 1000, "b": 10}


def test_a_good_ladder_passes() -> None:
    check_ladder(LENET, geometric(LENET, {"fc1.weight": 0.2, "fc2.weight": 0.2, "output.weight": 0.1}, 24))
    check_ladder({"a": 3, "b": 3}, [{"a": 2, "b": 3}, {"a": 2, "b": 1}])
    assert ladder_by_hand(LENET, 1)[1] == {"fc1.weight": 188160, "fc2.weight": 24000, "output.weight": 900}


@pytest.mark.parametrize(
    ("ladder", "message"),
    [
        ([{"a": 10, "b": 0}], r"Level 1 would empty 'b' \(4 left before it\); use a smaller --rate"),
        (
            [{"a": 5, "b": 1}, {"a": 0, "b": 1}],
            r"Level 2 would empty 'a' \(5 left .*; use --levels 1 or fewer",
        ),
        ([{"a": 10, "b": 4}], r"At level 1 nothing is left to remove: all 14 weights stay; use a larger --rate"),
        (
            [{"a": 9, "b": 4}, {"a": 8, "b": 4}, {"a": 8, "b": 4}],
            r"At level 3 nothing is left to remove: all 12 weights stay; use --levels 2 or fewer",
        ),
        ([{"a": 5, "b": 4}, {"a": 6, "b": 4}], r"Level 2 has 10 weights, above the 9 before it"),
    ],
)
def test_a_ladder_that_cannot_be_climbed_is_refused(ladder: list[dict[str, int]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_ladder({"a": 10, "b": 4}, ladder)


def test_a_ladder_of_one_layer_says_how_many_levels_there_are() -> None:
    ladder = geometric({"a": 10}, {"a": 0.2}, 12)
    with pytest.raises(UsageError, match="use --levels 6 or fewer"):
        check_ladder({"a": 10}, ladder)
    check_ladder({"a": 10}, ladder[:6])


@pytest.mark.parametrize(
    ("text", "levels", "expected"),
    [
        ("geometric", 3, (800, 640, 512)),
        ("geometric:rate=0.5", 3, (500, 250, 125)),
        ("one-shot:density=0.1", 1, (100,)),
        ("oneshot:density=0.1", 1, (100,)),
        ("linear:final=0.1", 3, (700, 400, 100)),
        ("cubic:final=0.1", 3, (367, 133, 100)),  # 0.1 + 0.9 (8/27, 1/27, 0)
        ("zhu-gupta:final=0.1", 3, (367, 133, 100)),
        ("custom:densities=0.5/0.2", 2, (500, 200)),
    ],
)
def test_schedules_by_hand(text: str, levels: int, expected: tuple[int, ...]) -> None:
    schedule = chosen(text, SCHEDULES, "schedule")
    assert levels_of(schedule, 3) == levels
    assert tuple(counts_of(schedule, 1000, levels)) == expected
    assert schedule(0, levels) == 1.0
    assert schedule(levels, levels) == pytest.approx(expected[-1] / 1000)


@pytest.mark.parametrize("text", ["geometric", "linear:final=0.03", "cubic:final=0.03", "custom:densities=0.9/0.5/0.1"])
def test_densities_fall_from_level_to_level(text: str) -> None:
    schedule = chosen(text, SCHEDULES, "schedule")
    levels = levels_of(schedule, 9)
    found = [schedule(level, levels) for level in range(levels + 1)]
    assert all(after < before for before, after in itertools.pairwise(found))
    assert found[0] == 1 and found[-1] > 0


def budgets(**changes: Any) -> tuple[int, ...]:
    """What an experiment on the digits keeps in all: 8 x 16 + 16 x 3 = 176 weights."""
    (plan,) = prepare(tiny_recipe(replicates=1, **changes), data=tiny_data()).plans
    assert plan.dense.kept == {"fc1.weight": 128, "output.weight": 48}
    return plan.keeps


def test_an_experiment_goes_by_its_schedule() -> None:
    assert budgets() == (102 + 43, 82 + 39)  # layerwise: 0.8 and 0.9 of each
    assert budgets(rate=0.5) == budgets(schedule="geometric:rate=0.5") == (64 + 36, 32 + 27)
    assert budgets(schedule="geometric:rate=0.5", rate=0.4) == (100, 59)  # the schedule's own
    assert budgets(allocation="layerwise:rate=0.5") == (100, 59)
    assert budgets(allocation="global", schedule="geometric:rate=0.5") == (88, 44)
    assert budgets(schedule="one-shot:density=0.1", levels=9) == (18,)
    assert budgets(schedule="custom:densities=0.5/0.2/0.1", levels=1) == (88, 35, 18)
    assert budgets(schedule="linear:final=0.25", levels=3) == (132, 88, 44)
    assert budgets(schedule="cubic:final=0.2", levels=2) == (53, 35)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "liner"}, "Unknown schedule 'liner'. Did you mean 'linear'"),
        ({"schedule": "linear"}, r"schedule 'linear' needs final=\.\.\.: linear:final=VALUE"),
        ({"schedule": "cubic:final=0"}, r"schedule 'cubic': final is 0\.0; expected a fraction above 0 and below 1"),
        ({"schedule": "linear:final=nan"}, "final is nan; expected a fraction"),
        ({"schedule": "one-shot:density=1"}, r"density is 1\.0; expected a fraction"),
        ({"schedule": "geometric:rate=1.5"}, r"rate is 1\.5; expected a fraction"),
        ({"schedule": "geometric:levels=2"}, "schedule 'geometric' has no option 'levels'. Known: rate"),
        (
            {"schedule": "custom:densities=0.2/0.5"},
            r"densities go from 0\.2 to 0\.5; each must be below the one before",
        ),
        ({"schedule": "custom:densities=half"}, "densities is 'half'; expected a number"),
        ({"schedule": "custom:densities="}, "'densities=' is no option=value"),
        ({"schedule": "custom:densities=0.5/0.0001"}, "Level 2 would empty .*; name a higher density in the schedule"),
        (
            {"schedule": "custom:densities=0.5/0.4999"},
            "At level 2 nothing is left to remove: all 88 weights stay; use fewer --levels, or densities further apart",
        ),
        ({"schedule": "linear:final=0.5", "levels": 300}, "use fewer --levels"),
        (
            {"schedule": "geometric:rate=0.5", "allocation": "layerwise:rate=0.3"},
            r"The schedule's rate is 0\.5, the allocation's 0\.3; name one alone",
        ),
        ({"allocation": "per-layer:fc*=0.5"}, "no pattern that fits 'output.weight'"),
        ({"allocation": "uniform-plus", "schedule": "one-shot:density=0.05"}, "1 more than the 9 weights asked for"),
    ],
)
def test_what_cannot_be_reached_is_refused_before_any_training(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        budgets(**changes)


@pytest.mark.parametrize(
    ("schedule", "kept"), [("custom:densities=0.5/0.2", [176, 88, 35]), ("one-shot:density=0.1", [176, 18])]
)
@pytest.mark.parametrize("search", ["imp", "oneshot"])
def test_schedules_with_levels_of_their_own_run_to_the_end(
    schedule: str, kept: list[int], search: str, tmp_path: Path
) -> None:
    recipe = tiny_recipe(schedule=schedule, search=search, levels=5, steps=4, eval_every=2, replicates=3)
    experiment = prepare(recipe, data=tiny_data())
    foretold = preview(experiment, None)
    assert sorted(foretold.levels) == list(range(len(kept)))
    results = run_experiment(experiment, Store(tmp_path, create=True), workers=1)
    assert not results.failures
    tickets = results.document["arms"]["ticket"]
    assert {row["level"]: row["kept"] for row in tickets} == dict(enumerate(kept))
    again = preview(experiment, Store(tmp_path))
    assert again.fits == again.stored == foretold.fits
    _, content = Store(tmp_path).experiment(results.experiment)
    judged = experiment_verdict(content, results.document)
    assert [level["level"] for level in judged["levels"]] == list(range(1, len(kept)))


def test_a_schedule_of_ones_own_that_fails_is_said() -> None:
    def broken(level: int, levels: int) -> float:
        raise ValueError("no idea")

    with pytest.raises(UsageError, match=r"The schedule failed at level 1 of 3: ValueError: no idea \(test_schedules"):
        counts_of(broken, 100, 3)
    for wrong in (math.nan, None, "half", 0, 1.5, True):
        with pytest.raises(UsageError, match=r"The schedule gives .* at level 1; expected a density"):
            counts_of(lambda level, levels, wrong=wrong: wrong, 100, 3)  # type: ignore[misc]
