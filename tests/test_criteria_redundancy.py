"""Principal filter analysis: how many units are needed, and which go first."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.criteria import Probe, criterion_of
from tombola.criteria.redundancy import CovarianceRedundancy, dropping_order, units_needed
from tombola.errors import UsageError
from tombola.masks import Mask


def linear(weight: Tensor, outputs: int = 2) -> nn.Module:
    """A hidden layer with these weights and no nonlinearity."""
    net = nn.Sequential(nn.Linear(weight.shape[1], len(weight), bias=False), nn.Linear(len(weight), outputs)).double()
    with torch.no_grad():
        net[0].weight.copy_(weight)
    return net


def shown(x: Tensor, cut: int = 7) -> Probe:
    return Probe(batches=[(part, torch.zeros(len(part)).long()) for part in x.split(cut)], loss=F.cross_entropy)


def order_of(weight: Tensor, x: Tensor, **options: bool | float) -> list[int]:
    net = linear(weight)
    scores = CovarianceRedundancy(**options)(net, Mask.dense(net), shown(x))["0.weight"][:, 0]  # type: ignore[arg-type]
    return scores.argsort().tolist()


def white(n: int, columns: int) -> Tensor:
    """Columns with exactly no mean and exactly unit covariance."""
    x = torch.randn(n, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q, _ = torch.linalg.qr(x - x.mean(0))
    return q * math.sqrt(n)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=2, max_size=12), st.floats(0.01, 1))
def test_needed_units_by_the_formula(values: list[float], energy: float) -> None:
    found = units_needed(torch.tensor(values, dtype=torch.float64))
    total, count = math.fsum(values), len(values)
    if total == 0:
        assert found == 1
        return
    shares = sorted((value / total for value in values), reverse=True)
    entropy = -math.fsum(share * math.log2(share) for share in shares if share > 0)
    assert 1 <= found <= count
    assert found - 1 - 1e-6 <= count * entropy / math.log2(count) <= found + 1e-6 or found == 1
    kept = units_needed(torch.tensor(values, dtype=torch.float64), energy)
    assert math.fsum(shares[:kept]) >= energy - 1e-6
    assert kept == 1 or math.fsum(shares[: kept - 1]) < energy + 1e-6


def test_needed_units_by_hand() -> None:
    assert units_needed(torch.ones(7)) == 7
    assert units_needed(torch.tensor([5.0])) == 1
    assert units_needed(torch.eye(6)[2]) == 1
    # four equal ones of 16: KL = log2(4) = 2, gamma = 1 - 2 / 4
    assert units_needed(torch.tensor([1.0] * 4 + [0.0] * 12)) == 8
    assert units_needed(torch.tensor([1.0] * 4 + [-1e-18] * 12), energy=0.999) == 4
    assert [units_needed(torch.tensor([4.0, 3.0, 2.0, 1.0]), energy=e) for e in (0.4, 0.41, 0.7, 0.9, 1.0)] == [
        1, 2, 2, 3, 4,
    ]  # fmt: skip


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("covariance", [False, True])
def test_a_layer_of_known_rank_needs_so_many_units(rank: int, covariance: bool) -> None:
    generator = torch.Generator().manual_seed(rank)
    weight = torch.randn(9, rank, dtype=torch.float64, generator=generator) @ torch.randn(
        rank, 8, dtype=torch.float64, generator=generator
    )
    net = linear(weight)
    found = CovarianceRedundancy(covariance=covariance, energy=1.0).needed(net, Mask.dense(net), shown(white(60, 8)))
    assert found == {"0.weight": rank}


def test_correlation_is_blind_to_scale_and_covariance_is_not() -> None:
    weight = torch.diag(torch.tensor([1.0, 1e-3, 1e-3, 1e-3], dtype=torch.float64))
    net, probe = linear(weight), shown(white(40, 4))
    mask = Mask.dense(net)
    assert CovarianceRedundancy().needed(net, mask, probe) == {"0.weight": 4}
    assert CovarianceRedundancy(covariance=True).needed(net, mask, probe) == {"0.weight": 1}


def test_dead_units_then_duplicates_go_first() -> None:
    rows = torch.eye(6, dtype=torch.float64)[[0, 1, 2, 1, 3, 4, 1]]
    rows[4] = 0.0  # a unit that never moves
    assert order_of(rows, white(50, 6))[:3] == [4, 1, 3]
    opposite = rows * torch.tensor([1.0, 1, 1, -2, 1, 1, 3]).double()[:, None]  # whatever their sign and scale
    assert order_of(opposite, white(50, 6))[:3] == [4, 1, 3]


def test_a_large_constant_is_still_dead() -> None:
    net = linear(torch.eye(3, dtype=torch.float64))
    x = torch.cat([white(30, 2), torch.full((30, 1), 1e9 + 0.1, dtype=torch.float64)], 1)
    scores = CovarianceRedundancy()(net, Mask.dense(net), shown(x))["0.weight"][:, 0]
    assert scores.argmin() == 2
    assert CovarianceRedundancy().needed(net, Mask.dense(net), shown(x)) == {"0.weight": 2}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9))
def test_the_order_is_that_of_dropping_one_by_one(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    correlation = torch.corrcoef(torch.randn(count, 12, dtype=torch.float64, generator=generator))
    rest, expected = list(range(count)), []
    while rest:
        sums = [sum(abs(float(correlation[i, j])) for j in rest if j != i) for i in rest]
        at = max(range(len(rest)), key=lambda i: (round(sums[i], 9), -i))
        expected.append(rest.pop(at))
    assert dropping_order(correlation) == expected


def test_scores_tell_redundant_units_from_needed_ones() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 10), nn.Linear(10, 12), nn.Linear(12, 2)).double()
    mask, probe = Mask.dense(net), shown(white(80, 4))
    criterion = CovarianceRedundancy(energy=0.9999)
    needed, scores = criterion.needed(net, mask, probe), criterion(net, mask, probe)
    assert needed == {"0.weight": 4, "1.weight": 4}
    for name, count in (("0.weight", 10), ("1.weight", 12)):
        units = scores[name][:, 0].sort().values
        redundant = count - 4
        expected = [i / redundant for i in range(redundant)] + [1 + i / 4 for i in range(4)]
        assert units.tolist() == pytest.approx(expected)


def test_convolutions_answer_with_their_largest() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(3, 2)).double()  # fmt: skip
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 2.0, -1.0]).double().view(3, 1, 1, 1))
    x = torch.randn(20, 1, 3, 3, dtype=torch.float64)
    responses = torch.stack([x.amax((1, 2, 3)).relu(), (2 * x).amax((1, 2, 3)).relu(), (-x).amax((1, 2, 3)).relu()])
    expected = units_needed(torch.linalg.eigvalsh(torch.cov(responses, correction=0)))
    found = CovarianceRedundancy(covariance=True).needed(net, Mask.dense(net), shown(x))
    assert found == {"0.weight": expected}


def test_energy_is_a_share() -> None:
    with pytest.raises(UsageError, match=r"energy is 1.5; expected a share"):
        criterion_of("pfa:energy=1.5")
