"""Criteria that cut in rounds: FORCE and iterative SNIP, by hand and against SNIP."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from criteria_helpers import examples, flat, network, probe, score, smooth
from helpers import random_mask
from torch import nn
from torch.nn import functional as F

from tombola.criteria import Probe, criterion_of
from tombola.criteria.rounds import sizes
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner


def returning() -> tuple[nn.Module, Probe]:
    """Two weights that fit their example together: of little use while both are there, of much when one is gone."""
    model = nn.Linear(4, 1, bias=False).double()
    model.weight.data.copy_(torch.tensor([[1.0, 1.01, 0.5, 0.4]]))
    x = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([[2.0], [0.0], [0.0]], dtype=torch.float64)
    return model, Probe(batches=[(x, y)], loss=F.mse_loss)


def kept(name: str, keep: int) -> list[bool]:
    model, seen = returning()
    mask = Pruner(criterion=criterion_of(name))(model, Mask.dense(model), keep, seen)
    found: list[bool] = mask["weight"][0].tolist()
    return found


def test_force_lets_a_weight_return_and_iterative_snip_does_not() -> None:
    assert sizes(4, 2, 2) == [3, 2]
    assert kept("snip", 3) == [False, True, True, True]  # the first round
    assert kept("force:rounds=2", 2) == [True, True, False, False]
    assert kept("iterative_snip:rounds=2", 2) == [False, True, True, False]
    assert kept("snip", 2) == [False, False, True, True]


@pytest.mark.parametrize("name", ["force", "iterative_snip"])
def test_one_round_is_snip(name: str) -> None:
    model, seen = smooth(), replace(examples(), keep=12)
    mask = random_mask(model, 0.8)
    once = Pruner(criterion=criterion_of("snip"))(model, mask, 12, seen)
    assert Pruner(criterion=criterion_of(f"{name}:rounds=1"))(model, mask, 12, seen) == once


@pytest.mark.parametrize("name", ["iterative_snip:rounds=5", "synflow:rounds=5"])
def test_scores_go_by_the_round_that_took_a_weight(name: str) -> None:
    """Every intermediate mask is the one that the same scores give at its size, and the next lies within it."""
    model, seen = network("double"), probe(network("double"), "double")
    mask = random_mask(model, 0.9)
    alive, keep = mask.alive, mask.alive // 6
    scores = score(name, model, mask, replace(seen, keep=keep))
    values, left = flat(scores), flat({n: mask[n] for n in mask}).bool()
    assert float(values[~left].max()) < float(values[left].min())
    assert int((values >= 0).sum()) == keep
    assert float(values[values >= 0].sum()) == pytest.approx(1.0)
    counts = sizes(alive, keep, 5)
    for number, count in enumerate(counts):
        assert int((values >= number - len(counts)).sum()) == count
    before = mask
    for count in counts:
        now = Pruner(criterion=lambda *_: scores)(model, before, count)
        assert now.within(before)
        before = now


@pytest.mark.parametrize("name", ["iterative_snip", "force", "synflow"])
def test_without_a_size_to_go_down_to_there_is_one_round(name: str) -> None:
    model, seen = network("double"), probe(network("double"), "double")
    mask = random_mask(model, 0.9)
    several = flat(score(name, model, mask, replace(seen, keep=None)))
    assert torch.equal(several, flat(score(f"{name}:rounds=1", model, mask, replace(seen, keep=mask.alive))))


@pytest.mark.parametrize("text", ["force:rounds=0", "iterative_snip:rounds=-1", "synflow:rounds=0"])
def test_rounds_below_one_are_refused(text: str) -> None:
    model, seen = network("double"), probe(network("double"), "double")
    with pytest.raises(UsageError, match=r"rounds is (0|-1); expected a whole number, 1 or more"):
        score(text, model, Mask.dense(model), replace(seen, keep=9))


@pytest.mark.parametrize(
    "text",
    [
        "grasp:temperature=0",
        "grasp:temperature=nan",
        "true_fisher:draws=0",
        "synflow:rounds=0",
        "force:rounds=-1",
        "iterative_snip:rounds=0",
        "supermask:lr=-1",
        "edge_popup:momentum=nan",
    ],
)
def test_options_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a"):
        criterion_of(text)
