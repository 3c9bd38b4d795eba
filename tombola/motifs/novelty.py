"""Novelty search: networks unlike those before them, whatever they are worth, in an archive that forgets likenesses."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.errors import UsageError
from tombola.motifs.judge import Judge
from tombola.motifs.network import GeneNetwork
from tombola.motifs.population import (
    BATCH,
    Budget,
    Found,
    Watch,
    checked_genes,
    mutated,
    random_networks,
)
from tombola.streams import stream

__all__ = ["Novel", "crowded", "distances", "novelty_search"]

_ENTRANTS = 8  # the most novel of each generation, which enter the archive


@dataclass(frozen=True, kw_only=True, slots=True)
class Novel:
    """The archive of a search.

    Args:
        archive: in the order in which its members entered.
        profiles: members x cells, the output gene at the end.
        evaluations: networks that were looked at.
        capped: whether the clock ended the search.
    """

    archive: tuple[Found, ...]
    profiles: Tensor
    evaluations: int
    capped: bool

    @property
    def apart(self) -> float:
        """The least distance between two members; infinite where there is one."""
        return float(_others(self.profiles).min())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Crowd:
    """Networks with what is known of them; row i of all four belongs together."""

    weights: Tensor
    morphogen: Tensor
    profiles: Tensor
    facts: Tensor  # reward, boundaries

    def at(self, places: Tensor) -> _Crowd:
        return _Crowd(
            weights=self.weights[places],
            morphogen=self.morphogen[places],
            profiles=self.profiles[places],
            facts=self.facts[places],
        )

    def plus(self, other: _Crowd) -> _Crowd:
        return _Crowd(
            weights=torch.cat([self.weights, other.weights]),
            morphogen=torch.cat([self.morphogen, other.morphogen]),
            profiles=torch.cat([self.profiles, other.profiles]),
            facts=torch.cat([self.facts, other.facts]),
        )


def distances(one: Tensor, other: Tensor) -> Tensor:
    """The mean absolute difference of profiles: n x cells, m x cells -> n x m.

    >>> distances(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    return torch.cdist(one.double(), other.double(), p=1) / one.shape[1]


def _others(profiles: Tensor) -> Tensor:
    """Distances among profiles, infinite from each to itself."""
    return distances(profiles, profiles).fill_diagonal_(torch.inf)


def crowded(profiles: Tensor) -> int:
    """The member with the smallest distance to its nearest neighbour; of the two of a pair, the one nearer to others.

    >>> crowded(torch.tensor([[0.0], [0.3], [0.2], [0.9]]))
    2
    """
    if len(profiles) < 2:
        return 0
    ordered = _others(profiles).sort(1).values
    close = (ordered[:, 0] == ordered[:, 0].min()).nonzero()[:, 0]
    return int(close[ordered[close, 1].argmin()])


def novelty_search(
    judge: Judge | None = None,
    *,
    budget: Budget,
    seed: int,
    genes: int = 7,
    capacity: int = 200,
    nearest: int = 15,
    watch: Watch | None = None,
) -> Novel:
    """Breed what is unlike the rest: novelty is the mean distance of the final profile to its nearest neighbours.

    Each generation: 64 mutated children of 64 parents; of both, the 64 most novel among themselves and the archive
    breed on. The 8 most novel children enter the archive; where it is full, the member with the smallest distance to
    its nearest neighbour is forgotten, one after another. Rewards are noted and not gone by.

    Args:
        judge: None: `Judge()`.
        budget: when it ends.
        seed: of every draw.
        genes: 1 to 64.
        capacity: of the archive, 2 or more.
        nearest: neighbours, 1 or more.
        watch: told how far it is.

    Raises:
        UsageError: numbers out of range.

    >>> found = novelty_search(budget=Budget(evaluations=192), seed=0, genes=2, capacity=10)
    >>> len(found.archive), found.evaluations, found.profiles.shape
    (10, 192, torch.Size([10, 100]))

    Source: Lehman and Stanley (2011, Evolutionary Computation 19(2)). Theirs adds by a threshold to an archive without
    bounds; the bounded one that forgets what is most similar is ours.
    """
    for name, number, least in (("capacity", capacity, 2), ("nearest", nearest, 1)):
        if number < least:
            raise UsageError(f"{name} is {number}; expected a whole number, {least} or more.")
    given, draws, size = judge or Judge(), stream(seed, "novelty"), checked_genes(genes)
    done, began = BATCH, time.monotonic()
    parents = _weighed(given, *random_networks(size, BATCH, draws))
    archive = _forgetting(parents, capacity)
    while not budget.over(done, began=began):
        children = _weighed(given, *mutated(parents.weights, parents.morphogen, draws))
        both = parents.plus(children)
        near = torch.cat([_others(both.profiles), distances(both.profiles, archive.profiles)], 1)
        novelty = near.sort(1).values[:, :nearest].mean(1)
        entrants = novelty[BATCH:].argsort(descending=True, stable=True)[:_ENTRANTS]
        archive = _forgetting(archive.plus(children.at(entrants)), capacity)
        parents = both.at(novelty.argsort(descending=True, stable=True)[:BATCH])
        done += BATCH
        if watch is not None:
            watch(done, max(done, budget.evaluations))
    return Novel(
        archive=tuple(
            Found(
                network=GeneNetwork(weights=tuple(map(tuple, weights)), morphogen=tuple(morphogen)),
                reward=reward,
                boundaries=int(boundaries),
            )
            for weights, morphogen, (reward, boundaries) in zip(
                archive.weights.tolist(), archive.morphogen.tolist(), archive.facts.tolist(), strict=True
            )
        ),
        profiles=archive.profiles,
        evaluations=done,
        capped=done < budget.evaluations,
    )


def _weighed(judge: Judge, weights: Tensor, morphogen: Tensor) -> _Crowd:
    found = judge(weights, morphogen)
    facts = torch.stack([found.reward, found.boundaries.double()], 1)
    return _Crowd(weights=weights, morphogen=morphogen, profiles=found.profile, facts=facts)


def _forgetting(crowd: _Crowd, capacity: int) -> _Crowd:
    """At most so many of them."""
    while len(crowd.profiles) > capacity:
        gone = crowded(crowd.profiles)
        crowd = crowd.at(torch.tensor([place for place in range(len(crowd.profiles)) if place != gone]))
    return crowd
