"""Which units stay: the least set that the network's outputs ask for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tombola.shrinking.values import Book

__all__ = ["Staying", "solve"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Staying:
    """Which units stay; `why` gives for a unit that something holds fast what that is."""

    kept: Tensor
    held: dict[int, str]
    classes: Tensor

    def of(self, units: Tensor) -> Tensor:
        """Whether each of these stays."""
        return self.kept[units]

    def why(self, units: Tensor) -> str:
        """What holds the first of these units that is held fast, else empty."""
        return next((self.held[at] for at in self.classes[units].tolist() if at in self.held), "")


def solve(book: Book) -> Staying:
    """The least fixed point of: pinned units stay; a row that stays keeps the columns it needs; tied units are one.

    Of a tensor of which nothing stays, the first unit does, for its shape only: nobody reads it, so it needs nothing.

    >>> book = Book()
    >>> inputs, outputs = book.fresh(3), book.fresh(2)
    >>> book.pins.append((outputs[1:], "it is an output"))
    >>> book.needs.append((outputs, inputs, torch.tensor([[True, False, False], [False, False, True]])))
    >>> solve(book).kept.tolist()
    [False, False, True, False, True]
    """
    classes = _classes(book)
    needed = np.zeros(book.count, dtype=bool)
    held: dict[int, str] = {}
    for units, why in book.pins:
        for at in classes[units.numpy()].tolist():
            held.setdefault(at, why)
    needed[list(held)] = True
    needs = [
        (classes[o.numpy()], classes[i.numpy()], None if matrix is None else matrix.numpy())
        for o, i, matrix in reversed(book.needs)
    ]
    before = -1
    while before != needed.sum():
        before = needed.sum()
        for outputs, inputs, matrix in needs:
            needed[inputs[needed[outputs] if matrix is None else matrix[needed[outputs]].any(0)]] = True
    kept = needed.copy()
    for units in book.tensors:
        members = classes[units.numpy()]
        if len(members) and not kept[members].any():
            kept[members[0]] = True
    return Staying(kept=torch.from_numpy(kept[classes]), held=held, classes=torch.from_numpy(classes))


def _classes(book: Book) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each unit the number of the class of units that it is tied with."""
    if not book.ties:
        return np.arange(book.count)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = (np.concatenate([pair[side].numpy() for pair in book.ties]) for side in (0, 1))
    graph = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(book.count, book.count))
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = connected_components(graph, directed=False)[1].astype(np.int64)
    return found
