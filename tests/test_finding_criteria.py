"""Criteria that look at more than weights, in a loop of one's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tombola import Mask, find_ticket, prune
from tombola.criteria import Probe, Scores, needs
from tombola.errors import UsageError
from tombola.starts import Moment
from tombola.streams import derive, seeded

SEEN: list[tuple[Tensor, Tensor]] = []


def model() -> nn.Module:
    with seeded(4):
        return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    return x, x[:, :3].argmax(1)


def train(net: nn.Module) -> None:
    optimizer, (x, y) = torch.optim.SGD(net.parameters(), lr=0.5), batch()
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()


@needs(scored_at=Moment.INIT, data=True, initial=True)
def watched(net: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Notes the weights that it is given, and the initial ones."""
    weights = dict(net.named_parameters())
    SEEN.append((weights["0.weight"].detach().clone(), probe.first("watched", mask)["0.weight"].clone()))
    probe.examples("watched")
    return {name: weights[name].detach().abs() for name in mask}


class Shifting:
    """Magnitude that adds 1 to the weights that stay."""

    def __call__(self, net: nn.Module, mask: Mask, probe: Probe) -> Scores:
        weights = dict(net.named_parameters())
        return {name: weights[name].detach().abs() for name in mask}

    def adjusted(self, net: nn.Module, before: Mask, after: Mask, probe: Probe) -> dict[str, Tensor]:
        weights = dict(net.named_parameters())
        return {name: (weights[name].detach() + 1) * after[name] for name in after}


def seen() -> Probe:
    return Probe(batches=[batch()], loss=F.cross_entropy)


def test_what_scores_at_initialization_is_given_the_start_weights() -> None:
    SEEN.clear()
    start = model().state_dict()["0.weight"]
    ticket = find_ticket(model(), train, levels=2, rate=0.5, criterion=watched, probe=seen())
    assert len(SEEN) == 2
    assert all(torch.equal(now, start) and torch.equal(first, start) for now, first in SEEN)
    by_hand = prune(model(), Mask.dense(model()), density=21 / 45)  # magnitude of the start weights
    assert find_ticket(model(), train, levels=1, rate=24 / 45, criterion=watched, probe=seen()).mask == by_hand
    assert ticket.mask.alive == 11


def test_snip_in_a_loop_of_ones_own() -> None:
    ticket = find_ticket(model(), train, levels=1, rate=0.5, criterion="snip", probe=seen())
    probe = Probe(seed=derive(0, "probe", 0, 1), batches=[batch()], loss=F.cross_entropy)
    assert ticket.mask == prune(model(), Mask.dense(model()), density=23 / 45, criterion="snip", probe=probe)


def test_fine_tuning_goes_on_from_adjusted_weights() -> None:
    still: list[dict[str, Tensor]] = []

    def note(net: nn.Module) -> None:
        still.append({name: value.clone() for name, value in net.state_dict().items()})
        train(net)

    ticket = find_ticket(model(), note, levels=1, rate=0.5, criterion=Shifting(), reset="fine-tune")
    trained = model()
    train(trained)
    for name in ticket.mask:
        expected = (trained.state_dict()[name] + 1) * ticket.mask[name]
        assert torch.equal(still[1][name], expected)
        assert torch.equal(ticket.weights[name], expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion": "snip"}, "snip looks at examples, and the probe has none"),
        ({"criterion": "movement_pruning"}, "sums movement along a training, which a loop of your own does not"),
        ({"criterion": "snpi"}, "Did you mean 'snip'"),
        ({"probe": Probe(batches=[(*batch(), 3)])}, "Batch 0 of the probe for magnitude is"),  # type: ignore[list-item]
        ({"probe": Probe(batches=3)}, "The batches of the probe for magnitude are a int"),  # type: ignore[arg-type]
        ({"criterion": "small_final", "allocation": "lamp"}, "lamp allocation squares scores"),
        ({"criterion": "wanda", "probe": seen(), "model": nn.LSTM(4, 3)}, "'weight_ih_l0' belongs to a LSTM"),
    ],
)
def test_what_cannot_be_scored_is_said_before_anything_is_trained(settings: dict[str, Any], message: str) -> None:
    def never(net: nn.Module) -> None:
        raise AssertionError("trained")

    with pytest.raises(UsageError, match=message):
        find_ticket(settings.pop("model", model()), never, levels=1, **settings)
