"""States: the tensors of a network at one step, cut loose from it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tombola.errors import UsageError

__all__ = ["State", "load_state", "state_of"]

State = dict[str, Tensor]
"""name -> tensor on the CPU, as in `state_dict()`; buffers too. Never shares memory with a network."""


def state_of(model: nn.Module) -> State:
    """A copy of everything in `model.state_dict()`, on the CPU.

    Raises:
        UsageError: the module keeps something that is no tensor in its state.
    """
    state = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise UsageError(f"The module's state {name!r} is a {type(value).__name__}; only tensors can be kept.")
        state[name] = value.detach().to("cpu", copy=True).contiguous()
    return state


@torch.no_grad()
def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state into `model`, in place: parameters stay the same objects, and nothing is aliased.

    Raises:
        UsageError: names or shapes differ; names the first one.
    """
    own = model.state_dict()
    for name in own.keys() | state.keys():
        got, wanted = state.get(name), own.get(name)
        if got is None or wanted is None or got.shape != wanted.shape:
            have = "nothing" if got is None else tuple(got.shape)
            need = "nothing" if wanted is None else tuple(wanted.shape)
            raise UsageError(f"The state holds {have} for {name!r}, the network {need}; it belongs to another network.")
    model.load_state_dict(state)
