"""Pruned places that stand at constants instead of 0, while the survivors train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tombola.masks import Mask
from tombola.training.enforce import enforce
from tombola.training.places import masked_parameters
from tombola.training.slots import clear_slots

__all__ = ["frozen", "standing"]


def standing(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """Masked tensor -> a copy of what it holds now: the constants of its pruned places.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> standing(layer, Mask({"weight": torch.tensor([[True, False]])}))["weight"].equal(layer.weight)
    True
    """
    named = dict(model.named_parameters())
    return {name: named[name].detach().clone() for name in mask.sparse()}


@contextmanager
def frozen(model: nn.Module, optimizer: Optimizer, mask: Mask, constants: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside this context w = m * w + (1 - m) * c after entry and after every step, and on leaving; gradients and
    optimizer state are masked as in `enforce`, so that neither momentum nor weight decay moves a constant.

    Args:
        mask: which weights are trained.
        constants: masked tensor -> the values of its pruned places (`standing`), of its shape.

    Zhou et al. (2019, arXiv 1905.01067), whose code adds a buffer to the layer; here the module stays as it is.

    >>> layer, mask = nn.Linear(2, 1, bias=False), Mask({"weight": torch.tensor([[True, False]])})
    >>> optimizer, before = torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=0.5), layer.weight.tolist()
    >>> with frozen(layer, optimizer, mask, standing(layer, mask)):
    ...     layer(torch.ones(1, 2)).sum().backward()
    ...     optimizer.step()
    >>> [now == then for now, then in zip(layer.weight.tolist()[0], before[0])]
    [False, True]
    """
    places = masked_parameters(model, mask)
    named = dict(model.named_parameters())
    held = [(named[name], mask[name].to(value.device), value) for name, value in constants.items()]

    @torch.no_grad()
    def put() -> None:
        for weight, kept, value in held:
            weight.copy_(torch.where(kept, weight, value))

    def after_step(*_: object) -> None:
        clear_slots(optimizer, list(places.items()))  # weight decay of a constant has gone into the momentum
        put()

    try:
        with enforce(model, optimizer, mask, remask=False):
            put()
            hook = optimizer.register_step_post_hook(after_step)
            try:
                yield
            finally:
                hook.remove()
    finally:
        put()
