"""Networks tuned: a (mu + lambda) hill-climb on the weights of their edges and on their morphogen inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.errors import UsageError
from tombola.motifs.dynamics import Dynamics
from tombola.motifs.judge import Judge
from tombola.motifs.network import BOUND, GeneNetwork
from tombola.motifs.reward import Reward, Scoring, plain
from tombola.streams import derive, stream

__all__ = ["Climb", "Population", "Tuned", "advanced", "founded", "tune"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Climb:
    """The constants of the hill-climb.

    In round r each child is a parent drawn at random in which each number moves with probability `share`, by
    N(0, (sigma cooling^r)^2), and is cut to -100 to 100; the fittest `parents` of parents and children go on.

    Args:
        parents: networks that go on from round to round, 1 or more.
        children: new ones in a round, 1 or more.
        sigma: standard deviation of a move in round 0, above 0.
        cooling: factor from round to round, above 0 and at most 1.
        share: of the numbers that move, above 0 and at most 1.

    Raises:
        UsageError: a number out of these ranges.

    >>> round(Climb().width(10), 3)
    8.717

    Source: an evolution strategy with truncation selection (Beyer and Schwefel, 2002, Natural Computing 1:3); the
    fixed cooling and the constants are ours.
    """

    parents: int = 6
    children: int = 40
    sigma: float = 25.0
    cooling: float = 0.9
    share: float = 0.3

    def __post_init__(self) -> None:
        for name in ("parents", "children"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} is {value!r}; expected a whole number, 1 or more.")
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise UsageError(f"sigma is {self.sigma}; expected a finite number above 0.")
        for name in ("cooling", "share"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected a fraction above 0 and at most 1.")

    def width(self, number: int) -> float:
        """The standard deviation of a move in a round, counted from 0."""
        return self.sigma * self.cooling**number


@dataclass(frozen=True, kw_only=True, slots=True)
class Population:
    """Networks of equal size, the fittest first.

    Args:
        weights: n x genes x genes, float32.
        morphogen: n x genes, float32.
        fitness, reward: n, float64.
    """

    weights: Tensor
    morphogen: Tensor
    fitness: Tensor
    reward: Tensor

    @property
    def best(self) -> int:
        """The place of the largest reward, the fittest of equal ones."""
        return int(self.reward.argmax())

    def network(self, place: int) -> GeneNetwork:
        """One of them."""
        weights, morphogen = self.weights[place].tolist(), self.morphogen[place].tolist()
        return GeneNetwork(weights=tuple(map(tuple, weights)), morphogen=tuple(morphogen))


def founded(weights: Tensor, morphogen: Tensor, judge: Judge) -> Population:
    """The population of one network: genes x genes, genes."""
    found = judge(weights[None], morphogen[None])
    return Population(weights=weights[None], morphogen=morphogen[None], fitness=found.fitness, reward=found.reward)


def advanced(population: Population, mask: Tensor, number: int, *, seed: int, climb: Climb, judge: Judge) -> Population:
    """The population after one round.

    Args:
        mask: genes x genes bools: the edges. Others stay as they are; the morphogen's inputs always move.
        number: of the round. Its noise is of the seed and of this number alone, and the same for all masks.
        seed: of the noise.

    Returns:
        The fittest; of equal ones children before parents, so that what is neutral may drift.
    """
    noise = stream(derive(seed, "hill-climb", number), "moves")
    genes, count = population.morphogen.shape[1], climb.children
    parent = (torch.rand(count, generator=noise) * len(population.fitness)).long()
    moves = torch.randn(count, genes, genes + 1, generator=noise) * climb.width(number)
    moves *= torch.rand(moves.shape, generator=noise) < climb.share
    weights = population.weights[parent]
    weights = torch.where(mask, (weights + moves[:, :, :genes]).clamp(-BOUND, BOUND), weights)
    morphogen = (population.morphogen[parent] + moves[:, :, genes]).clamp(-BOUND, BOUND)
    found = judge(weights, morphogen)
    everyone = Population(
        weights=torch.cat((weights, population.weights)),
        morphogen=torch.cat((morphogen, population.morphogen)),
        fitness=torch.cat((found.fitness, population.fitness)),
        reward=torch.cat((found.reward, population.reward)),
    )
    chosen = everyone.fitness.argsort(descending=True, stable=True)[: climb.parents]
    return Population(**{name: getattr(everyone, name)[chosen] for name in Population.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """What a hill-climb ends with.

    Args:
        network: that of the largest reward in the last population.
        reward: of it.
        rounds: that it took.
        simulations: networks that were looked at, the first one included.
    """

    network: GeneNetwork
    reward: float
    rounds: int
    simulations: int


def tune(
    network: GeneNetwork,
    dynamics: Dynamics | None = None,
    *,
    reward: Reward = plain,
    scoring: Scoring | None = None,
    climb: Climb | None = None,
    rounds: int = 50,
    least: int = 0,
    enough: float = math.inf,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> Tuned:
    """Move the weights of a network's edges and its morphogen inputs uphill; no edge is added.

    Args:
        network: where the climb begins; never worse than it in fitness.
        dynamics, scoring, climb: None: `Dynamics()`, `Scoring()`, `Climb()`.
        reward: larger is better; the climb goes by its `fitness`.
        rounds: at most, 0 or more.
        least: rounds at least, where there are so many.
        enough: behind those it ends with a reward of at least this.
        seed: of the moves.
        watch: is told after each round how many networks were looked at.

    Returns:
        The best network found.

    Raises:
        UsageError: a negative number of rounds.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> found = tune(MOTIFS["2b"].network, rounds=5)
    >>> found.reward > 16.8, found.rounds, found.simulations
    (True, 5, 201)
    """
    if rounds < 0:
        raise UsageError(f"rounds is {rounds}; expected 0 or more.")
    judge = Judge(dynamics=dynamics or Dynamics(), reward=reward, scoring=scoring or Scoring())
    given = climb or Climb()
    weights = torch.tensor(network.weights)
    population, number = founded(weights, torch.tensor(network.morphogen), judge), 0
    while number < rounds and (number < least or float(population.reward.max()) < enough):
        population = advanced(population, weights != 0, number, seed=seed, climb=given, judge=judge)
        number += 1
        if watch is not None:
            watch(1 + number * given.children)
    best = population.best
    return Tuned(
        network=population.network(best),
        reward=float(population.reward[best]),
        rounds=number,
        simulations=1 + number * given.children,
    )
