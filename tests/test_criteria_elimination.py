"""Leave-one-out and greedy elimination, against networks that are looked at one by one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from criteria_helpers import examples, score, smooth
from helpers import random_mask
from torch import Tensor, nn

from tombola import find_ticket
from tombola.criteria import Probe, criterion_of, needs_of
from tombola.criteria.base import Place, work_of
from tombola.criteria.elimination import Greedy, leave_one_out
from tombola.criteria.units import FORWARD
from tombola.criteria.work import Size, Work
from tombola.errors import UsageError
from tombola.experiment import prepare
from tombola.masks import Mask
from tombola.pruning import prune
from tombola.recipes import RECIPES

SIZES = (6, 9)


def loss_without(model: nn.Module, kept: dict[str, Tensor], probe: Probe) -> float:
    """The mean loss over all examples, of a copy whose other weights are 0."""
    net = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name in kept:
                weight[~kept[name]] = 0
        assert probe.loss is not None
        return sum(len(x) * float(probe.loss(net(x), y)) for x, y in probe.batches) / sum(SIZES)


def places(mask: Mask) -> list[Place]:
    return [(name, i) for name in mask for i in mask[name].flatten().nonzero()[:, 0].tolist()]


def size(model: nn.Module, place: Place) -> float:
    return abs(dict(model.named_parameters())[place[0]].detach().view(-1)[place[1]].item())


def but(mask: Mask, gone: Sequence[Place]) -> dict[str, Tensor]:
    kept = {name: mask[name].clone() for name in mask}
    for name, index in gone:
        kept[name].view(-1)[index] = False
    return kept


def test_leave_one_out_is_what_the_loss_gains() -> None:
    model, probe = smooth(), examples(SIZES)
    mask = random_mask(model, 0.7)
    whole, found = loss_without(model, but(mask, []), probe), score("leave-one-out", model, mask, probe)
    for name, index in places(mask):
        expected = loss_without(model, but(mask, [(name, index)]), probe) - whole
        assert found[name].view(-1)[index].item() == pytest.approx(expected, abs=1e-12)
    assert all(bool((found[name][~mask[name]] == 0).all()) for name in mask)


def test_greedy_takes_away_what_is_missed_least_and_looks_again() -> None:
    model, probe = smooth(), examples(SIZES)
    mask = random_mask(model, 0.6)
    gone = list[Place]()
    for turn in range(mask.alive - 1):
        left = [place for place in places(mask) if place not in gone]
        losses = [(loss_without(model, but(mask, [*gone, place]), probe), size(model, place)) for place in left]
        gone.append(left[losses.index(min(losses))])  # what leads nowhere is missed equally
        found = score("greedy", model, mask, replace(probe, keep=mask.alive - turn - 1))
        order = sorted(places(mask), key=lambda place: float(found[place[0]].view(-1)[place[1]]))
        assert order[: turn + 1] == gone
        assert [float(found[name].view(-1)[i]) for name, i in order] == [
            *range(turn + 1),
            *[turn + 1] * (mask.alive - turn - 1),
        ]
    once = score("leave_one_out", model, mask, probe)
    assert sorted(places(mask), key=lambda place: float(once[place[0]].view(-1)[place[1]])) != gone


def test_rounds_take_several_at_a_time() -> None:
    model, probe = smooth(), examples(SIZES)
    mask = Mask.dense(model)
    counts = [
        sum(1 for value in torch.cat([t.flatten() for t in s.values()]).tolist() if value == turn)
        for s in [score("greedy:rounds=3", model, mask, replace(probe, keep=4))]
        for turn in range(4)
    ]
    assert counts == [32 - 16, 16 - 8, 8 - 4, 4]
    alone = prune(model, mask, density=0.5, criterion="greedy:rounds=1", probe=probe)
    assert alone == prune(model, mask, density=0.5, criterion="leave_one_out", probe=probe)


def test_of_equals_the_smallest_goes_then_the_first() -> None:
    net = nn.Linear(4, 1, bias=False)
    net.weight.data.copy_(torch.tensor([[3.0, -1.0, 2.0, 1.0]]))
    nothing = Probe(batches=[(torch.zeros(2, 4), torch.zeros(2, 1))], loss=nn.functional.mse_loss)
    assert score("greedy", net, Mask.dense(net), nothing)["weight"].tolist() == [[3, 0, 2, 1]]


def test_what_a_network_is_worth_goes_before_examples() -> None:
    net = nn.Linear(3, 1, bias=False)
    mask = Mask({"weight": torch.tensor([[True, False, True]])})
    asked = list[tuple[Place | None, ...]]()

    def worth(model: nn.Module, left: Mask, which: Sequence[Place | None]) -> Tensor:
        assert model is net
        asked.append(tuple(which))
        return torch.tensor([10.0 if one is None else float(one[1]) for one in which], dtype=torch.float64)

    told = Probe(worth=worth)
    assert score("leave_one_out", net, mask, told)["weight"].tolist() == [[10, 0, 8]]
    assert score("greedy", net, mask, told)["weight"].tolist() == [[1, 0, 0]]
    assert asked == [(None, ("weight", 0), ("weight", 2)), (("weight", 0), ("weight", 2))]
    assert not told.lacks(needs_of(Greedy())) and Probe().lacks(needs_of(Greedy()))
    assert told.lacks(needs_of(criterion_of("snip")))


def test_too_much_to_look_at_is_said_before_anything_is_trained() -> None:
    wide = nn.Linear(100, 100)
    with pytest.raises(UsageError, match=r"greedy would look at 48,004,000 networks, .* each of 10,000 weights"):
        prune(wide, Mask.dense(wide), density=0.2, criterion="greedy", probe=examples())
    whole = Size.of(Mask.dense(wide), 2_000, batches=2, examples=15)
    assert work_of(Greedy(rounds=1), whole) == work_of(leave_one_out, whole) == Work(passes=2 * FORWARD * 10_000)
    assert work_of(Greedy(rounds=5), whole).passes / FORWARD / 2 == pytest.approx(10_000 + 7248 + 5253 + 3807 + 2759)
    with pytest.raises(UsageError, match="rounds is -1; expected a whole number"):
        Greedy(rounds=-1)
    with pytest.raises(UsageError, match="greedy"):
        Greedy()(wide, Mask.dense(wide), Probe(keep=9_999))
    with pytest.raises(UsageError, match="greedy would look at 18,001,000 networks"):
        find_ticket(wide, lambda model: pytest.fail("trained"), levels=1, criterion="greedy", probe=examples())
    with pytest.raises(UsageError, match=r"greedy would look at [\d,]* networks"):
        prepare(replace(RECIPES["digits-lenet"], criterion="greedy"))
