"""Statistics that are summed along a training, for criteria that go by the whole way instead of its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from tombola.errors import UsageError, suggest
from tombola.masks import Mask

__all__ = ["STATISTICS", "Gathering", "check_statistics"]


def movement(gradient: Tensor, weight: Tensor) -> Tensor:
    """-g w: above 0 where the step of gradient descent takes the weight away from 0.

    Sanh et al. (2020, arXiv 2005.07683), whose score is the sum of it over the steps.

    >>> movement(torch.tensor([-1.0, 1.0]), torch.tensor([2.0, 2.0])).tolist()
    [2.0, -2.0]
    """
    return -(gradient * weight)


STATISTICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"movement": movement}
"""name -> (gradient of the loss, weight before the step) -> what a step adds to the sum."""


def check_statistics(names: Iterable[str]) -> None:
    """Refuse what is no statistic.

    Raises:
        UsageError: with the nearest one.
    """
    for name in names:
        if name not in STATISTICS:
            raise UsageError(f"Unknown statistic {name!r} to gather while training. {suggest(name, STATISTICS)}")


class Gathering:
    """Sums of a training, in float64, exactly 0 for weights that do not exist.

    Args:
        names: keys of `STATISTICS`.
        mask: names the tensors; a tensor's own mask is in its gradients.

    Raises:
        UsageError: an unknown statistic.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> sums = Gathering(["movement"], layer, Mask.dense(layer))
    >>> layer(torch.ones(1, 1)).sum().backward()
    >>> sums.add()
    >>> bool(sums.state()["movement"]["weight"] == -layer.weight.detach())
    True
    """

    def __init__(self, names: Iterable[str], model: nn.Module, mask: Mask) -> None:
        names = tuple(names)
        check_statistics(names)
        named = dict(model.named_parameters())
        self._weights = {name: named[name] for name in mask} if names else {}
        self._sums = {
            name: {key: torch.zeros_like(w, dtype=torch.float64) for key, w in self._weights.items()} for name in names
        }

    @torch.no_grad()
    def add(self) -> None:
        """Add what this step's gradients say, before the optimizer moves the weights."""
        for name, sums in self._sums.items():
            for key, weight in self._weights.items():
                if weight.grad is not None:
                    sums[key] += STATISTICS[name](weight.grad, weight)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Statistic -> tensor -> its sum so far: copies on the CPU."""
        return {
            name: {key: value.to("cpu", copy=True).contiguous() for key, value in sums.items()}
            for name, sums in self._sums.items()
        }

    def load(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from what `state` gave."""
        for name, sums in self._sums.items():
            for key, value in sums.items():
                value.copy_(state[name][key])
