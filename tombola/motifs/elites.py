"""MAP-Elites: the best network for each number of edges and of boundaries."""

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

__all__ = ["Elites", "map_elites"]

BOUNDARIES = 25
"""The most boundaries that a hundred cells have room for: one in four of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Elites:
    """The networks of the grid's cells that are taken.

    Args:
        cells: by edges, then by boundaries at the end; no two of them alike in both.
        evaluations: networks that were looked at.
        capped: whether the clock ended the search.
    """

    cells: tuple[Found, ...]
    evaluations: int
    capped: bool

    def above(self, reward: float) -> tuple[Found, ...]:
        """The networks with at least that reward."""
        return tuple(one for one in self.cells if one.reward >= reward)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Grid:
    """The cells, edges x boundaries; the best of each so far."""

    fitness: Tensor
    reward: Tensor
    weights: Tensor
    morphogen: Tensor

    def enter(self, weights: Tensor, morphogen: Tensor, judge: Judge) -> None:
        """Put networks where they are better than what is there; the first of equals stays."""
        found = judge(weights, morphogen)
        columns = self.fitness.shape[1]
        cells = (weights != 0).sum((1, 2)) * columns + found.boundaries.clamp_max(columns - 1)
        for place, cell in enumerate(cells.tolist()):
            row, column = divmod(cell, columns)
            if found.fitness[place] > self.fitness[row, column]:
                self.fitness[row, column] = found.fitness[place]
                self.reward[row, column] = found.reward[place]
                self.weights[row, column] = weights[place]
                self.morphogen[row, column] = morphogen[place]

    def parents(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Networks of cells drawn alike often."""
        taken = (self.fitness > -torch.inf).nonzero()
        rows, columns = taken[torch.randint(len(taken), (count,), generator=draws)].T
        return self.weights[rows, columns], self.morphogen[rows, columns]


def map_elites(
    judge: Judge | None = None,
    *,
    budget: Budget,
    seed: int,
    genes: int = 7,
    first: int = 512,
    watch: Watch | None = None,
) -> Elites:
    """Keep the best network of each cell, and put mutated children of random cells in their cells, again and again.

    A cell is (edges, boundaries at the end): 0 to genes^2 by 0 to 25. Best is by the fitness, the reward +
    0.02 min(variation, 20) S^5. Children step, drop or add edges (`mutated`), so the search prunes as it goes.

    Args:
        judge: None: `Judge()`, the plain reward under the usual dynamics.
        budget: when it ends.
        seed: of every draw.
        genes: 1 to 64.
        first: random networks to begin with, 1 or more.
        watch: told how far it is.

    Raises:
        UsageError: numbers out of range.

    >>> found = map_elites(budget=Budget(evaluations=128), seed=0, genes=2, first=64)
    >>> found.evaluations, found.capped, len({(one.edges, one.boundaries) for one in found.cells}) == len(found.cells)
    (128, False, True)

    Source: Mouret and Clune (2015, arXiv 1504.04909). Theirs mutates by Gaussian steps; edges dropped and added are
    ours.
    """
    given, draws, size = judge or Judge(), stream(seed, "elites"), checked_genes(genes)
    if first < 1:
        raise UsageError(f"first is {first}; expected 1 or more random networks to begin with.")
    shape = (size**2 + 1, BOUNDARIES + 1)
    grid = _Grid(
        fitness=torch.full(shape, -torch.inf, dtype=torch.float64),
        reward=torch.zeros(shape, dtype=torch.float64),
        weights=torch.zeros(*shape, size, size),
        morphogen=torch.zeros(*shape, size),
    )
    done, began = 0, time.monotonic()
    while done == 0 or not budget.over(done, began=began):
        fresh = done < first
        children = random_networks(size, BATCH, draws) if fresh else mutated(*grid.parents(BATCH, draws), draws)
        grid.enter(*children, given)
        done += BATCH
        if watch is not None:
            watch(done, max(done, budget.evaluations))
    return Elites(
        cells=tuple(
            Found(
                network=GeneNetwork(
                    weights=tuple(map(tuple, grid.weights[row, column].tolist())),
                    morphogen=tuple(grid.morphogen[row, column].tolist()),
                ),
                reward=grid.reward[row, column].item(),
                boundaries=column,
            )
            for row, column in (grid.fitness > -torch.inf).nonzero().tolist()
        ),
        evaluations=done,
        capped=done < budget.evaluations,
    )
