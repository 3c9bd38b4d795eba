"""What the searches for diverse networks share: how many networks they look at, and what is kept of each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tombola.errors import UsageError
from tombola.motifs.judge import Judge
from tombola.motifs.network import BOUND, MAX_GENES, GeneNetwork
from tombola.motifs.simulation import stacked

__all__ = [
    "BATCH",
    "Budget",
    "Found",
    "Watch",
    "checked_genes",
    "confirmed",
    "mutated",
    "random_networks",
    "topologies",
]

BATCH = 64
"""Networks that are made at a time."""

Watch = Callable[[int, int], None]
"""Told how many networks are looked at, and how many will be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """When a search ends: by the number of networks it looks at, so that a seed gives the same on every machine.

    Args:
        evaluations: networks, 1 or more; rounded up to whole batches.
        seconds: a cap on top, above 0; where it bites, the result depends on the machine. None: no cap.

    Raises:
        UsageError: numbers out of range.

    >>> Budget(evaluations=1000).over(999, began=0.0), Budget(evaluations=1000).over(1000, began=0.0)
    (False, True)
    """

    evaluations: int
    seconds: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.evaluations, bool) or not isinstance(self.evaluations, int) or self.evaluations < 1:
            raise UsageError(f"evaluations is {self.evaluations}; expected a whole number, 1 or more.")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UsageError(f"seconds is {self.seconds}; expected a number above 0.")

    def over(self, evaluations: int, *, began: float) -> bool:
        """Whether to stop, of a search that has looked at so many since that `time.monotonic`."""
        if evaluations >= self.evaluations:
            return True
        return self.seconds is not None and time.monotonic() - began >= self.seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A network that a search keeps.

    Args:
        network: it.
        reward: what it was judged by, 0 or more.
        boundaries: of the output gene at the end.
    """

    network: GeneNetwork
    reward: float
    boundaries: int

    @property
    def edges(self) -> int:
        """How many."""
        return len(self.network.edges)

    @property
    def signs(self) -> tuple[tuple[int, ...], ...]:
        """Its sign topology: 1, 0 or -1 in the place of each weight; the morphogen is no part of it."""
        return tuple(tuple((weight > 0) - (weight < 0) for weight in row) for row in self.network.weights)


def topologies(found: Iterable[Found]) -> int:
    """How many sign topologies there are among networks; those that differ by the genes' order alone count as two.

    >>> one = GeneNetwork(weights=((5, -2), (0, 3)), morphogen=(1, 1))
    >>> two = GeneNetwork(weights=((9, -1), (0, 3)), morphogen=(0, -1))
    >>> topologies(Found(network=network, reward=0.0, boundaries=0) for network in (one, two, one.transposed()))
    2
    """
    return len({one.signs for one in found})


def confirmed(found: Sequence[Found], judge: Judge) -> list[Found]:
    """The same networks with what they are worth in float64; those without a reward stay as they are.

    >>> from tombola.motifs.network import GeneNetwork
    >>> twins = GeneNetwork(weights=((100, -100), (-100, 100)), morphogen=(100, 100))  # told apart by rounding alone
    >>> [one.reward for one in confirmed([Found(network=twins, reward=43.4, boundaries=17)], Judge())]
    [0.0]
    """
    if not found:
        return []
    weights, morphogen = stacked([one.network for one in found])
    again = replace(judge, checked=True)(weights, morphogen)
    return [
        replace(one, reward=reward, boundaries=boundaries)
        for one, reward, boundaries in zip(found, again.reward.tolist(), again.boundaries.tolist(), strict=True)
    ]


def checked_genes(genes: int) -> int:
    """The number of genes, where a network can have so many.

    Raises:
        UsageError: it cannot.
    """
    if isinstance(genes, bool) or not isinstance(genes, int) or not 1 <= genes <= MAX_GENES:
        raise UsageError(f"genes is {genes}; expected a whole number within 1 to {MAX_GENES}.")
    return genes


def random_networks(genes: int, count: int, draws: torch.Generator, *, spread: float = 40.0) -> tuple[Tensor, Tensor]:
    """Stacked networks of whole numbers: weights and morphogen from N(0, spread), at most 100 in size.

    The share of weights that are not 0 is drawn for each network, from 0.1 to 1.

    Returns:
        count x genes x genes, count x genes; float32.
    """
    weights = torch.randn(count, genes, genes, generator=draws) * spread
    dense = 0.1 + 0.9 * torch.rand(count, 1, 1, generator=draws)
    weights = weights * (torch.rand(count, genes, genes, generator=draws) < dense)
    return _whole(weights), _whole(torch.randn(count, genes, generator=draws) * spread)


def mutated(
    weights: Tensor,
    morphogen: Tensor,
    draws: torch.Generator,
    *,
    share: float = 0.3,
    grow: float = 0.05,
    most: int = 3,
) -> tuple[Tensor, Tensor]:
    """Children of stacked networks, one of each: steps in some numbers, edges dropped in some, edges added in few.

    A child takes, each with probability 1/2: Gaussian steps in a share of the surviving weights and of the morphogen,
    their size drawn for each child from 2 to 40; and up to `most` edges less. A weight of 0 comes alive with
    probability `grow` in a quarter of the children. All numbers stay whole and at most 100 in size.

    Args:
        weights, morphogen: n x genes x genes, n x genes.
        draws: where the numbers come from.
        share: of the numbers that are stepped.
        grow: chance of each weight of 0.
        most: edges dropped at once, 1 or more.
    """
    count, genes, _ = weights.shape

    def chance(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=draws)

    size = 2 * 20 ** chance(1, 1)
    stepping, dropping, growing = chance(1, 1) < 0.5, chance(1, 1) < 0.5, chance(1, 1) < 0.25
    stepping = stepping | ~(dropping | growing)  # no child is its parent's twin by default
    steps = torch.randn(count, genes, genes + 1, generator=draws) * size * (chance(genes, genes + 1) < share)
    steps = steps * stepping
    there = weights != 0
    born = growing & ~there & (chance(genes, genes) < grow)
    fresh = torch.randn(count, genes, genes, generator=draws) * 40
    child = torch.where(born, fresh, weights + steps[:, :, :genes] * there)
    rank = torch.where(there, chance(genes, genes), 2.0).flatten(1).argsort(1).argsort(1).view(count, genes, genes)
    dropped = 1 + (chance(1, 1) * most).long()
    child = torch.where(dropping & there & (rank < dropped), 0.0, child)
    return _whole(child), _whole(morphogen + steps[:, :, genes])


def _whole(numbers: Tensor) -> Tensor:
    return numbers.round().clamp(-BOUND, BOUND) + 0.0  # no weight is -0
