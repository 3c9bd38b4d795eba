"""Supermasks and edge-popup: what is learned is which weights to use; the weights stand still."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from criteria_helpers import network, probe
from helpers import random_mask
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.criteria import Criterion, Probe
from tombola.criteria.learned import EdgePopup, Supermask
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner

BOTH = [Supermask(steps=60, lr=20.0), EdgePopup(steps=60, lr=1.0)]


def parity_free(size: int = 64) -> tuple[nn.Module, Probe]:
    """Only input 0 says anything, and only through the weights that have its sign."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 6, generator=generator, dtype=torch.float64)
    y = (x[:, 0] > 0).long()
    model = nn.Linear(6, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0] * 6, [1.0] * 6]))
    return model, Probe(seed=1, batches=[(x, y)], loss=F.cross_entropy)


@pytest.mark.parametrize("criterion", BOTH, ids=["supermask", "edge-popup"])
def test_what_helps_is_kept(criterion: Criterion) -> None:
    model, seen = parity_free()
    after = Pruner(criterion=criterion)(model, Mask.dense(model), 2, seen)
    assert after["weight"].nonzero().tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize("criterion", BOTH, ids=["supermask", "edge-popup"])
def test_what_is_pruned_stays_pruned(criterion: Criterion) -> None:
    model = network("double")
    mask = random_mask(model, 0.5)
    scores = criterion(model, mask, replace(probe(model, "double"), keep=mask.alive // 2))
    for name in mask:
        assert scores[name][mask[name]].min() > scores[name][~mask[name]].max()


def test_one_step_of_edge_popup_by_hand() -> None:
    """ds = dL/dw_eff * w * scale * sign(s), through used and unused weights alike."""
    model, seen = parity_free()
    mask, lr = Mask.dense(model), 1e-9
    one = EdgePopup(steps=1, lr=lr, momentum=0.0, weight_decay=0.0)
    first = one._first("weight", mask, seen).double()
    used = torch.zeros(12, dtype=torch.float64)
    used[first.abs().flatten().argsort(descending=True)[:6]] = 1.0
    effective = (model.weight.detach() * used.view(2, 6) * 2**0.5).requires_grad_()
    ((x, y),) = seen.batches
    F.cross_entropy(x @ effective.t(), y).backward()
    assert effective.grad is not None
    slope = effective.grad * model.weight.detach() * 2**0.5 * first.sign()
    learned = stepped(one, model, mask, replace(seen, keep=6))
    assert torch.allclose((first - learned) / lr, slope, rtol=1e-5, atol=1e-6)


def stepped(criterion: EdgePopup, model: nn.Module, mask: Mask, seen: Probe) -> Tensor:
    """The signed scores after the steps, from inside."""
    found: list[Tensor] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            super().step()
            found[:] = [self.param_groups[0]["params"][0].detach().clone()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "SGD", Watched)
        criterion(model, mask, seen)
    return found[0]


def test_adjusted_weights_are_those_that_were_gated() -> None:
    model = network("double")
    before, seen = random_mask(model, 0.8), probe(model, "double")
    weights = {name: weight.detach() for name, weight in model.named_parameters() if name in before}
    plain = Pruner(criterion=Supermask(steps=3)).cut(model, before, before.alive // 2, seen)
    for name, value in plain.adjusted.items():
        factor = before.kept[name] / plain.mask.kept[name]
        assert torch.allclose(value, weights[name] * plain.mask[name] * factor, rtol=1e-12)
    constant = Pruner(criterion=EdgePopup(steps=3, constant=True)).cut(model, before, before.alive // 2, seen)
    factor = (before.alive / constant.mask.alive) ** 0.5
    for name, value in constant.adjusted.items():
        assert torch.equal(value != 0, constant.mask[name])
        assert torch.equal(value.sign(), weights[name].sign() * constant.mask[name])
        assert value[value != 0].abs().unique().numel() == 1
        kept = weights[name][before[name]]
        assert value.abs().max() == pytest.approx(float(kept.std(correction=0)) * factor, rel=1e-9)


@pytest.mark.parametrize("density", [0.75, 0.4])
def test_edge_popup_takes_as_much_from_every_layer(density: float) -> None:
    model = network("double")
    mask = Mask.dense(model)
    after = Pruner(criterion=EdgePopup(steps=2))(model, mask, round(density * mask.total), probe(model, "double"))
    assert all(abs(after.kept[name] / mask.kept[name] - density) < 0.05 for name in mask)


def test_a_loss_that_is_not_finite_is_said() -> None:
    model, seen = parity_free()
    (x, y), *_ = seen.batches
    broken = replace(seen, batches=[(x * torch.nan, y)], keep=2)
    with pytest.raises(UsageError, match=r"supermask: the loss is nan at step 0; use a smaller lr"):
        Supermask(steps=2)(model, Mask.dense(model), broken)
    with pytest.raises(UsageError, match="steps is 0"):
        EdgePopup(steps=0)
