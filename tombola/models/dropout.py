"""Dropout whose noise can be replayed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tombola.streams import Key, uniform

__all__ = ["CounterDropout"]


class CounterDropout(nn.Module):
    """Dropout with noise from the counter hash: y = x * [u >= rate] / (1 - rate), u = `streams.uniform(key, x.shape)`.

    The noise is a pure function of (seed, layer, step, index), so every engine and device can replay any step. The
    training loop sets `key` before each step; without one, u comes from torch's global generator as in `nn.Dropout`.

    Args:
        rate: share of activations set to 0 while training, in [0, 1).

    Source: Srivastava et al. (2014), inverted form.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.key: Key | Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x with a share of its elements set to 0 and the others enlarged; x itself outside training."""
        if not self.training or not self.rate:
            return x
        noise = torch.rand_like(x) if self.key is None else uniform(self.key, x.shape, x.device)
        return x * (noise >= self.rate) / (1 - self.rate)

    def extra_repr(self) -> str:
        """The rate, for `print(model)`."""
        return f"rate={self.rate}"
