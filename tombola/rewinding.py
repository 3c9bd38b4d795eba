"""Rewinding: a state put back into a network, by hand or inside a loop that is not ours."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tombola.masks import Mask
from tombola.training.state import State, load_state

__all__ = ["Fresh", "masked_state", "rewind"]


def masked_state(model: nn.Module, state: Mapping[str, Tensor], mask: Mask | None) -> State:
    """A copy of a state of `model` with exactly 0 where the mask prunes; a tied tensor so under all its names.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> mask = Mask({"weight": torch.tensor([[False, True]])})
    >>> masked_state(layer, {"weight": torch.tensor([[-1.0, 2.0]])}, mask)
    {'weight': tensor([[0., 2.]])}
    """
    found = {name: value.detach().clone() for name, value in state.items()}
    for name, kept in mask.sparse().items() if mask is not None else ():
        found[name] = torch.where(kept.to(found[name].device), found[name], torch.zeros_like(found[name]))
    firsts = {parameter: name for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name != firsts[parameter] and name in found:
            found[name] = found[firsts[parameter]].clone()
    return found


@torch.no_grad()
def rewind(model: nn.Module, state: Mapping[str, Tensor], mask: Mask | None = None) -> None:
    """Put a state back into `model`, in place, with exactly 0 where the mask prunes; buffers rewind too.

    The parameters stay the same objects, so optimizers go on holding them (with their state: make a new optimizer for
    a new training), and nothing is aliased.

    Args:
        state: everything in `model.state_dict()`, such as a deep copy of it that was made at step k.

    Raises:
        UsageError: state or mask belongs to another network; names the first tensor that does not fit.

    >>> import tombola
    >>> layer = nn.Linear(2, 2)
    >>> start = copy.deepcopy(layer.state_dict())
    >>> mask = tombola.prune(layer, Mask.dense(layer), density=0.5)
    >>> _ = nn.init.ones_(layer.weight)
    >>> rewind(layer, start, mask)
    >>> torch.equal(layer.weight, torch.where(mask["weight"], start["weight"], 0))
    True
    """
    if mask is not None:
        mask.require(dict(model.named_parameters()))
        mask.require(state)
    load_state(model, masked_state(model, state, mask))


class Fresh:
    """The state that optimizers had before their first step, to be put back; mostly none."""

    def __init__(self) -> None:
        self._states: WeakKeyDictionary[Optimizer, dict[nn.Parameter, Any]] = WeakKeyDictionary()

    def remember(self, optimizer: Optimizer, parameters: list[nn.Parameter]) -> None:
        """Keep a copy of what an optimizer has before its first step, as Adagrad does."""
        state = optimizer.state
        self._states[optimizer] = {p: copy.deepcopy(state[p]) for p in parameters if p in state}

    def restore(self, optimizer: Optimizer, parameters: list[nn.Parameter]) -> None:
        """Make the optimizer what it was before its first step, as far as these parameters go."""
        kept = self._states.get(optimizer, {})
        for parameter in parameters:
            optimizer.state.pop(parameter, None)
            if parameter in kept:
                optimizer.state[parameter] = copy.deepcopy(kept[parameter])
