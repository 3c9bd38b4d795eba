"""How the reward changes around a network: without each edge, a step away in each number, and over a plane of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.errors import UsageError
from tombola.motifs.judge import Judge
from tombola.motifs.network import BOUND, Edge, GeneNetwork
from tombola.motifs.population import Watch
from tombola.motifs.simulation import stacked

__all__ = ["Cut", "Landscape", "Neighbours", "cut", "knockouts", "landscape", "neighbours"]

STEPS = (1.0, 5.0, 25.0)
"""The steps of the source's own search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """The networks that differ from one in a single number, by a step up or down within the bounds.

    Args:
        step: its size.
        rewards: of each neighbour, weights row by row and then the morphogen, up before down.
        reward: of the network itself.
        slack: change of the reward that counts as none, as a share of it.
    """

    step: float
    rewards: tuple[float, ...]
    reward: float
    slack: float

    @property
    def neutral(self) -> float:
        """The share whose reward is the same but for the slack."""
        return self._share([abs(one - self.reward) <= self.slack * self.reward for one in self.rewards])

    @property
    def better(self) -> float:
        """The share whose reward is larger by more than the slack."""
        return self._share([one - self.reward > self.slack * self.reward for one in self.rewards])

    @property
    def worse(self) -> float:
        """The share whose reward is smaller by more than the slack."""
        return self._share([self.reward - one > self.slack * self.reward for one in self.rewards])

    def _share(self, those: Sequence[bool]) -> float:
        return sum(those) / len(those)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """The reward over two weights, all else as it is.

    Args:
        one, other: the edges.
        values: those of each.
        rewards: values of `one` x values of `other`.
    """

    one: Edge
    other: Edge
    values: tuple[tuple[float, ...], tuple[float, ...]]
    rewards: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Landscape:
    """All three of a network.

    Args:
        network: it.
        reward: of it.
        without: edge -> the reward without it.
        around: for each step.
        plane: over the two edges that are missed most.
    """

    network: GeneNetwork
    reward: float
    without: dict[Edge, float]
    around: tuple[Neighbours, ...]
    plane: Cut


def knockouts(network: GeneNetwork, judge: Judge | None = None) -> dict[Edge, float]:
    """The reward without each edge, one at a time.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> {edge: round(reward, 1) for edge, reward in knockouts(MOTIFS["2b"].network).items()}
    {(0, 0): 0.0, (0, 1): 0.0, (1, 0): 3.0, (1, 1): 0.0}
    """
    edges = network.edges
    if not edges:
        return {}
    found = (judge or Judge())(*stacked([network.without([edge]) for edge in edges])).reward
    return dict(zip(edges, found.tolist(), strict=True))


def neighbours(
    network: GeneNetwork, judge: Judge | None = None, *, step: float = 5.0, slack: float = 0.05
) -> Neighbours:
    """The rewards of all networks one step away in one number; steps out of -100 to 100 are left out.

    Args:
        network: in the middle.
        judge: None: `Judge()`.
        step: above 0, at most 100.
        slack: share of the reward, 0 or more.

    Raises:
        UsageError: numbers out of range.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> found = neighbours(MOTIFS["2b"].network, step=1)
    >>> len(found.rewards), round(found.neutral + found.better + found.worse, 9)
    (12, 1.0)

    Source: neutral neighbours as in Wagner (2005), "Robustness and Evolvability in Living Systems"; the slack is ours.
    """
    if not 0 < step <= BOUND:
        raise UsageError(f"step is {step}; expected a number above 0 and at most {BOUND:g}.")
    if not 0 <= slack < float("inf"):
        raise UsageError(f"slack is {slack}; expected a share, 0 or more.")
    weights, morphogen = stacked([network])
    middle = torch.cat([weights.flatten(), morphogen.flatten()])
    moves = torch.stack([torch.eye(len(middle)) * step, torch.eye(len(middle)) * -step], 1).flatten(0, 1)
    around = middle + moves
    around = around[(around.abs() <= BOUND).all(1)]
    square, genes = network.genes**2, network.genes
    stack = torch.cat([middle[None], around])
    found = (judge or Judge())(stack[:, :square].reshape(-1, genes, genes), stack[:, square:]).reward.tolist()
    return Neighbours(step=step, rewards=tuple(found[1:]), reward=found[0], slack=slack)


def cut(
    network: GeneNetwork,
    one: Edge,
    other: Edge,
    judge: Judge | None = None,
    *,
    points: int = 41,
    reach: float = 25.0,
) -> Cut:
    """The reward over all pairs of values of two weights, around those that they have.

    Args:
        network: where the cut goes through.
        one, other: two places of its matrix (gene acted on, acting gene), counted from 0.
        judge: None: `Judge()`.
        points: values of each weight, 2 or more.
        reach: how far they go, up and down from the weight, within -100 to 100; above 0.

    Raises:
        UsageError: the same place twice, one that the network has not, too few points, or no reach.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> found = cut(MOTIFS["2b"].network, (0, 0), (0, 1), points=5)
    >>> found.values[1], found.rewards.shape
    ((-100.0, -88.75, -77.5, -66.25, -55.0), torch.Size([5, 5]))
    """
    if one == other:
        raise UsageError(f"both edges of the cut are {one}; expected two.")
    for edge in (one, other):
        if not all(0 <= gene < network.genes for gene in edge):
            raise UsageError(f"the cut goes by edge {edge}; the network has genes 0 to {network.genes - 1}.")
    if points < 2:
        raise UsageError(f"points is {points}; expected 2 or more.")
    if not 0 < reach < float("inf"):
        raise UsageError(f"reach is {reach}; expected a number above 0.")
    weights, morphogen = stacked([network])
    first, second = (
        torch.linspace(max(-BOUND, middle - reach), min(BOUND, middle + reach), points)
        for middle in (network.weights[acted][acting] for acted, acting in (one, other))
    )
    grid = weights.repeat(points * points, 1, 1)
    grid[:, one[0], one[1]] = first.repeat_interleave(points)
    grid[:, other[0], other[1]] = second.repeat(points)
    found = (judge or Judge())(grid, morphogen.expand(len(grid), -1)).reward
    values = tuple(first.tolist()), tuple(second.tolist())
    return Cut(one=one, other=other, values=values, rewards=found.view(points, points))


def landscape(
    network: GeneNetwork, judge: Judge | None = None, *, points: int = 41, watch: Watch | None = None
) -> Landscape:
    """Knock-outs, neighbours at the source's three steps, and the cut through the two edges that are missed most.

    Args:
        network: of two edges or more.
        judge: None: `Judge()`.
        points: of the cut.
        watch: told how many of its five parts are done.

    Raises:
        UsageError: fewer than two edges.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> found = landscape(MOTIFS["2b"].network, points=3)
    >>> round(found.reward, 2), [one.step for one in found.around], found.plane.one != found.plane.other
    (16.8, [1.0, 5.0, 25.0], True)
    """
    if len(network.edges) < 2:
        raise UsageError(f"the network has {len(network.edges)} edges; a cut needs two.")
    told = watch or (lambda _done, _total: None)
    parts = len(STEPS) + 2
    without = knockouts(network, judge)
    told(1, parts)
    around = list[Neighbours]()
    for step in STEPS:
        around.append(neighbours(network, judge, step=step))
        told(1 + len(around), parts)
    one, other = sorted(without, key=lambda edge: (without[edge], -abs(network.weights[edge[0]][edge[1]])))[:2]
    plane = cut(network, one, other, judge, points=points)
    told(parts, parts)
    return Landscape(network=network, reward=around[0].reward, without=without, around=tuple(around), plane=plane)
