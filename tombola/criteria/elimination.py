"""Leave-one-out sensitivity and greedy elimination: what the network is worth without each weight, looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tombola.criteria.base import Place, Probe, Scores, Worth, label_of, needs, work_of
from tombola.criteria.looking import scoring
from tombola.criteria.rounds import check_rounds, sizes
from tombola.criteria.slopes import batches_of, weights_of
from tombola.criteria.units import FORWARD
from tombola.criteria.work import Size, Work
from tombola.errors import UsageError
from tombola.masks import Mask

__all__ = ["AT_MOST", "Greedy", "leave_one_out"]

AT_MOST = 10_000_000
"""Networks that an elimination looks at."""


def _looks(criterion: object, size: Size) -> Work:
    """A forward pass for each network that is looked at."""
    again = criterion.counts(size.alive, size.keep) if isinstance(criterion, Greedy) else [size.alive]
    looks = sum([size.alive, *again][:-1])
    if looks > AT_MOST:
        raise UsageError(
            f"The criterion {label_of(criterion).lower()} would look at {looks:,} networks, for it leaves out each of "
            f"{size.alive:,} weights, again and again; expected at most {AT_MOST:,}. Use greedy:rounds=5, or a "
            f"criterion that goes by gradients (taylor)."
        )
    return Work(passes=FORWARD * looks * size.batches)


@needs(data=True, worth=True, signed=True, work=_looks, each=True)
def leave_one_out(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score a weight by what the network loses when it alone is put to 0: worth(all) - worth(all but it).

    What a network is worth is minus its mean loss over the examples of the probe, or what the task says where it has
    no examples (`Probe.worth`). Nothing is expanded or approximated, so each surviving weight costs a forward pass over
    all batches. Negative where the network is better without.

    Raises:
        UsageError: no examples and no worth.

    Source: Mozer and Smolensky (1988, Skeletonization), who leave out units and then approximate; here it is weights,
    and it is exact.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0, 3.0]]))
    >>> probe = Probe(batches=[(torch.eye(2), torch.tensor([[1.0], [3.0]]))], loss=nn.functional.mse_loss)
    >>> leave_one_out(net, Mask.dense(net), probe)["weight"].tolist()
    [[0.5, 4.5]]
    """
    places = _places(model, mask)
    whole, *without = _worth(probe, "leave_one_out")(model, mask, [None, *places]).tolist()
    found = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in mask.shapes.items()}
    for (name, index), value in zip(places, without, strict=True):
        found[name].view(-1)[index] = whole - value
    return _beside(found, model, mask)


@needs(data=True, worth=True, work=_looks, each=True)
@dataclass(frozen=True, kw_only=True, slots=True)
class Greedy:
    """Greedy (backward) elimination: take away the weight that is missed least, look again, and so on.

    Score: the number of the turn in which a weight goes, 0 first; what stays has a number more than the last turn. Of
    weights that are missed equally the smallest goes, then the first.

    Args:
        rounds: 0: a turn takes one weight away. 1 or more: so many turns, sizes going down geometrically; 1 is
            `leave_one_out`.

    Raises:
        UsageError: a negative number of rounds, no examples and no worth, or more than ten million networks to look at.

    Source: backward elimination (Marill and Green, 1963); Castellano et al. (1997) for networks. Needs `probe.keep`,
    which `Pruner` sets; without it there is an order of all weights.

    >>> net = nn.Linear(3, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0, 3.0, -2.0]]))
    >>> probe = Probe(batches=[(torch.eye(3), torch.tensor([[1.0], [3.0], [-2.0]]))], loss=nn.functional.mse_loss)
    >>> Greedy()(net, Mask.dense(net), probe)["weight"].tolist()
    [[0.0, 2.0, 1.0]]
    """

    rounds: int = 0

    def __post_init__(self) -> None:
        if self.rounds:
            check_rounds(self.rounds)

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, whole numbers as float64."""
        worth = _worth(probe, "greedy")
        least = max(1, probe.keep or 0)
        work_of(self, Size.of(mask, least, batches=1, examples=1))
        found = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in mask.shapes.items()}
        left = mask
        for turn, count in enumerate(self.counts(mask.alive, least)):
            going = _missed_least(worth, model, left, left.alive - count)
            kept = {name: left[name] for name in mask}
            for name, index in going:
                kept[name].view(-1)[index] = False
            left = Mask(kept)
            for name, places in kept.items():
                found[name][places] = turn + 1
        return _beside(found, model, mask)

    def counts(self, alive: int, keep: int) -> Sequence[int]:
        """How many weights are left after each turn."""
        return sizes(alive, keep, self.rounds) if self.rounds else range(alive - 1, keep - 1, -1)


def _beside(scores: Scores, model: nn.Module, mask: Mask) -> Scores:
    """The scores where the weights lie, in the order of the mask."""
    weights = weights_of(model, mask)
    return {name: scores[name].to(weights[name].device) for name in mask}


def _places(model: nn.Module, mask: Mask) -> list[Place]:
    """The surviving weights, in module order."""
    return [
        (name, index) for name in weights_of(model, mask) for index in mask[name].flatten().nonzero()[:, 0].tolist()
    ]


def _missed_least(worth: Worth, model: nn.Module, mask: Mask, count: int) -> list[Place]:
    """So many weights without which alone the network is worth most; of equal ones the smallest, then the first."""
    places = _places(model, mask)
    without = worth(model, mask, places).tolist()
    weights = {name: weight.detach().abs().flatten().tolist() for name, weight in weights_of(model, mask).items()}
    order = sorted(range(len(places)), key=lambda at: (-without[at], weights[places[at][0]][places[at][1]]))
    return [places[at] for at in order[:count]]


def _worth(probe: Probe, name: str) -> Worth:
    """What the task says that networks are worth, or minus the mean loss over the examples."""
    if probe.worth is not None:
        return probe.worth
    probe.examples(name)

    def worth(model: nn.Module, mask: Mask, places: Sequence[Place | None]) -> Tensor:
        with scoring(model, mask, probe) as copied, torch.no_grad():
            batches, loss = batches_of(copied, probe, name)
            examples = sum(len(x) for x, _ in batches)
            weights = {name: weight.view(-1) for name, weight in weights_of(copied, mask).items()}
            found = list[float]()
            for place in places:
                weight = torch.empty(()) if place is None else weights[place[0]][place[1]]  # a view
                before = weight.clone()
                weight.zero_()
                found.append(-sum(len(x) / examples * float(loss(copied(x), y)) for x, y in batches))
                weight.copy_(before)
        return torch.tensor(found, dtype=torch.float64)

    return worth
