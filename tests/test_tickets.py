"""Tickets in memory: what they hold, how they go into a model, and from one model to another."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import random_mask, same_bits, same_state
from torch import Tensor, nn

from tombola.errors import TicketError, TombolaError
from tombola.masks import Mask
from tombola.streams import seeded
from tombola.tickets import Level, Ticket, overlap
from tombola.tickets.jaccard import chance_jaccard
from tombola.training.enforce import apply_mask
from tombola.training.state import State, state_of


def network(seed: int = 0, width: int = 6) -> nn.Sequential:
    with seeded(seed):
        return nn.Sequential(nn.Linear(8, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 4))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(5, 5), nn.Linear(5, 5)
        self.decoder.weight = self.encoder.weight


def ticket_of(model: nn.Module, **further: Any) -> Ticket:
    mask = random_mask(model)
    masked = copy.deepcopy(model)
    apply_mask(masked, mask)
    return Ticket(mask=mask, weights=state_of(masked), **further)


def test_a_ticket_goes_into_an_untouched_model() -> None:
    ticket, fresh = ticket_of(network(0)), network(1)
    kept = list(fresh.parameters())
    assert ticket.apply(fresh) is fresh
    assert same_state(state_of(fresh), ticket.weights)
    assert all(a is b for a, b in zip(kept, fresh.parameters(), strict=True))  # an optimizer made before still holds
    assert all(type(m).__module__.startswith("torch.") for m in fresh.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in fresh.modules())
    plain = network(2)
    plain.load_state_dict(ticket.weights)  # nothing of Tombola is needed
    assert same_state(state_of(plain), ticket.weights)


def test_nothing_is_shared() -> None:
    model = network()
    ticket = ticket_of(model, trained=None)
    weights = {name: value.clone() for name, value in ticket.weights.items()}
    first = ticket.apply(network(1))
    with torch.no_grad():
        for value in first.state_dict().values():
            value.add_(1)
    assert same_state(ticket.weights, weights)
    given = state_of(ticket.apply(network(1)))
    other = Ticket(mask=ticket.mask, weights=given, metadata={"a": {"b": (1, 2)}})
    given["0.weight"].fill_(7)
    assert same_state(other.weights, weights) and other.metadata == {"a": {"b": [1, 2]}}
    with pytest.raises(dataclasses.FrozenInstanceError):
        other.mask = ticket.mask  # type: ignore[misc]


def test_pruned_places_are_plain_zeros() -> None:
    mask = Mask({"weight": torch.tensor([[True, False]])})
    ticket = Ticket(mask=mask, weights={"weight": torch.tensor([[-0.0, -0.0]])})
    assert same_bits(ticket.weights["weight"], torch.tensor([[-0.0, 0.0]]))


def test_wrapped_models() -> None:
    model = network()
    ticket = ticket_of(model)
    wrapped = nn.DataParallel(network(1))
    assert ticket.apply(wrapped) is wrapped and same_state(state_of(wrapped.module), ticket.weights)
    whole = ticket_of(nn.Sequential(network()))
    assert whole.apply(nn.Sequential(network(2)))[0][0].weight.equal(whole.weights["0.0.weight"])
    for wrong in (None, 3):
        with pytest.raises(TicketError, match=r"torch.nn.Module"):
            ticket.apply(wrong)  # type: ignore[type-var]
    with pytest.raises(TicketError, match="The model is a int"):
        ticket.transfer(3)  # type: ignore[arg-type]


def test_compiled_and_tied_models() -> None:
    ticket = ticket_of(network(0))
    compiled = torch.compile(network(1), backend="eager")
    assert ticket.apply(compiled) is compiled
    assert same_state(state_of(compiled._orig_mod), ticket.weights)
    with seeded(0):
        tied = Tied()
    ticket, loose = ticket_of(tied), Tied()
    assert ticket.mask.kept.keys() == {"encoder.weight"}
    ticket.apply(loose)
    assert loose.decoder.weight is loose.encoder.weight and same_state(state_of(loose), ticket.weights)
    apart = {**ticket.weights, "decoder.weight": torch.ones(5, 5)}
    before = state_of(loose)
    with pytest.raises(TicketError, match=r"ties 'decoder.weight' to 'encoder.weight', but .* does not tie them"):
        Ticket(mask=ticket.mask, weights=apart).apply(loose)
    assert same_state(state_of(loose), before)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: network(width=7), r"for '0.weight' expected float32 \(6, 8\), got float32 \(7, 8\); .*another model"),
        (lambda: network().double(), r"'0.weight' expected float32 .*got float64 .*model.to\(torch.float32\)"),
        (lambda: network()[:3], r"'3.weight' expected float32 \(4, 6\), got nothing"),
        (lambda: nn.Sequential(*network(), nn.Linear(4, 1)), r"'4.weight' expected nothing, got float32 \(1, 4\)"),
        (lambda: nn.LazyLinear(3), "'weight' is not initialised .* run it once"),
        (lambda: network().to("meta"), "on the meta device"),
    ],
    ids=["shape", "dtype", "missing", "more", "lazy", "meta"],
)
def test_a_model_that_does_not_fit_is_refused_and_left_alone(other: Any, words: str) -> None:
    model = other()
    before = copy.deepcopy(model)
    with pytest.raises(TicketError, match=words):
        ticket_of(network()).apply(model)
    assert repr(before) == repr(model)
    if not isinstance(model, nn.LazyLinear) and not next(model.parameters()).is_meta:
        assert same_state(state_of(before), state_of(model))


def state(**changes: Tensor) -> State:
    return {"weight": torch.tensor([[1.0, 0.0]]), "bias": torch.zeros(1), **changes}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": {}}, "mask has 'weight' with shape"),
        ({"weights": state(weight=torch.ones(2, 1))}, r"but weights has float32 \(2, 1\)"),
        ({"weights": state(weight=torch.ones(1, 2))}, "not 0 at 1 places that the mask prunes; set them to 0"),
        ({"weights": state(weight=torch.tensor([[1.0, math.nan]]))}, "not 0 at 1 places"),
        ({"weights": {**state(), "more": 3}}, r"weights\['more'\] is int"),
        ({"weights": {**state(), "more": torch.ones(1, device="meta")}}, r"weights\['more'\] is float32"),
        ({"weights": {**state(), "more": torch.ones(1).to_sparse()}}, "expected a dense tensor"),
        ({"trained": state(bias=torch.zeros(2))}, r"'bias' the trained weights have float32 \(2,\), the start"),
        ({"trained": {"weight": state()["weight"]}}, "'bias' the trained weights have no tensor"),
        ({"weights": state(weight=torch.tensor([[1, 0]]))}, "only real floating-point weights of 16 bits"),
        ({"weights": state(weight=torch.tensor([[1j, 0]]))}, "only real floating-point weights of 16 bits"),
        ({"weights": state(weight=torch.tensor([[1.0, 0]]).to(torch.float8_e5m2))}, "only real floating-point"),
        ({"mask": Mask({})}, "names no tensor"),
        ({"metadata": {"a": math.nan}}, "'metadata.a' is nan; expected what JSON can hold"),
        ({"metadata": {"a": [1, torch.ones(1)]}}, r"'metadata.a\[1\]' is a Tensor"),
        ({"metadata": {"a": np.float32(1)}}, "is a float32"),
        ({"metadata": {1: 2}}, "has the key '1'; expected only strings"),
        ({"metadata": {"a": 1 << 80}}, "is too large"),
    ],
)
def test_what_does_not_fit_together_is_no_ticket(change: dict[str, Any], words: str) -> None:
    mask = Mask({"weight": torch.tensor([[True, False]])})
    with pytest.raises(TicketError, match=words) as caught:
        Ticket(**{"mask": mask, "weights": state(), **change})
    assert isinstance(caught.value, TombolaError)


def test_metadata_that_nest_without_end() -> None:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(TicketError, match="nested more than 32 deep"):
        Ticket(mask=Mask({"weight": torch.ones(1, 2) > 0}), weights=state(), metadata={"deep": deep})


@pytest.mark.parametrize("change", [{"level": -1}, {"level": True}, {"density": math.nan}, {"kept": 1.5}, {"arm": 3}])
def test_levels_are_checked(change: dict[str, Any]) -> None:
    fields = {"level": 1, "density": 0.5, "kept": 3, "metric": None, "steps": 10, "seconds": 0.1}
    assert Level(**fields).replicate == 0  # type: ignore[arg-type]
    with pytest.raises(TicketError, match=rf"Level.{next(iter(change))} is .*; expected"):
        Level(**{**fields, **change})


def test_transfer_by_name_and_by_mapping() -> None:
    ticket = ticket_of(network(), metadata={"recipe": "x"})
    with seeded(1):
        other = nn.Sequential(*network(1)[:3], nn.Linear(6, 9))
    before = state_of(other)
    moved = ticket.transfer(other)
    assert same_state(state_of(other), before)
    assert dict(moved.mask).keys() == {"0.weight"} and torch.equal(moved.mask["0.weight"], ticket.mask["0.weight"])
    apart = {"3.weight", "3.bias"}
    assert {n for n in before if same_bits(moved.weights[n], before[n])} >= apart
    assert all(same_bits(moved.weights[n], ticket.weights[n]) for n in before if n not in apart)
    assert moved.metadata["recipe"] == "x"
    assert (
        moved.metadata["transfer"]["left_out"] == moved.metadata["transfer"]["of_the_model"] == ["3.weight", "3.bias"]
    )
    assert same_state(state_of(moved.apply(other)), moved.weights)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.body = nn.Linear(4, 2), network(3)

    names = {name: f"body.{name}" for name in ticket.weights}
    moved = ticket.transfer(Wrapped(), names)
    assert list(moved.mask) == ["body.0.weight", "body.3.weight"]
    assert all(same_bits(moved.weights[place], ticket.weights[name]) for name, place in names.items())
    assert moved.metadata["transfer"]["mapping"] == names


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        (None, r"No masked tensor .* for '0.weight' the ticket has float32 \(6, 8\), the model float32 \(3, 3\)"),
        ({"0.weight": "0.weight"}, r"gives '0.weight' to '0.weight': expected float32 \(6, 8\), got float32 \(3, 3\)"),
        ({"0.weight": "nowhere"}, "got no such tensor"),
        ({"nowhere": "0.weight"}, "names 'nowhere', which the ticket does not have"),
        ({"0.weight": "0.weight", "3.weight": "0.weight"}, "two tensors of the ticket to one"),
        ({"0.bias": "1.bias"}, "No masked tensor"),
    ],
)
def test_transfers_that_cannot_be(mapping: dict[str, str] | None, words: str) -> None:
    with pytest.raises(TicketError, match=words):
        ticket_of(network()).transfer(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 6)), mapping)


def test_chance_is_what_random_masks_give() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = [(60, 20, 7), (30, 3, 25), (5, 0, 2)]
    sample = []
    for _ in range(4000):
        common = 0
        for places, first, second in counts:
            picked = [torch.randperm(places, generator=generator)[:n] for n in (first, second)]
            common += int(torch.isin(*picked).sum())
        sample.append(common / (57 - common))
    error = float(np.std(sample)) / math.sqrt(len(sample))
    assert abs(chance_jaccard(counts) - float(np.mean(sample))) < 4 * error
    assert chance_jaccard([(1000, 1000, 1000)]) == pytest.approx(1)
    exact = sum(math.comb(5, x) * math.comb(5, 4 - x) / math.comb(10, 4) * x / (9 - x) for x in range(5))
    assert chance_jaccard([(10, 5, 4)]) == pytest.approx(exact, rel=1e-12)
    large = chance_jaccard([(10**9, 10**8, 2 * 10**8)])
    assert large == pytest.approx(2e7 / 2.8e8, rel=1e-5)


def test_overlap_of_masks() -> None:
    a, b = random_mask(network(), seed=0), random_mask(network(), seed=1)
    rows = overlap(a, b)
    for row in rows[:-1]:
        assert row.name is not None and row.jaccard is not None and row.chance is not None
        both, either = int((a[row.name] & b[row.name]).sum()), int((a[row.name] | b[row.name]).sum())
        assert (row.both, row.jaccard, row.ratio) == (both, both / either, both / either / row.chance)
        assert row.chance == chance_jaccard([(row.total, row.first, row.second)])
    assert rows[-1].name is None and rows[-1].both == sum(row.both for row in rows[:-1])
    assert [row.jaccard for row in overlap(a, a)] == [1.0] * 3
    empty = Mask({"0.weight": torch.zeros(6, 8) > 0})
    assert [(row.jaccard, row.chance, row.ratio) for row in overlap(empty, empty)] == [(None, None, None)] * 2
    assert [(row.jaccard, row.chance, row.ratio) for row in overlap(empty, a)] == [(0.0, 0.0, None)] * 2
    with pytest.raises(TicketError, match="no tensor of one name and shape"):
        overlap(a, Mask({"0.weight": torch.ones(2, 2) > 0}))
