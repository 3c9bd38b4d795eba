"""Criteria of first order, against finite differences in float64, explicit gradients and the papers' own theorems."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from criteria_helpers import Weights, examples, flat, masked, score, smooth
from helpers import random_mask
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tombola.criteria import Probe, criterion_of, needs_of
from tombola.criteria.looking import scoring
from tombola.criteria.slopes import example_gradients, gradients, weights_of
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.starts import Moment
from tombola.streams import seeded
from tombola.training.gather import Gathering

FIRST_ORDER = ["snip", "grad", "grasp", "taylor", "iterative_snip", "force", "empirical_fisher", "true_fisher"]
STEP = 1e-5


def loss_of(model: nn.Module, weights: Weights, seen: Probe, temperature: float = 1.0) -> Tensor:
    """The mean loss over all examples, in one piece."""
    x, y = (torch.cat(part) for part in zip(*seen.batches, strict=True))
    return F.cross_entropy(functional_call(model, weights, (x,)) / temperature, y)


def each_place(weights: Weights) -> list[tuple[str, int]]:
    return [(name, place) for name, weight in weights.items() for place in range(weight.numel())]


def with_one(weights: Weights, name: str, place: int, change: Callable[[Tensor], Tensor]) -> Weights:
    moved = weights[name].clone()
    moved.view(-1)[place] = change(moved.view(-1)[place])
    return {**weights, name: moved}


def test_snip_is_the_derivative_at_a_gate_on_each_connection() -> None:
    model, seen = smooth(), examples()
    mask = random_mask(model, 0.7)
    weights = masked(model, mask)
    gates = []
    for name, place in each_place(weights):
        up, down = (
            loss_of(model, with_one(weights, name, place, lambda w, c=c: w * c), seen) for c in (1 + STEP, 1 - STEP)
        )
        gates.append(((up - down) / (2 * STEP)).abs())
    expected = torch.stack(gates).detach()
    found = flat(score("snip", model, mask, seen))
    assert torch.allclose(found, expected / expected.sum(), rtol=0, atol=1e-9)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-12)
    assert not bool(found[~torch.cat([mask[n].flatten() for n in mask])].any())


def test_grad_is_the_slope_of_the_loss() -> None:
    model, seen = smooth(), examples()
    mask = random_mask(model, 0.7)
    weights = masked(model, mask)
    slopes = [
        (
            loss_of(model, with_one(weights, name, place, lambda w: w + STEP), seen)
            - loss_of(model, with_one(weights, name, place, lambda w: w - STEP), seen)
        )
        / (2 * STEP)
        for name, place in each_place(weights)
    ]
    assert torch.allclose(flat(score("gradient", model, mask, seen)), torch.stack(slopes).abs(), rtol=0, atol=1e-9)


def test_grasp_differentiates_fused_attention_twice() -> None:
    with seeded(1):
        model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.Linear(24, 3))
    seen = Probe(batches=[(torch.randn(5, 3, 8), torch.randint(3, (5,)))], loss=F.cross_entropy)
    assert all(bool(s.any()) for s in score("grasp", model, Mask.dense(model), seen).values())


def test_recurrent_networks_are_scored_without_cudnn() -> None:
    """Whose kernels have no backward in evaluation mode."""
    before = torch.backends.cudnn.enabled
    for model, enabled in ((nn.LSTM(3, 4), False), (nn.Linear(3, 4), before)):
        with scoring(model, Mask.dense(model), Probe()):
            assert torch.backends.cudnn.enabled is enabled
        assert torch.backends.cudnn.enabled is before


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_grasp_is_the_change_of_the_gradient_norm_as_a_weight_shrinks(temperature: float) -> None:
    model, seen = smooth(), examples()
    mask = random_mask(model, 0.7)
    weights = masked(model, mask)

    def gradient(at: Weights) -> Weights:
        leaves = {name: weight.clone().requires_grad_() for name, weight in at.items()}
        found = torch.autograd.grad(loss_of(model, leaves, seen, temperature), [*leaves.values()])
        return {name: g * mask[name] for name, g in zip(leaves, found, strict=True)}

    def norm(at: Weights) -> Tensor:
        return sum((g.square().sum() for g in gradient(at).values()), torch.zeros(()))

    changes = []
    for name, place in each_place(weights):  # d|g|^2/dc at a gate c = 1: it falls when the weight goes by so much
        up, down = (norm(with_one(weights, name, place, lambda w, c=c: w * c)) for c in (1 + STEP, 1 - STEP))
        changes.append((up - down) / (2 * STEP))
    expected = torch.stack(changes)
    direction = gradient(weights)
    far, near = (gradient({n: w + s * direction[n] for n, w in weights.items()}) for s in (STEP, -STEP))
    product = torch.cat([(weights[n] * (far[n] - near[n]) / (2 * STEP)).flatten() for n in weights])
    found = flat(score(f"grasp:temperature={temperature}", model, mask, seen))
    scale = expected.abs().sum()
    assert torch.allclose(found, expected / scale, rtol=0, atol=1e-7)
    assert torch.allclose(found, product / product.abs().sum(), rtol=0, atol=1e-7)
    assert float(found.min()) < 0 < float(found.max())
    worst = int(torch.where(flat({n: mask[n] for n in mask}).bool(), found, math.inf).argmin())
    name, place = each_place(weights)[worst]
    without = with_one(weights, name, place, lambda w: w * 0.9)
    assert float(norm(without)) > float(norm(weights))  # what goes first lets the gradient grow


def test_taylor_is_the_squared_first_order_change_when_a_weight_goes() -> None:
    model, seen = smooth(), examples((6, 9))
    mask = random_mask(model, 0.7)
    weights = masked(model, mask)
    expected = torch.zeros(sum(w.numel() for w in weights.values()), dtype=torch.float64)
    for number, (name, place) in enumerate(each_place(weights)):
        for batch in seen.batches:
            one = replace(seen, batches=[batch])
            up, down = (
                loss_of(model, with_one(weights, name, place, lambda w, c=c: w * c), one) for c in (1 + STEP, 1 - STEP)
            )
            expected[number] += ((up - down) / (2 * STEP)) ** 2 * len(batch[0]) / 15
    assert torch.allclose(flat(score("taylor", model, mask, seen)), expected, rtol=1e-5, atol=1e-13)


def test_taylor_predicts_what_the_loss_does_without_a_small_weight() -> None:
    model, seen = smooth(), examples((15,))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1e-3)
    mask = Mask.dense(model)
    weights = masked(model, mask)
    base = loss_of(model, weights, seen)
    found = flat(score("taylor", model, mask, seen)).sqrt()
    real = torch.stack([(loss_of(model, with_one(weights, n, p, lambda w: w * 0), seen) - base).abs()
                        for n, p in each_place(weights)])  # fmt: skip
    assert torch.allclose(found, real, rtol=1e-2, atol=1e-8)


def test_taylor_of_units_sums_before_it_squares() -> None:
    model, seen = smooth(), examples((15,))
    mask = random_mask(model, 0.7)
    leaves = {name: weight.requires_grad_() for name, weight in masked(model, mask).items()}
    slopes = torch.autograd.grad(loss_of(model, leaves, seen), [*leaves.values()])
    found = score("taylor:units=true", model, mask, seen)
    *hidden, output = leaves
    for name, slope in zip(hidden, slopes, strict=False):
        units = (slope * leaves[name]).sum(1).square().detach()
        assert torch.allclose(found[name], units[:, None].expand_as(found[name]), rtol=1e-9)
    size = dict(model.named_parameters())[output].detach().abs()
    assert (found[output] / size).std() < 1e-9  # its units are the answer: it goes weight by weight
    assert needs_of(criterion_of("taylor:units=true")).units
    assert not needs_of(criterion_of("taylor")).units


@pytest.mark.parametrize("name", ["snip", "grad", "grasp", "force:rounds=3"])
def test_batches_of_other_sizes_give_the_same_scores(name: str) -> None:
    """The gradient is that of the mean over the examples, however they are cut into batches."""
    model, seen = smooth(), examples((15,))
    (x, y), *_ = seen.batches
    cut = replace(seen, batches=[(x[:4], y[:4]), (x[4:4], y[4:4]), (x[4:], y[4:])], keep=10)
    mask = random_mask(model, 0.8)
    whole = flat(score(name, model, mask, replace(seen, keep=10)))
    assert torch.allclose(whole, flat(score(name, model, mask, cut)), rtol=1e-9, atol=1e-15)


def explicit_fisher(model: nn.Module, mask: Mask, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """1/2 E[g^2] w^2, one example at a time."""
    leaves = {name: weight.requires_grad_() for name, weight in masked(model, mask).items()}
    total = [torch.zeros_like(weight) for weight in leaves.values()]
    for x, y in pairs:
        found = torch.autograd.grad(
            F.cross_entropy(functional_call(model, leaves, (x[None],)), y[None]), [*leaves.values()]
        )
        total = [sum_ + g**2 for sum_, g in zip(total, found, strict=True)]
    return torch.cat([(t / (2 * len(pairs)) * w.detach() ** 2).flatten()
                      for t, w in zip(total, leaves.values(), strict=True)])  # fmt: skip


def test_the_empirical_fisher_is_of_single_examples() -> None:
    model, seen = smooth(), examples()
    mask = random_mask(model, 0.7)
    pairs = [(x, y) for xs, ys in seen.batches for x, y in zip(xs, ys, strict=True)]
    expected = explicit_fisher(model, mask, pairs)
    assert torch.allclose(flat(score("empirical_fisher", model, mask, seen)), expected, rtol=1e-9)


def test_the_true_fisher_is_the_expectation_over_the_networks_own_labels() -> None:
    """With every class weighted by its chance it can be written down; draws come near to it, data labels do not."""
    model, seen = smooth(), examples((8,))
    mask = random_mask(model, 0.7)
    (x, _), *_ = seen.batches
    chances = functional_call(model, masked(model, mask), (x,)).softmax(-1).detach()
    seen = replace(seen, batches=[(x, chances.argmin(1))])
    exact = torch.zeros(32, dtype=torch.float64)
    for one, chance in zip(x, chances, strict=True):
        for label in range(3):
            exact += chance[label] * explicit_fisher(model, mask, [(one, torch.tensor(label))]) / len(x)
    drawn = flat(score("true_fisher:draws=500", model, mask, seen))
    assert torch.allclose(drawn, exact, rtol=0.15, atol=1e-6)
    empirical = flat(score("empirical_fisher", model, mask, seen))
    assert float((empirical - exact).norm() / exact.norm()) > 0.3


def test_both_fishers_agree_where_the_network_is_calibrated() -> None:
    model = smooth()
    mask, generator = Mask.dense(model), torch.Generator().manual_seed(0)
    x = torch.randn(4000, 5, generator=generator, dtype=torch.float64)
    y = torch.multinomial(model(x).softmax(-1).detach(), 1, generator=generator)[:, 0]
    seen = Probe(seed=1, batches=[(x, y)], loss=F.cross_entropy)
    true, empirical = (flat(score(name, model, mask, seen)) for name in ("true_fisher", "empirical_fisher"))
    assert float((true - empirical).norm() / true.norm()) < 0.1
    again = flat(score("true_fisher", model, mask, replace(seen, seed=2)))
    assert not torch.equal(true, again)


def test_the_true_fisher_of_a_regression_draws_normal_values() -> None:
    model = nn.Linear(2, 1, bias=False).double()
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64).expand(4000, 2)
    for y in (torch.zeros(4000, 1, dtype=torch.float64), 1e6 + torch.zeros(4000, dtype=torch.float64)):
        seen = Probe(batches=[(x, y)], loss=lambda outputs, y: F.mse_loss(outputs, y.view(outputs.shape)))
        found = flat(score("true_fisher", model, Mask.dense(model), seen)) / model.weight.detach().flatten() ** 2
        assert torch.allclose(found, torch.tensor([2.0, 8.0], dtype=torch.float64), rtol=0.1)  # 1/2 E[(2 e x)^2]


@pytest.mark.parametrize("dim", [1, 2])
def test_the_true_fisher_draws_a_class_at_every_position(dim: int) -> None:
    model = nn.Linear(4, 3).double()
    x, y = torch.randn(5, 7, 4, dtype=torch.float64), torch.randint(3, (5, 7))
    model = model if dim == 2 else nn.Sequential(model, Turned())

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs if dim == 1 else outputs.movedim(-1, 1), targets)

    found = score("true_fisher", model, Mask.dense(model), Probe(batches=[(x, y)], loss=loss))
    assert bool((flat(found) > 0).all())


class Turned(nn.Module):
    """Classes in dimension 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(-1, 1)


@pytest.mark.parametrize("targets", [torch.zeros(15, 2), torch.zeros(4, dtype=torch.int64)])
def test_targets_that_the_true_fisher_cannot_draw_are_refused(targets: Tensor) -> None:
    (x, _), *_ = examples((15,)).batches
    model = smooth()
    with pytest.raises(UsageError, match="true_fisher draws"):
        score("true_fisher", model, Mask.dense(model), Probe(batches=[(x, targets)], loss=F.cross_entropy))


class Peeking(nn.Module):
    """Control flow that looks at numbers, which vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out * 2 if float(x.sum()) > 0 else out


def test_gradients_of_examples_that_vmap_cannot_follow() -> None:
    with seeded(2):
        model = Peeking().double()
    seen, mask = examples(), Mask.dense(model)
    pairs = [(x, y) for xs, ys in seen.batches for x, y in zip(xs, ys, strict=True)]
    found = flat(score("empirical_fisher", model, mask, seen))
    assert torch.allclose(found, explicit_fisher(model, mask, pairs), rtol=1e-9)


def test_gradients_of_examples_come_in_parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = smooth(), examples((9,))
    (x, y), *_ = seen.batches
    with scoring(model, Mask.dense(model), seen) as copied:
        weights = weights_of(copied, Mask.dense(model))
        whole = [*example_gradients(copied, weights, x, y, F.cross_entropy)]
        monkeypatch.setattr("tombola.criteria.slopes._HELD", 4 * 32 + 1)
        parts = [*example_gradients(copied, weights, x, y, F.cross_entropy)]
    assert [len(part["0.weight"]) for part in parts] == [4, 4, 1]
    for name in weights:
        assert torch.allclose(torch.cat([part[name] for part in parts]), whole[0][name], rtol=1e-12)


def test_gradients_that_torch_shares_are_given_apart() -> None:
    one, two = torch.ones(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    found = gradients(((one + two) ** 2).sum() + one.sum(), {"one": one, "two": two})
    found["one"].zero_()
    assert found["two"].tolist() == [[4.0, 4.0], [4.0, 4.0]]
    constant = gradients(one.sum(), {"one": one})["one"]
    assert constant.mul_(3).tolist() == [[3.0, 3.0], [3.0, 3.0]]
    shared = gradients((one + two).sum(), {"one": one, "two": two})
    shared["one"].mul_(5)
    assert shared["two"].tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_gradients_that_are_all_0_say_nothing(name: str) -> None:
    """At a minimum, and where what is left has no path."""
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(-model[0].weight.abs())
    seen = Probe(batches=[(torch.ones(3, 5, dtype=torch.float64), torch.zeros(3, 1, dtype=torch.float64))],
                 loss=F.mse_loss, keep=5)  # fmt: skip
    with pytest.raises(UsageError, match=rf"Every gradient is 0.*criterion {name}.*obd or magnitude"):
        score(name, model, Mask.dense(model), seen)


def test_first_order_criteria_score_where_their_papers_do() -> None:
    at_init = {"snip", "grasp", "synflow", "force", "iterative_snip", "grad"}
    at_end = {"taylor", "empirical_fisher", "true_fisher", "movement_pruning"}
    assert all(needs_of(criterion_of(name)).scored_at is Moment.INIT for name in at_init)
    assert all(needs_of(criterion_of(name)).scored_at is Moment.END for name in at_end)
    assert needs_of(criterion_of("synflow")).passes == 100
    assert needs_of(criterion_of("iterative_snip:rounds=7")).passes == 7


def test_movement_pruning_keeps_what_moved_away_from_0() -> None:
    """Gradient descent to a minimum that is further out for one weight, and at 0 for the other; as training gathers."""
    model = nn.Linear(2, 1, bias=False).double()
    model.weight.data.fill_(1.0)
    mask, target = Mask.dense(model), torch.tensor([[2.0, 0.0]])
    optimizer, sums = torch.optim.SGD(model.parameters(), lr=0.1), Gathering(["movement"], model, mask)
    expected = torch.zeros(1, 2, dtype=torch.float64)
    for _ in range(5):
        optimizer.zero_grad()
        ((model.weight - target) ** 2 / 2).sum().backward()
        sums.add()
        expected -= (model.weight - target).detach() * model.weight.detach()
        optimizer.step()
    found = score("movement_pruning", model, mask, Probe(gathered=sums.state()))["weight"]
    assert torch.allclose(found, expected, rtol=1e-12)
    assert float(found[0, 0]) > 0 > float(found[0, 1])
