"""Activations of units: by hand on ReLU networks, and how units and the output layer come together."""

from __future__ import annotations

import pytest
import torch
from criteria_helpers import network, probe
from helpers import random_mask
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.criteria import Probe, criterion_of
from tombola.criteria.base import Scores
from tombola.criteria.units import unit_scores
from tombola.errors import UsageError
from tombola.granularity.units import as_units, hidden_of
from tombola.masks import Mask
from tombola.scopes import Scope


@pytest.fixture(autouse=True)
def drawn() -> None:
    """The same draws whatever ran before."""
    torch.manual_seed(0)


def batches(*xs: Tensor) -> Probe:
    return Probe(batches=[(x, torch.zeros(len(x), dtype=torch.long)) for x in xs], loss=F.cross_entropy)


def of_units(scores: Scores, model: nn.Module, name: str) -> list[float]:
    """The one score of each unit."""
    rows = as_units(model, name, scores[name])
    assert bool((rows == rows[:, :1]).all())
    return rows[:, 0].tolist()


def relu_net() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -2.0], [1.0, 1.0]]))
        net[0].bias.copy_(torch.tensor([0.0, 1.0, -9.0]))
        net[2].weight.copy_(torch.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]]))
    return net


# Rows of activations behind the ReLU: (1, 0, 0), (0, 3, 0), (3, 1, 0) | (8, 0, 0), in two batches
X = (torch.tensor([[1.0, 2.0], [-2.0, -1.0], [3.0, 0.0]]).double(), torch.tensor([[8.0, 1.0]]).double())


def test_by_hand_on_a_perceptron() -> None:
    net = relu_net()
    mask = Mask.dense(net)
    assert of_units(criterion_of("apoz")(net, mask, batches(*X)), net, "0.weight") == [0.75, 0.5, 0.0]
    found = criterion_of("activation_mean")(net, mask, batches(*X))
    assert of_units(found, net, "0.weight") == [3.0, 1.0, 0.0]
    # mean hidden score 4 / 3, mean |w| of the output layer 3.5
    assert torch.allclose(found["2.weight"], net[2].weight.abs() * (4 / 3 / 3.5), rtol=1e-12)


def test_by_hand_on_a_convolution_with_norm() -> None:
    net = network("conv").double().eval()
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    active = net[:3](x).movedim(1, -1).reshape(-1, 6)
    found = criterion_of("apoz")(net, Mask.dense(net), batches(x[:2], x[2:]))
    assert of_units(found, net, "0.weight") == pytest.approx((active != 0).double().mean(0).tolist())
    found = criterion_of("activation_mean")(net, Mask.dense(net), batches(x[:2], x[2:]))
    assert of_units(found, net, "0.weight") == pytest.approx(active.mean(0).tolist())


def test_negative_activations_count_by_size() -> None:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        net[0].weight.fill_(1.0)
    found = criterion_of("activation_mean")(net, Mask.dense(net), batches(torch.tensor([[1.0], [-1.0]]).double()))
    assert found["0.weight"].item() == pytest.approx(torch.tensor(1.0).double().tanh().item())


def test_pruned_weights_are_away_when_units_are_looked_at() -> None:
    net = relu_net()
    mask = Mask({"0.weight": torch.tensor([[0, 1], [1, 1], [1, 1]]) > 0, "2.weight": torch.ones(2, 3) > 0})
    assert of_units(criterion_of("apoz")(net, mask, batches(*X)), net, "0.weight") == [0.0, 0.5, 0.0]


@pytest.mark.parametrize("name", ["apoz", "activation_mean", "covariance_redundancy", "mutual_information"])
def test_how_examples_are_cut_into_batches_does_not_matter(name: str) -> None:
    net, whole = network("conv").double(), torch.randn(30, 2, 4, 4, dtype=torch.float64)
    labels = torch.arange(30) % 4
    cuts = [[30], [1, 29], [7, 3, 20]]
    found = [
        criterion_of(name)(
            net,
            Mask.dense(net),
            Probe(batches=list(zip(whole.split(cut), labels.split(cut), strict=True)), loss=F.cross_entropy),
        )
        for cut in cuts
    ]
    for other in found[1:]:
        assert all(torch.allclose(other[n], found[0][n], rtol=1e-9, atol=1e-12) for n in other)


@pytest.mark.parametrize("name", ["apoz", "activation_mean", "covariance_redundancy", "mutual_information",
                                  "output_sensitivity"])  # fmt: skip
def test_units_of_every_layout_are_scored_whole(name: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 2, groups=2), nn.ReLU(), nn.ConvTranspose2d(4, 6, 2, groups=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(96, 5), nn.ReLU(), nn.Linear(5, 4),
    )  # fmt: skip
    mask, seen = random_mask(net, 0.9), probe(net, "conv")
    scores = criterion_of(name)(net, mask, seen)
    for weight, count in [("0.weight", 4), ("2.weight", 6), ("5.weight", 5)]:
        assert len(set(of_units(scores, net, weight))) == count
    # turning two units round turns their scores round
    turned = nn.Sequential(*net)
    order = torch.tensor([3, 1, 0, 2, 4])
    with torch.no_grad():
        before, units = of_units(scores, net, "5.weight"), mask["5.weight"][order]
        for tensor in (turned[5].weight, turned[5].bias):
            tensor.copy_(tensor[order])
        turned[7].weight.copy_(turned[7].weight[:, order])
    other = Mask({**mask, "5.weight": units, "7.weight": mask["7.weight"][:, order]})
    after = of_units(criterion_of(name)(turned, other, seen), net, "5.weight")
    if name != "covariance_redundancy":  # whose last two are told apart by their place
        assert after == pytest.approx([before[at] for at in order], rel=1e-4)


def test_output_weights_stand_as_hidden_ones_on_average() -> None:
    net = network("double")
    mask = random_mask(net, 0.5)
    units = {"0.weight": torch.rand(6, dtype=torch.float64)}
    scores = unit_scores(units, net, mask)
    means = [scores[n][mask[n]].mean().item() for n in mask]
    assert means[0] == pytest.approx(means[1])
    ratio = scores["2.weight"] / net[2].weight.abs()
    assert torch.allclose(ratio, ratio[0, 0])
    dead = unit_scores({"0.weight": torch.zeros(6)}, net, mask)  # nothing to go by: |w| itself
    assert torch.equal(dead["2.weight"], net[2].weight.abs())


def test_a_protected_output_layer_is_not_scored() -> None:
    net = relu_net()
    mask = Mask.dense(net, Scope(protect=("2.*",)))
    assert hidden_of(net, mask) == ["0.weight"]
    found = criterion_of("apoz")(net, mask, batches(*X))
    assert list(found) == ["0.weight"]
    assert of_units(found, net, "0.weight") == [0.75, 0.5, 0.0]


class Spare(nn.Module):
    """Has a layer that nothing runs."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare, self.head = nn.Linear(8, 3), nn.Linear(2, 2), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.used(x).relu())
        return out


@pytest.mark.parametrize("name", ["apoz", "covariance_redundancy", "mutual_information", "output_sensitivity",
                                  "hebbian"])  # fmt: skip
def test_a_layer_that_does_not_run_is_named(name: str) -> None:
    net = Spare()
    with pytest.raises(UsageError, match=f"criterion {name} .*does not run the layer of 'spare.weight'"):
        criterion_of(name)(net, Mask.dense(net), probe(net, "single"))
