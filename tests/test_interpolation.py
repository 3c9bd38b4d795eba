"""The line between two networks: closed forms in float64, batch norm by hand, distances."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers import Bench, random_mask, same_state, tiny_data
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.analysis.stability import barrier
from tombola.answers import Interpolated, Mixed
from tombola.data import from_arrays
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.requests import Interpolate, references
from tombola.starts import At, Init, Made
from tombola.streams import seeded
from tombola.training.interpolation import angle, blend, drawn, interpolate, recompute, running, survivors
from tombola.training.loop import Stopped
from tombola.training.optimizers import Optimizer
from tombola.training.settings import Training
from tombola.training.state import State, load_state, state_of


def linear() -> nn.Module:
    with seeded(3):
        return nn.Linear(8, 3).double()


def network() -> nn.Module:
    with seeded(3):
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).double()


def normed() -> nn.Module:
    with seeded(3):
        return nn.Sequential(
            nn.Linear(8, 12),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(12, 6),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.Linear(6, 3),
        ).double()


def bench_of(build: Any, **changes: Any) -> Bench:
    settings = {"steps": 60, "batch_size": 20, "eval_every": 60, "normalise": "none", "optimizer": Optimizer(lr=0.02)}
    return Bench(build, Training(**{**settings, **changes}), tiny_data())


def line_of(model: nn.Module, mask: Mask | None = None, **changes: Any) -> Interpolate:
    chosen = {"points": 11, "recompute": 150, "examples": 1000, **changes}
    ends = {"one": Init(seed=0), "other": Init(seed=1), "origin": None}
    return Interpolate(**ends, mask=mask or Mask.dense(model), **chosen)


def walk(bench: Bench, one: State, other: State, origin: State | None = None, **changes: Any) -> Interpolated:
    model = bench.build()
    return interpolate(model, line_of(model, **changes), one, other, origin, sets=bench.sets, training=bench.training)


def children(bench: Bench) -> tuple[Any, Any]:
    """Two trainings from one start under other orders and noise."""
    found = [bench.train(bench.fit(order=order, noise=order + 1)) for order in (5, 7)]
    return found[0], found[1]


def losses(line: tuple[Mixed, ...]) -> list[float]:
    assert all(point.train_loss is not None and point.test_loss is not None for point in line)
    return [point.test_loss or 0.0 for point in line]


@pytest.mark.parametrize("loss", ["cross-entropy", "mean-squared-error"])
def test_a_convex_loss_has_no_hill(loss: str) -> None:
    """Of a linear model: every point lies on or below the chord, so that the highest is an end."""
    bench = bench_of(linear, loss=loss)
    one = bench.start
    with seeded(11):
        other = state_of(nn.Linear(8, 3).double())
    found = losses(walk(bench, one, other).own)
    chord = [found[0] + at / 10 * (found[-1] - found[0]) for at in range(11)]
    assert all(here <= above + 1e-12 for here, above in zip(found, chord, strict=True))
    assert barrier(found) == pytest.approx(abs(found[0] - found[-1]) / 2, abs=1e-12)
    assert found[5] < chord[5] - 1e-6  # not a straight line


def test_the_line_is_the_formula() -> None:
    bench = bench_of(network)
    one, other = bench.start, {name: 2 * value + 0.1 for name, value in bench.start.items()}
    for point in walk(bench, one, other, points=4).own:
        by_hand = bench.build()
        load_state(by_hand, {n: (1 - point.alpha) * one[n] + point.alpha * other[n] for n in one})
        x, y = bench.sets.test.x.double(), bench.sets.test.y
        outputs = by_hand(x)
        assert point.test_loss == pytest.approx(float(F.cross_entropy(outputs, y).detach()), rel=1e-12)
        assert point.test_error == pytest.approx(float((outputs.argmax(1) != y).double().mean()), abs=1e-12)
    assert [point.alpha for point in walk(bench, one, other, points=4).own] == [0, 1 / 3, 2 / 3, 1]


def test_a_permuted_copy_is_the_same_network_behind_a_hill() -> None:
    """|x| = relu(x) + relu(-x); with its two units exchanged, the network between is |1 - 2 alpha| |x|, 0 half-way."""
    x = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    data = from_arrays("sizes", x[:200], (x[:200, 0].abs() > 0.7).long(), x[200:], (x[200:, 0].abs() > 0.7).long())

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double()

    one = {
        "0.weight": torch.tensor([[1.0], [-1.0]]),
        "0.bias": torch.zeros(2),
        "2.weight": torch.tensor([[0.0, 0.0], [1.0, 1.0]]),
        "2.bias": torch.tensor([0.7, 0.0]),
    }
    one = {name: value.double() for name, value in one.items()}
    bench = Bench(build, Training(steps=1, normalise="none"), data)
    other = {**one, "0.weight": one["0.weight"].flip(0), "2.weight": one["2.weight"].flip(1)}
    found = walk(bench, one, other, points=11)
    far = x[200:, 0].double().abs()
    for point in found.own:
        missed = (far > 0.7) & (abs(1 - 2 * point.alpha) * far <= 0.7)
        assert point.test_error == pytest.approx(float(missed.double().mean()), abs=1e-12)
    assert barrier([point.test_error for point in found.own]) == pytest.approx(float((far > 0.7).double().mean()))
    assert found.distance == pytest.approx(math.sqrt(8))


def test_the_same_child_twice_is_no_way_at_all() -> None:
    bench = bench_of(normed)
    (_, events, _), _ = children(bench)
    end = events.states[60]
    found = walk(bench, end, {name: value.clone() for name, value in end.items()}, bench.start)
    assert (found.distance, found.angle) == (0, 0)
    assert found.ways[0] == found.ways[1] > 0
    for line in (found.own, found.recomputed):
        assert len({(p.train_loss, p.train_error, p.test_loss, p.test_error) for p in line}) == 1
        assert barrier([p.test_error for p in line]) == 0


@pytest.mark.parametrize("build", [network, normed])
def test_the_ends_are_the_children_as_they_were_evaluated(build: Any) -> None:
    bench = bench_of(build)
    (one, first, _), (other, second, _) = children(bench)
    found = walk(bench, first.states[60], second.states[60], bench.start)
    assert found.distance > 0.1
    for measured, point in ((one, found.own[0]), (other, found.own[-1])):
        assert point.test_loss == measured.points[-1].test_loss  # the same examples in the same order
        assert point.test_error == 1 - measured.points[-1].test_metric
        assert point.train_error == 1 - measured.train_metric
        assert point.train_loss == pytest.approx(measured.train_loss, rel=1e-12)
    assert bool(found.recomputed) == (build is normed)
    if found.recomputed:
        assert found.recomputed[5].test_loss != found.own[5].test_loss


def test_recomputed_statistics_by_hand() -> None:
    """Plain means over batches of means and unbiased variances; deeper layers see batches normalised by themselves."""
    bench = bench_of(normed)
    model = bench.fresh()
    assert running(model) == [model[1], model[5]]
    index = torch.arange(180).repeat(7)  # three batches of 420
    recompute(model, bench.sets, bench.training, index)
    means: list[Tensor] = []
    spreads: list[Tensor] = []
    deeper: list[Tensor] = []
    for part in index.split(420):
        x = model[0](bench.sets.train.x[part].double()).detach()
        means.append(x.mean(0))
        spreads.append(((x - x.mean(0)) ** 2).sum(0) / (len(x) - 1))
        scaled = (x - x.mean(0)) / ((x - x.mean(0)) ** 2).mean(0).add(model[1].eps).sqrt()
        deeper.append(model[4](torch.relu(scaled)).detach().mean(0))  # no dropout
    torch.testing.assert_close(model[1].running_mean, torch.stack(means).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.stack(spreads).mean(0))
    torch.testing.assert_close(model[5].running_mean, torch.stack(deeper).mean(0))
    assert int(model[1].num_batches_tracked) == 3
    assert all(module.training for module in model.modules())
    assert (model[1].momentum, model[5].momentum) == (0.1, 0.1)


def test_recomputing_changes_nothing_else_and_no_random_state() -> None:
    bench = bench_of(normed)
    model = bench.fresh().eval()
    before, random = state_of(model), torch.get_rng_state()
    recompute(model, bench.sets, bench.training, torch.arange(50))
    assert torch.equal(random, torch.get_rng_state())
    assert not any(module.training for module in model.modules())
    kept = {name for name in before if "running" not in name and "tracked" not in name}
    after = state_of(model)
    assert same_state({n: before[n] for n in kept}, {n: after[n] for n in kept})
    assert not torch.equal(before["1.running_mean"], after["1.running_mean"])


def test_the_examples_are_drawn_once_from_the_training_part() -> None:
    bench = bench_of(linear)
    few, all_of_them = drawn(bench.sets, bench.training, 40), drawn(bench.sets, bench.training, 10_000)
    assert torch.equal(few, all_of_them[:40])
    assert sorted(all_of_them.tolist()) == bench.sets.train_index.tolist()
    assert few.tolist() != sorted(few.tolist())
    other = drawn(bench.sets, bench_of(linear, split_seed=1).training, 40)
    assert few.tolist() != other.tolist()


def test_blend_is_exact_at_the_ends_and_leaves_counters_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    one = {"w": torch.randn(50, generator=draw) * 1e3, "n": torch.tensor(3)}
    other = {"w": torch.randn(50, generator=draw), "n": torch.tensor(8)}
    assert same_state(blend(one, other, 0.0), one)
    assert same_state(blend(one, other, 1.0), {**other, "n": one["n"]})
    made = blend(one, other, 0.5)
    torch.testing.assert_close(made["w"], (one["w"] + other["w"]) / 2)
    made["n"] += 1
    made["w"] += 1
    assert int(one["n"]) == 3 and not torch.equal(made["w"], one["w"])


def test_what_is_pruned_on_both_sides_stays_pruned_between() -> None:
    bench = bench_of(network)
    mask = random_mask(bench.build())
    states = [bench.train(bench.fit(mask=mask, order=order))[1].states[60] for order in (1, 2)]
    between = blend(states[0], states[1], 0.3)
    assert all(not between[name][~kept].any() for name, kept in mask.items())


def test_distances_are_of_the_survivors_alone() -> None:
    mask = Mask({"w": torch.tensor([[True, False], [True, True]]), "v": torch.tensor([False, True])})
    one = {"w": torch.tensor([[0.0, 9.0], [1.0, 2.0]]), "v": torch.tensor([7.0, 1.0]), "bias": torch.tensor([5.0])}
    other = {"w": torch.tensor([[3.0, 0.0], [1.0, 2.0]]), "v": torch.tensor([0.0, 5.0]), "bias": torch.tensor([0.0])}
    assert survivors(one, mask).tolist() == [0, 1, 2, 1]
    assert float((survivors(one, mask) - survivors(other, mask)).norm()) == 5
    bench = bench_of(network)
    small = random_mask(bench.build())
    moved = {name: value + 1.0 for name, value in bench.start.items()}
    found = walk(bench, bench.start, moved, bench.start, points=0, mask=small)
    assert found.distance == pytest.approx(math.sqrt(small.alive))
    assert found.ways == (0, pytest.approx(math.sqrt(small.alive)))
    assert (found.weights, found.own, found.recomputed) == (small.alive, (), ())


@given(st.floats(0, math.pi), st.floats(0.01, 100), st.floats(0.01, 100))
def test_angle_is_that_between_two_arrows(between: float, first: float, second: float) -> None:
    a = torch.tensor([first, 0.0], dtype=torch.float64)
    b = second * torch.tensor([math.cos(between), math.sin(between)], dtype=torch.float64)
    assert angle(a, b) == pytest.approx(math.degrees(between), abs=1e-10)


def test_an_angle_with_nothing_is_none_and_small_ones_are_seen() -> None:
    zero, one = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert angle(zero, one) is None
    assert angle(one, torch.tensor([1.0, 1e-12], dtype=torch.float64)) == pytest.approx(math.degrees(1e-12))


def test_a_loss_that_is_not_finite_is_left_out() -> None:
    bench = bench_of(network)
    wild = {name: torch.full_like(value, 1e300) for name, value in bench.start.items()}
    found = walk(bench, bench.start, wild, points=3).own
    assert found[0].test_loss is not None
    assert (found[-1].train_loss, found[-1].test_loss) == (None, None)


def test_it_stops_when_asked() -> None:
    bench = bench_of(linear)
    model = bench.build()
    end = bench.start
    with pytest.raises(Stopped):
        interpolate(
            model, line_of(model), end, end, None, sets=bench.sets, training=bench.training, stopping=lambda: True
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [({"points": 2}, "3 or more"), ({"recompute": 1}, "2 training"), ({"examples": 0}, "1 training")],
)
def test_a_line_that_cannot_be_measured(change: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        line_of(linear(), **change)


def test_references_of_a_line() -> None:
    mask = Mask.dense(linear())
    one, origin = At(fit="a", step=3), At(fit="b", step=1)
    other = Made(reset=blend, initial=origin, mask=mask, seed=0)  # type: ignore[arg-type]
    line = Interpolate(one=one, other=other, origin=None, mask=mask, points=3, recompute=2, examples=1)
    assert references(line) == (one, other, origin)
