"""A gene network as a module, and what it is worth without single edges: what criteria look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tombola.criteria.base import Place, Worth
from tombola.errors import UsageError
from tombola.masks import Mask

__all__ = ["EDGES", "MORPHOGEN", "Genes", "worth_by"]

EDGES, MORPHOGEN = "edges.weight", "morphogen"
"""Names of the tensors in a state."""


class Genes(nn.Module):
    """A gene network as a module: the edges as a layer without bias, the morphogen inputs beside it.

    Args:
        weights: genes x genes.
        morphogen: genes.
    """

    def __init__(self, weights: Tensor, morphogen: Tensor) -> None:
        super().__init__()
        self.edges = nn.Linear(len(morphogen), len(morphogen), bias=False)
        self.morphogen = nn.Parameter(morphogen.clone())
        with torch.no_grad():
            self.edges.weight.copy_(weights)

    def forward(self, x: Tensor, wave: Tensor) -> Tensor:
        """The inputs of the genes of cells, cells x genes, from their values and the morphogen, cells."""
        values: Tensor = self.edges(x)
        return values + wave[:, None] * self.morphogen


def worth_by(judged: Callable[[Tensor, Tensor], Tensor]) -> Worth:
    """What `Probe.worth` asks for: the stacked networks without single edges, judged.

    Args:
        judged: weights n x genes x genes, morphogen n x genes -> n numbers, larger is better.

    >>> net = Genes(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2))
    >>> worth_by(lambda weights, _: weights.sum((1, 2)))(net, Mask.dense(net), [None, (EDGES, 2)]).tolist()
    [10.0, 7.0]
    """

    def worth(model: nn.Module, mask: Mask, places: Sequence[Place | None]) -> Tensor:
        if not isinstance(model, Genes):
            raise UsageError(f"The network is a {type(model).__name__}; expected Genes, whose worth this is.")
        weights = torch.where(mask[EDGES], model.edges.weight.detach().cpu(), 0.0).repeat(len(places), 1, 1)
        for one, place in zip(weights, places, strict=True):
            if place is not None:
                one.view(-1)[place[1]] = 0
        return judged(weights, model.morphogen.detach().cpu().expand(len(places), -1))

    return worth
