"""Synaptic flow: its conservation laws, its sum over paths, and what it survives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from criteria_helpers import flat, masked, score
from helpers import random_mask
from torch import nn
from torch.nn import functional as F

from tombola.criteria import Probe, criterion_of
from tombola.errors import Emptied, UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.streams import seeded


def deep(*widths: int, bias: bool = True, seed: int = 1) -> nn.Module:
    layers: list[nn.Module] = []
    with seeded(seed):
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
        return nn.Sequential(*layers[:-1]).double()


def shaped(width: int) -> Probe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, width, generator=generator, dtype=torch.float64)
    return Probe(batches=[(x, torch.randint(2, (20,), generator=generator))], loss=F.cross_entropy)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid])
def test_synaptic_flow_is_conserved_at_every_hidden_unit(activation: Callable[[], nn.Module]) -> None:
    """Also with biases, trained batch norm and layer norm, which a published version lets break it."""
    with seeded(3):
        model = nn.Sequential(
            nn.Linear(7, 6), nn.BatchNorm1d(6), activation(), nn.Dropout(), nn.Linear(6, 5), nn.LayerNorm(5),
            activation(), nn.Linear(5, 4), nn.LogSoftmax(1),
        ).double()  # fmt: skip
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        nn.init.normal_(model[1].running_mean)
        nn.init.uniform_(model[1].running_var, 0.5, 2)
    mask = random_mask(model, 0.6, 5)
    found = score("synflow:rounds=1", model, mask, replace(shaped(7), keep=mask.alive))
    first, second, third = (found[name].where(mask[name], 0.0) for name in mask)
    assert torch.allclose(first.sum(1), second.sum(0), rtol=1e-12, atol=0)
    assert torch.allclose(second.sum(1), third.sum(0), rtol=1e-12, atol=0)
    assert [float(layer.sum()) for layer in (first, second, third)] == pytest.approx([1 / 3] * 3)


def test_synaptic_flow_is_the_sum_over_paths() -> None:
    """By matrices: R = 1' |W3| |W2| |W1| 1, and each score the weight times what comes in and what goes on."""
    model = deep(4, 3, 5, 2)
    mask = random_mask(model, 0.8)
    first, second, third = (weight.abs() for weight in masked(model, mask).values())
    ones = [torch.ones(n, dtype=torch.float64) for n in (4, 2)]
    a1 = first @ ones[0]
    a2 = second @ a1
    b2 = third.T @ ones[1]
    b1 = second.T @ b2
    flow = [first * b1[:, None] * ones[0], second * b2[:, None] * a1, third * ones[1][:, None] * a2]
    expected = torch.cat([f.flatten() for f in flow])
    found = flat(score("synflow:rounds=1", model, mask, replace(shaped(4), keep=mask.alive)))
    alive = flat({n: mask[n] for n in mask}).bool()
    assert torch.allclose(found[alive], (expected / expected.sum())[alive], rtol=1e-12)


def test_synaptic_flow_looks_at_no_data() -> None:
    model, seen = deep(6, 8, 4), replace(shaped(6), keep=20)
    (x, y), *_ = seen.batches
    other = replace(seen, batches=[(x * torch.nan, y)], loss=F.nll_loss)
    mask = Mask.dense(model)
    assert torch.equal(flat(score("synflow", model, mask, seen)), flat(score("synflow", model, mask, other)))


def test_synaptic_flow_of_convolutions_is_conserved_at_every_channel() -> None:
    with seeded(1):
        model = nn.Sequential(
            nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(4, 2),
        ).double()  # fmt: skip
    mask, x = Mask.dense(model), torch.zeros(1, 2, 6, 6, dtype=torch.float64)
    found = score("synflow:rounds=1", model, mask, Probe(batches=[(x, torch.zeros(1))], loss=F.mse_loss))
    first, second, third = found.values()
    assert torch.allclose(first.sum((1, 2, 3)), second.sum((0, 2, 3)), rtol=1e-12)
    assert torch.allclose(second.sum((1, 2, 3)), third.sum(0), rtol=1e-12)


def test_synaptic_flow_keeps_a_path_where_cuts_in_one_go_lose_a_layer() -> None:
    """At one weight a layer, the most that can go, one path from an input to an output is left."""
    model, seen = deep(30, 40, 40, 40, 2, bias=False), shaped(30)
    mask = Mask.dense(model)
    for name in ("magnitude", "snip", "synflow:rounds=1"):
        with pytest.raises(Emptied):
            Pruner(criterion=criterion_of(name))(model, mask, len(mask), seen)
    left = Pruner(criterion=criterion_of("synflow"))(model, mask, len(mask), seen)
    assert left.kept == dict.fromkeys(mask, 1)
    path = torch.ones(30, dtype=torch.float64)
    for name in left:
        path = left[name].double() @ path
    assert float(path.sum()) == 1.0


@pytest.mark.parametrize("gain", [1e6, 1e-6, 1.0])
def test_synaptic_flow_neither_overflows_nor_underflows(gain: float) -> None:
    """Weights 10^6 times larger or smaller in 60 layers scale the flow by 10^360, and the scores by nothing."""
    model = deep(*[5] * 61, bias=False)
    mask = Mask.dense(model)
    plain = flat(score("synflow:rounds=1", model, mask, shaped(5)))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(gain)
    found = flat(score("synflow:rounds=1", model, mask, shaped(5)))
    assert torch.allclose(found, plain, rtol=1e-9)
    assert bool((found > 0).all())


@pytest.mark.parametrize("reason", ["softmax", "deep", "cut"])
def test_a_network_through_which_nothing_flows_is_refused(reason: str) -> None:
    model = deep(5, 5, 5) if reason != "deep" else deep(*[5] * 300)
    if reason == "softmax":
        model = nn.Sequential(model, nn.Softmax(1))  # what it puts out sums to 1 whatever goes in
    if reason == "deep":
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1e6)
    if reason == "cut":
        model[0].weight.data.zero_()
    with pytest.raises(UsageError, match=r"synflow: nothing.*in round 1 of 1"):
        score("synflow:rounds=1", model, Mask.dense(model), shaped(5))


def test_synaptic_flow_takes_whole_numbers_for_inputs() -> None:
    model = nn.Sequential(nn.Embedding(9, 6), nn.Flatten(), nn.Linear(18, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randint(9, (5, 3))
    seen = Probe(batches=[(x, torch.zeros(5, dtype=torch.int64))], loss=F.cross_entropy, keep=10)
    found = score("synflow", model, Mask.dense(model), seen)
    assert int((flat(found) >= 0).sum()) == 10
