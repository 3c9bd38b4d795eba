"""A gene regulatory network: which gene acts on which, and how each reads the morphogen. Needs no torch, no numpy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tombola.errors import UsageError

__all__ = ["BOUND", "MAX_GENES", "Edge", "GeneNetwork", "read_network", "silence", "upstream"]

BOUND = 100.0
"""No weight and no morphogen input is larger than this, as in the source."""

MAX_GENES = 64
"""As in tombola/native/c/motifs.c."""

Edge = tuple[int, int]
"""(gene acted on, acting gene), both counted from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneNetwork:
    """Weights between genes, and the morphogen's weight on each gene.

    The input of gene i is (sum_j W_ij x_j + d_i g) / scale, W the weights and d the morphogen. A weight of 0 is no
    edge; one above 0 activates, one below 0 represses.

    Args:
        weights: n x n numbers within -100 to 100, 1 <= n <= 64; row i: what acts on gene i.
        morphogen: n numbers within -100 to 100, the source's d.

    Raises:
        UsageError: not square, not finite, out of bounds, or a morphogen of another length.

    >>> toggle = GeneNetwork(weights=((85, -80), (10, 50)), morphogen=(31, 19))
    >>> toggle.genes, len(toggle.edges), toggle.without([(1, 0)]).weights
    (2, 4, ((85.0, -80.0), (0.0, 50.0)))

    Source: Huang, Boukacem and Francois (2025), "Evolving diverse gene networks", whose weights and inputs have the
    same bounds but are whole numbers; here any number within them.
    """

    weights: tuple[tuple[float, ...], ...]
    morphogen: tuple[float, ...]

    def __post_init__(self) -> None:
        rows = tuple(_numbers(row, f"row {place} of weights") for place, row in enumerate(_rows(self.weights), 1))
        if not 1 <= len(rows) <= MAX_GENES:
            raise UsageError(f"weights has {len(rows)} rows; expected one for each of 1 to {MAX_GENES} genes.")
        for place, row in enumerate(rows, 1):
            if len(row) != len(rows):
                raise UsageError(
                    f"row {place} of weights has {len(row)} numbers for {len(rows)} rows; expected a square matrix: "
                    f"leave out columns and rows of padding."
                )
        morphogen = _numbers(self.morphogen, "morphogen")
        if len(morphogen) != len(rows):
            raise UsageError(
                f"morphogen has {len(morphogen)} numbers for {len(rows)} genes; expected one for each gene (0: it does "
                f"not read the morphogen)."
            )
        object.__setattr__(self, "weights", rows)
        object.__setattr__(self, "morphogen", morphogen)

    @property
    def genes(self) -> int:
        """How many."""
        return len(self.weights)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Places of the weights that are not 0, row by row; the morphogen's are no edges."""
        return tuple((i, j) for i, row in enumerate(self.weights) for j, weight in enumerate(row) if weight)

    def transposed(self) -> GeneNetwork:
        """The same table read the other way: column i is what acts on gene i."""
        return replace(self, weights=tuple(zip(*self.weights, strict=True)))

    def without(self, edges: Iterable[Edge]) -> GeneNetwork:
        """The network in which these edges are 0."""
        gone = set(edges)
        return replace(
            self,
            weights=tuple(
                tuple(0.0 if (i, j) in gone else weight for j, weight in enumerate(row))
                for i, row in enumerate(self.weights)
            ),
        )

    def document(self) -> dict[str, Any]:
        """As plain lists, in the form of a file."""
        return {"weights": [list(row) for row in self.weights], "morphogen": list(self.morphogen)}


def _rows(values: Any) -> Sequence[Any]:
    found = values.tolist() if hasattr(values, "tolist") else values  # arrays and tensors
    if isinstance(found, str | bytes) or not isinstance(found, Sequence):
        raise UsageError(f"weights is {str(values)[:40]!r}; expected a list of rows of numbers.")
    return found


def _numbers(values: Any, place: str) -> tuple[float, ...]:
    found = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(found, str | bytes) or not isinstance(found, Sequence):
        raise UsageError(f"{place} is {str(values)[:40]!r}; expected a list of numbers.")
    for column, value in enumerate(found, 1):
        got = f"number {column} of {place} is {str(value)[:40]}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{got}; expected a number.")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{got}; expected a finite number.")
        if abs(value) > BOUND:
            raise UsageError(
                f"{got}; expected one within -{BOUND:g} to {BOUND:g}: divide all of them, and the scale of the "
                f"dynamics, by the same factor."
            )
    return tuple(map(float, found))


def upstream(network: GeneNetwork, output: int) -> frozenset[int]:
    """The genes with a path of edges to a gene, itself included.

    >>> chain = GeneNetwork(weights=((0, 5, 0), (0, 0, 0), (0, 7, 0)), morphogen=(0, 1, 1))
    >>> sorted(upstream(chain, 0))
    [0, 1]
    """
    found, fresh = {output}, [output]
    while fresh:
        row = network.weights[fresh.pop()]
        new = [j for j, weight in enumerate(row) if weight and j not in found]
        found.update(new)
        fresh.extend(new)
    return frozenset(found)


def silence(network: GeneNetwork, output: int) -> str | None:
    """Why a gene does the same in every cell, as a clause; None: it may differ.

    Cells differ by the morphogen alone, so without a path from it to the gene there is no pattern.

    >>> silence(GeneNetwork(weights=((50, 0), (9, 50)), morphogen=(0, 10)), 0)
    'gene 1 is the same in every cell, since no gene that reads the morphogen has a path to it'
    """
    if any(network.morphogen[gene] for gene in upstream(network, output)):
        return None
    why = (
        "no gene that reads the morphogen has a path to it" if any(network.morphogen) else "no gene reads the morphogen"
    )
    return f"gene {output + 1} is the same in every cell, since {why}"


def read_network(path: Path) -> GeneNetwork:
    """A network from a JSON file {"weights": [[...], ...], "morphogen": [...]}.

    Raises:
        UsageError: no such file, no JSON, other keys, or numbers that are no network.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON file ({str(error)[:80]}).") from None
    wanted = {"weights", "morphogen"}
    if not isinstance(content, dict) or content.keys() != wanted:
        got = ", ".join(map(str, content))[:80] if isinstance(content, dict) else type(content).__name__
        raise UsageError(
            f'{path} holds {got or "nothing"}; expected {{"weights": [[...], ...], "morphogen": [...]}} alone.'
        )
    try:
        return GeneNetwork(weights=content["weights"], morphogen=content["morphogen"])
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
