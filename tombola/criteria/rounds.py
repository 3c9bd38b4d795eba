"""Criteria that go to their density in rounds: each round scores what the rounds before have left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.gradients import to_sum_one
from tombola.criteria.looking import scoring
from tombola.criteria.slopes import mean_gradient, require_some, weights_of
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.starts import Moment
from tombola.tensors import smallest

__all__ = ["Force", "IterativeSnip", "check_rounds", "descend", "sizes"]

Scorer = Callable[[Mapping[str, Tensor], str], Scores]
"""(which weights are left, " in round 3 of 60" for errors) -> scores of 0 or more, for new tensors each time."""


def check_rounds(rounds: int) -> None:
    """Raises `UsageError` for fewer than one."""
    if rounds < 1:
        raise UsageError(f"rounds is {rounds}; expected a whole number, 1 or more.")


def sizes(alive: int, keep: int | None, rounds: int) -> list[int]:
    """How many weights are left after each round: alive (keep / alive)^(i / rounds), rounded; the last is `keep`.

    Args:
        keep: None: nothing is known to go down to, so one round scores the weights as they are.

    Raises:
        UsageError: fewer than one round.

    >>> sizes(1000, 10, 4), sizes(1000, None, 4)
    ([316, 100, 32, 10], [1000])
    """
    check_rounds(rounds)
    if keep is None or keep >= alive:
        return [alive]
    return [max(keep, round(alive * (keep / alive) ** (i / rounds))) for i in range(1, rounds)] + [keep]


def descend(score: Scorer, mask: Mask, counts: list[int], order: list[str]) -> Scores:
    """Scores by which a single cut gives what the rounds gave: a weight that goes in a round does not return.

    Intermediate cuts are global. Survivors of all rounds have the scores of the last one, divided by their sum: 0 or
    more. The others are below 0, those of an earlier round below those of a later one, and by their scores within one.

    Args:
        counts: weights left after each round.
        order: the names in module order, by which ties go.

    Returns:
        float64 scores; the least of all at weights that were pruned before.
    """
    left: dict[str, Tensor] = {}
    found: Scores = {}
    scores: Scores = {}
    for number, count in enumerate(counts, 1):
        scores = {name: s.double() for name, s in score(left, f" in round {number} of {len(counts)}").items()}
        if not left:
            left = {name: mask[name].to(scores[name].device) for name in order}
            found = {name: torch.full_like(scores[name], -len(counts) - 2) for name in order}
        alive = sum(int(places.sum()) for places in left.values())
        gone = smallest([scores[n] for n in order], alive - count, [left[n] for n in order], names=order)
        top = max(float(scores[name].max()) for name in order)
        for name, going in zip(order, gone, strict=True):
            left[name].logical_and_(~going)
            late = scores[name] if number < len(counts) else scores[name].clone()
            late.div_(2 * top).add_(number - len(counts) - 2)  # below -1 in the last round
            torch.where(going, late, found[name], out=found[name])
    last = to_sum_one({name: scores[name].mul_(left[name]) for name in order})
    return {name: last[name].where(left[name], found[name]) for name in mask}


@needs(data=True, scored_at=Moment.INIT, signed=True, passes=1)
@dataclass(frozen=True, kw_only=True, slots=True)
class IterativeSnip:
    """SNIP in rounds: |g w| of the weights that are left, each round cutting to the next of a geometric row of sizes.

    What is cut stays cut (unlike `Force`). See `descend` for the scores: survivors above all that went, later rounds
    above earlier ones. Needs `probe.keep`, which `Pruner` sets; without it there is one round.

    Args:
        rounds: 1 (which is `snip`) or more; each costs a forward and backward of every batch.

    Raises:
        UsageError: fewer than one round, no examples, or every gradient of a round is 0.

    Source: de Jorge et al. (2021, arXiv 2006.09081); Verdenius et al. (2020, arXiv 2006.00896).

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> batch = torch.randn(5, 4), torch.tensor([0, 1, 1, 0, 1])
    >>> probe = Probe(batches=[batch], loss=nn.functional.cross_entropy, keep=6)
    >>> scores = IterativeSnip(rounds=3)(net, Mask.dense(net), probe)
    >>> sum(int((score >= 0).sum()) for score in scores.values())
    6
    """

    rounds: int = 60

    def __post_init__(self) -> None:
        check_rounds(self.rounds)

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores."""
        counts = sizes(mask.alive, probe.keep, self.rounds)
        with scoring(model, mask, probe) as copied:
            weights = weights_of(copied, mask)
            dense = {name: weight.detach().clone() for name, weight in weights.items()}

            def score(left: Mapping[str, Tensor], where: str) -> Scores:
                _cut(weights, dense, left)
                slopes = mean_gradient(copied, weights, probe, "iterative_snip")
                found = {name: slopes[name].mul_(weights[name].detach()).abs_() for name in weights}
                require_some(found, mask, "iterative_snip", where)
                return found

            return descend(score, mask, counts, list(weights))


@needs(data=True, scored_at=Moment.INIT, passes=1)
@dataclass(frozen=True, kw_only=True, slots=True)
class Force:
    """Foresight connection sensitivity: |w dL(w')/dw'| at the network w' that is left, of pruned weights too.

    Each round cuts the given weights anew, by scores taken at the network of the round before, to the next of a
    geometric row of sizes: a weight that went in an earlier round returns where its gradient now makes it count.

    Returns:
        The scores of the last round, divided by their sum: numbers in [0, 1]; 0 at weights that were pruned before.

    Args:
        rounds: 1 (which is `snip`) or more; each costs a forward and backward of every batch.

    Raises:
        UsageError: fewer than one round, no examples, or every gradient of a round is 0.

    Source: de Jorge et al. (2021, arXiv 2006.09081), who draw other batches in each round; here it is those of the
    probe in every round. Needs `probe.keep`, which `Pruner` sets; without it there is one round.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> batch = torch.randn(5, 4), torch.tensor([0, 1, 1, 0, 1])
    >>> probe = Probe(batches=[batch], loss=nn.functional.cross_entropy, keep=6)
    >>> scores = Force(rounds=3)(net, Mask.dense(net), probe)
    >>> round(sum(float(score.sum()) for score in scores.values()), 5)
    1.0
    """

    rounds: int = 60

    def __post_init__(self) -> None:
        check_rounds(self.rounds)

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores."""
        counts = sizes(mask.alive, probe.keep, self.rounds)
        left: dict[str, Tensor] = {}
        with scoring(model, mask, probe) as copied:
            weights = weights_of(copied, mask)
            dense = {name: weight.detach().clone() for name, weight in weights.items()}
            first = {name: mask[name].to(weight.device) for name, weight in weights.items()}
            for number, count in enumerate(counts, 1):
                _cut(weights, dense, left)
                slopes = mean_gradient(copied, weights, probe, "force")
                scores = {name: slopes[name].mul_(dense[name]).abs_() for name in weights}
                require_some(scores, mask, "force", f" in round {number} of {len(counts)}")
                if number < len(counts):  # the last cut is the pruner's own
                    gone = smallest([*scores.values()], mask.alive - count, [*first.values()], names=[*scores])
                    left = {n: first[n] & ~going for n, going in zip(scores, gone, strict=True)}
        return to_sum_one({name: scores[name] for name in mask})


def _cut(weights: Mapping[str, Tensor], dense: Mapping[str, Tensor], left: Mapping[str, Tensor]) -> None:
    """Set the weights to the dense ones where they are left; all of them where `left` is empty."""
    with torch.no_grad():
        for name, places in left.items():
            torch.mul(dense[name], places, out=weights[name])
