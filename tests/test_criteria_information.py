"""Mutual information: Gaussians of known value, what a unit adds, and what does not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from criteria_helpers import network, probe
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.criteria import Probe, criterion_of
from tombola.criteria.information import Estimator, MutualInformation, copula, drops, information
from tombola.errors import UsageError
from tombola.masks import Mask

N = 40_000


def normal(n: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(n, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_copula_is_scipy_ranks_in_normal_scores() -> None:
    x = torch.randint(0, 9, (50, 4), generator=torch.Generator().manual_seed(0)).double()
    expected = stats.norm.ppf(stats.rankdata(x.numpy(), axis=0) / 51)
    assert np.allclose(copula(x).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.3, -0.9])
def test_two_gaussians(rho: float) -> None:
    """I = -1/2 log(1 - rho^2); the deviation of the estimate is |rho| / sqrt(n), and 1/2n at rho = 0."""
    z = normal(N, 2)
    x, y = z[:, :1], rho * z[:, :1] + math.sqrt(1 - rho**2) * z[:, 1:]
    expected, slack = -math.log(1 - rho**2) / 2, 4 * abs(rho) / math.sqrt(N) + 10 / N
    assert information(x, y) == pytest.approx(expected, abs=slack)
    assert information(copula(x), copula(y)) == pytest.approx(expected, abs=2 * slack)


def test_many_gaussians_by_their_covariances() -> None:
    mixing = normal(5, 5, seed=1) + 2 * torch.eye(5, dtype=torch.float64)
    whole = mixing @ mixing.t()
    expected = (torch.logdet(whole[:3, :3]) + torch.logdet(whole[3:, 3:]) - torch.logdet(whole)).item() / 2  # nats
    sample = normal(N, 5) @ mixing.t()
    assert information(sample[:, :3], sample[:, 3:]) == pytest.approx(expected, abs=4 * math.sqrt(6 / N))


def test_chance_adds_what_the_docstring_says() -> None:
    found = [information(normal(500, 4, seed), normal(500, 3, 1000 + seed)) for seed in range(100)]
    bias, deviation = 4 * 3 / (2 * 500), math.sqrt(2 * 4 * 3) / (2 * 500)  # half a chi-squared over n
    assert np.mean(found) == pytest.approx(bias, abs=4 * deviation / 10)


def test_information_only_grows_less_under_shrinkage() -> None:
    x = normal(200, 3)
    y = x[:, :1] + 0.1 * normal(200, 1, 1)
    found = [information(x, y, shrinkage=s) for s in (0.0, 0.1, 0.5, 0.99)]
    assert found == sorted(found, reverse=True)
    assert found[-1] > 0
    doubled = torch.cat([x, x[:, :1]], 1)
    assert math.isfinite(information(doubled, y, shrinkage=0.1))


@pytest.mark.parametrize("shrinkage", [0.0, 0.1])
def test_drops_are_the_differences(shrinkage: float) -> None:
    x = normal(300, 5) @ normal(5, 5, seed=2)
    y = x[:, :2] @ normal(2, 2, seed=3) + 0.5 * normal(300, 2, seed=4)
    whole = information(x, y, shrinkage=shrinkage)
    for j, drop in enumerate(drops(x, y, shrinkage=shrinkage).tolist()):
        without = torch.cat([x[:, :j], x[:, j + 1 :]], 1)
        assert drop == pytest.approx(whole - information(without, y, shrinkage=shrinkage), abs=1e-9)


def test_a_column_that_never_moves_says_nothing() -> None:
    x = normal(100, 3)
    y, still = x.sum(1, keepdim=True) + normal(100, 1, 1), torch.cat([x, torch.full((100, 1), 7.0).double()], 1)
    assert information(still, y) == pytest.approx(information(x, y))
    assert drops(still, y)[3] == 0
    assert torch.allclose(drops(still, y)[:3], drops(x, y))


class Bent(nn.Module):
    """Passes on what a monotone function makes of the hidden units."""

    def __init__(self, bend: nn.Module) -> None:
        super().__init__()
        self.hidden, self.bend, self.head = nn.Linear(4, 5), bend, nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.bend(self.hidden(x)))
        return out


def bent(bend: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return Bent(bend).double()


def answered(model: nn.Module, **options: object) -> Tensor:
    x = normal(400, 4)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 1).long()
    seen = Probe(batches=[(x[:150], y[:150]), (x[150:], y[150:])], loss=F.cross_entropy)
    scores: Tensor = MutualInformation(**options)(model, Mask.dense(model), seen)["hidden.weight"]  # type: ignore[arg-type]
    return scores[:, 0]


def test_monotone_maps_change_nothing_but_for_the_plain_estimator() -> None:
    plain, bend = bent(nn.Identity()), bent(nn.Sigmoid())
    assert torch.allclose(answered(plain), answered(bend), rtol=1e-9)
    gaussian = [answered(model, estimator=Estimator.GAUSSIAN) for model in (plain, bend)]
    assert not torch.allclose(*gaussian, rtol=1e-3)


def test_scores_are_drops_against_the_classes() -> None:
    model, x = bent(nn.ReLU()), normal(400, 4)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 1).long()
    hidden = copula(model.hidden(x).relu().detach())
    classes = torch.stack([y == 0, y == 1], 1).double()
    assert torch.allclose(answered(model), drops(hidden, classes, shrinkage=0.1), rtol=1e-9)
    assert torch.allclose(answered(model, shrinkage=0.4), drops(hidden, classes, shrinkage=0.4), rtol=1e-9)


def test_the_unit_that_knows_the_answer_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3))
        model[0].bias.fill_(5.0)
    x = normal(500, 3)
    for y in ((x[:, 1] > 0).long(), x[:, 1:2] ** 3, x[:, 1]):
        seen = Probe(batches=[(x, y)], loss=F.mse_loss)
        scores = MutualInformation()(model, Mask.dense(model), seen)["0.weight"][:, 0]
        assert scores.argmax() == 1
        assert scores[1] > 10 * scores[[0, 2]].max()


def test_to_next_is_about_the_layer_behind() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(4))  # units that know nothing of each other
        model[2].weight.zero_()
        model[2].weight[:, 2] = torch.tensor([3.0, -1.0])  # the next layer listens to one unit only
        model[2].weight[1, 0] = 0.5
    x = normal(300, 4)
    seen = Probe(batches=[(x, torch.arange(300) % 2)], loss=F.cross_entropy)
    scores = MutualInformation(to_next=True)(model, Mask.dense(model), seen)
    hidden = [copula(model[:n](x).detach()) for n in (2, 4, 5)]
    assert torch.allclose(scores["0.weight"][:, 0], drops(hidden[0], hidden[1], shrinkage=0.1), rtol=1e-9)
    assert torch.allclose(scores["2.weight"][:, 0], drops(hidden[1], hidden[2], shrinkage=0.1), rtol=1e-9)
    assert scores["0.weight"][:, 0].argsort(descending=True)[:2].tolist() == [2, 0]


def test_what_does_not_fit_is_refused() -> None:
    model = network("double")
    x, _ = probe(model, "double").batches[0]
    mask = Mask.dense(model)
    several = Probe(batches=[(x, torch.zeros(len(x), 2).long())], loss=F.cross_entropy)
    with pytest.raises(UsageError, match=r"class labels of shape \(12, 2\); expected one of each"):
        MutualInformation()(model, mask, several)
    fewer = Probe(batches=[(x, torch.zeros(3).long())], loss=F.cross_entropy)
    with pytest.raises(UsageError, match=r"'0.weight' puts out 12 rows for 3 targets"):
        MutualInformation()(model, mask, fewer)
    with pytest.raises(UsageError, match=r"shrinkage is 1.0; expected 0 to below 1"):
        criterion_of("mutual_information:shrinkage=1")
