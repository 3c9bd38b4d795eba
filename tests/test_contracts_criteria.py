"""What every criterion must keep, whatever it scores by; the tests go over the registry itself."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from criteria_helpers import NETWORKS, network, probe
from helpers import random_mask, same_state
from torch import Tensor, nn

from tombola.criteria import CRITERIA, Criterion, criterion_of, needs_of
from tombola.criteria.base import Scores, work_of
from tombola.criteria.work import Size
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.specs import canonical
from tombola.starts import Moment

QUICK: dict[str, str] = {  # criteria that take long -> options that make them short
    "synflow": "synflow:rounds=5",
    "iterative_snip": "iterative_snip:rounds=4",
    "force": "force:rounds=4",
    "supermask": "supermask:steps=3,lr=1",
    "edge_popup": "edge_popup:steps=3",
    "greedy": "greedy:rounds=3",
    "obd": "obd:exact=100,samples=4",
}
INSIDE = ("activation_mean", "apoz", "covariance_redundancy", "mutual_information", "output_sensitivity", "hebbian")
READING = ("wanda", "sparsegpt", "low_variance", "low_variance_units")
# criterion -> networks that it cannot look into, and says so
REFUSED: dict[str, set[str]] = {name: {"rnn", "attention"} for name in (*INSIDE, *READING)}

CASES = [(name, kind) for name in CRITERIA for kind in NETWORKS if kind not in REFUSED.get(name, ())]
REFUSALS = [(name, kind) for name, kinds in REFUSED.items() for kind in sorted(kinds)]


def criterion(name: str) -> Criterion:
    return criterion_of(QUICK.get(name, name))


def scored(name: str, kind: str, model: nn.Module | None = None, mask: Mask | None = None) -> Scores:
    model = model or network(kind)
    mask = mask or random_mask(model, 0.6)
    return criterion(name)(model, mask, replace(probe(model, kind), keep=mask.alive // 2))


@pytest.mark.parametrize(("name", "kind"), CASES)
class TestCriteria:
    def test_scores_fit_the_mask(self, name: str, kind: str) -> None:
        model = network(kind)
        mask, scores = random_mask(model, 0.6), scored(name, kind, model)
        weights = dict(model.named_parameters())
        assert list(scores) == list(mask)
        for tensor, score in scores.items():
            assert score.shape == weights[tensor].shape
            assert score.dtype in {weights[tensor].dtype, torch.float32, torch.float64}
            assert score.device == weights[tensor].device
            assert not score.requires_grad
            assert bool(score.isfinite().all())
            assert bool((score[mask[tensor]] >= 0).all()) or needs_of(criterion(name)).signed
        assert len(torch.cat([score.double().flatten() for score in scores.values()]).unique()) > 1

    def test_nothing_is_changed_and_nothing_is_shared(self, name: str, kind: str) -> None:
        model = network(kind).train()
        next(model.children()).eval()
        next(iter(model.parameters())).requires_grad_(False)
        for weight in list(model.parameters())[1:]:
            weight.grad = torch.full_like(weight, 3.0)
        mask, before = random_mask(model, 0.6), copy.deepcopy(model.state_dict())
        modes = [module.training for module in model.modules()]
        wanted = [weight.requires_grad for weight in model.parameters()]
        given = probe(model, kind)
        assert given.initial is not None
        kept = copy.deepcopy([*given.batches, *given.initial.values(), *given.gathered["movement"].values()])
        torch.manual_seed(5)
        state = torch.get_rng_state()
        scores = criterion(name)(model, mask, replace(given, keep=mask.alive // 2))
        assert torch.equal(torch.get_rng_state(), state)
        for score in scores.values():
            score.fill_(7.0)
        assert same_state(floats(model.state_dict()), floats(before))
        assert [module.training for module in model.modules()] == modes
        assert [weight.requires_grad for weight in model.parameters()] == wanted
        gradients = [weight.grad for weight in model.parameters()]
        assert gradients[0] is None
        assert all(g is not None and bool((g == 3).all()) for g in gradients[1:])
        assert not any(hooked(module) for module in model.modules())
        now = [*given.batches, *given.initial.values(), *given.gathered["movement"].values()]
        assert all(torch.equal(a, b) for x, y in zip(kept, now, strict=True) for a, b in zip(x, y, strict=True))

    def test_the_same_call_gives_the_same_scores(self, name: str, kind: str) -> None:
        first, second = scored(name, kind), scored(name, kind)
        assert same_state(floats(first), floats(second))

    def test_training_mode_and_autocast_change_nothing(self, name: str, kind: str) -> None:
        """Batch norm goes by its running statistics, and a bfloat16 region around the call is left."""
        evaluating, training = network(kind).eval(), network(kind).train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = scored(name, kind, training)
        assert same_state(floats(scored(name, kind, evaluating)), floats(inside))

    def test_the_order_of_the_mask_does_not_matter(self, name: str, kind: str) -> None:
        model = network(kind)
        mask = random_mask(model, 0.6)
        turned = Mask({tensor: mask[tensor] for tensor in reversed(list(mask))})
        there, back = scored(name, kind, model, mask), scored(name, kind, model, turned)
        for tensor in mask:
            assert torch.allclose(there[tensor].double(), back[tensor].double(), rtol=1e-6, atol=1e-12)

    def test_a_pruner_keeps_the_largest_scores_and_exactly_so_many(self, name: str, kind: str) -> None:
        model = network(kind)
        mask = random_mask(model, 0.8)
        keep, seen = mask.alive * 2 // 3, probe(model, kind)
        scores = criterion(name)(model, mask, replace(seen, keep=keep))
        after = Pruner(criterion=criterion(name))(model, mask, keep, seen)
        assert after.alive == keep
        assert after.within(mask)
        kept = torch.cat([scores[n][after[n]].double() for n in mask])
        gone = torch.cat([scores[n][mask[n] & ~after[n]].double() for n in mask])
        assert len(gone) == mask.alive - keep
        assert kept.min() >= gone.max()


@pytest.mark.parametrize("name", CRITERIA)
def test_what_a_criterion_says_of_itself(name: str) -> None:
    found = needs_of(criterion(name))
    assert isinstance(found.scored_at, Moment)
    assert not found.gathered or found.scored_at is Moment.END
    assert canonical(criterion(name))


@pytest.mark.parametrize("name", CRITERIA)
def test_what_is_not_there_is_asked_for(name: str) -> None:
    """A criterion that needs data, initial weights or gathered sums says so, and names itself."""
    model, found = network("double"), needs_of(criterion(name))
    mask = Mask.dense(model)
    whole = replace(probe(model, "double"), keep=mask.alive // 2)
    lacking = {"batches": (found.data, ()), "initial": (found.initial, None), "gathered": (bool(found.gathered), {})}
    for part, (wanted, nothing) in lacking.items():
        without = replace(whole, **{part: nothing})
        if wanted:
            with pytest.raises(UsageError, match="criterion"):
                criterion(name)(model, mask, without)
        else:
            assert list(criterion(name)(model, mask, without)) == list(mask)


@pytest.mark.parametrize(("name", "kind"), REFUSALS)
def test_a_network_that_a_criterion_cannot_look_into_is_refused_by_name(name: str, kind: str) -> None:
    with pytest.raises(UsageError, match=r"body\.|head\."):
        scored(name, kind)


def floats(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().double() for name, tensor in tensors.items()}


def hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


@pytest.mark.parametrize("name", CRITERIA)
def test_what_a_criterion_needs_is_said(name: str) -> None:
    model = network("double")
    chosen, mask, seen = criterion(name), random_mask(model, 0.6), probe(model, "double")
    said, size = needs_of(chosen), Size.of(mask, mask.alive // 2, batches=2, examples=24)
    assert said.inside == (name in REFUSED)
    assert 0 <= work_of(chosen, size).passes < float("inf")
    unmoved = {weight: value.detach().clone() for weight, value in model.named_parameters()}
    scores = chosen(model, mask, replace(seen, initial=unmoved, keep=mask.alive // 2))
    assert said.moved == (len({float(v) for weight in mask for v in scores[weight][mask[weight]]}) == 1)
    assert not said.moved or said.initial
