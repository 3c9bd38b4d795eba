"""Networks whose numbers are on a grid, and the rewards of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.errors import UsageError
from tombola.motifs.judge import Judge
from tombola.motifs.network import BOUND
from tombola.motifs.population import checked_genes

__all__ = ["ENUMERABLE", "Levels", "Worth", "enumerated"]

ENUMERABLE = 2**17
"""The most networks of a grid that are enumerated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Levels:
    """Networks whose weights and morphogen inputs are each one of a few numbers.

    A network is a row of genes^2 + genes choices, weights row by row and then the morphogen, each within 0 to levels.

    Args:
        genes: 1 to 64.
        levels: how many, 2 or more, evenly from -100 to 100.

    Raises:
        UsageError: numbers out of range.

    >>> grid = Levels(genes=2, levels=5)
    >>> grid.values.tolist(), grid.choices, grid.count
    ([-100.0, -50.0, 0.0, 50.0, 100.0], 6, 15625)
    """

    genes: int
    levels: int

    def __post_init__(self) -> None:
        checked_genes(self.genes)
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or not 2 <= self.levels <= 2 * BOUND + 1:
            raise UsageError(f"levels is {self.levels}; expected a whole number within 2 to {2 * BOUND + 1:g}.")

    @property
    def values(self) -> Tensor:
        """What each level stands for."""
        return torch.linspace(-BOUND, BOUND, self.levels)

    @property
    def choices(self) -> int:
        """How many make a network."""
        return self.genes * (self.genes + 1)

    @property
    def count(self) -> int:
        """How many networks there are."""
        return int(self.levels**self.choices)

    def all(self) -> Tensor:
        """Every network, count x choices.

        Raises:
            UsageError: there are too many.
        """
        if self.count > ENUMERABLE:
            raise UsageError(
                f"{self.genes} genes at {self.levels} levels make {self.levels}^{self.choices} networks; at most "
                f"{ENUMERABLE:,} are enumerated: take fewer genes or levels."
            )
        places = torch.arange(self.count)[:, None]
        return places // self.levels ** torch.arange(self.choices - 1, -1, -1) % self.levels

    def networks(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Choices, n x choices, as stacked weights and morphogen."""
        numbers, square = self.values[chosen], self.genes**2
        return numbers[:, :square].reshape(-1, self.genes, self.genes), numbers[:, square:]

    def worth(self, judge: Judge) -> Worth:
        """The rewards of choices, by simulation."""

        def found(chosen: Tensor) -> Tensor:
            return judge(*self.networks(chosen)).reward

        return found


Worth = Callable[[Tensor], Tensor]
"""n x choices whole numbers -> n rewards, float64, 0 or more."""


def enumerated(grid: Levels, worth: Worth | None = None) -> Tensor:
    """The rewards of every network of a grid, in the order of `grid.all()`.

    Raises:
        UsageError: there are too many.
    """
    return (worth or grid.worth(Judge()))(grid.all())
