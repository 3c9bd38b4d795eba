"""The order in which examples are seen: a pure function of (seed, step)."""

from __future__ import annotations

import torch
from torch import Tensor

from tombola.streams import stream

__all__ = ["Order"]


class Order:
    """Batches cut from an endless sequence of epochs, each a fresh permutation of the examples.

    Step t sees the places t * batch to (t + 1) * batch - 1 of that sequence; epoch e is drawn by torch.randperm from
    `stream(seed, f"order/{e}")`. So a resumed or rewound run sees what the undisturbed one would, without any state.

    Args:
        examples: the indices to draw from.
        batch: examples a step; may exceed the number of examples.

    >>> order = Order(torch.arange(3), batch=2, seed=0)
    >>> sorted(order.batch(0).tolist() + order.batch(1).tolist()[:1])
    [0, 1, 2]
    """

    def __init__(self, examples: Tensor, *, batch: int, seed: int) -> None:
        self._examples, self._size, self._seed = examples, batch, seed
        self._epochs: dict[int, Tensor] = {}

    def batch(self, step: int) -> Tensor:
        """Indices of the examples of the optimizer step from `step` to `step + 1`; shape (batch,)."""
        return self.span(step, step + 1)

    def span(self, first: int, last: int) -> Tensor:
        """The batches of the steps from `first` to `last`, one behind the other; shape ((last - first) * batch,).

        It may be a view of what later calls return too, so it is not to be written to.
        """
        start, stop, n = first * self._size, last * self._size, len(self._examples)
        parts = []
        while start < stop:
            epoch, place = divmod(start, n)
            part = self._epoch(epoch)[place : place + stop - start]
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else torch.cat([self._examples[:0], *parts])

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            if len(self._epochs) > 1:
                self._epochs.clear()
            draw = torch.randperm(len(self._examples), generator=stream(self._seed, f"order/{epoch}"))
            self._epochs[epoch] = self._examples[draw.to(self._examples.device)]
        return self._epochs[epoch]
