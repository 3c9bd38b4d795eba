"""Several processes that train one network together (`torchrun`): the first one's word is everyone's."""

from __future__ import annotations

import os
from typing import TypeVar

import torch
import torch.distributed as dist

from tombola.errors import UsageError
from tombola.training.state import State

__all__ = ["agree", "announced", "is_first", "require_group", "share"]

Value = TypeVar("Value", bool, int, float, str)


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Whether this process is the one that writes and prints.

    >>> is_first()
    True
    """
    return not _together() or dist.get_rank() == 0


def require_group() -> None:
    """Refuse one of several processes that do not know of each other: they would write the same files.

    Raises:
        UsageError: with what to call first.
    """
    world = os.environ.get("WORLD_SIZE", "1")
    if world.isdecimal() and int(world) > 1 and not (dist.is_available() and dist.is_initialized()):
        raise UsageError(
            f"There are {world} processes; call torch.distributed.init_process_group() before find_ticket."
        )


def announced(value: Value) -> Value:
    """The first process' value, in all of them.

    >>> announced(3)
    3
    """
    if not _together():
        return value
    found = [value]
    dist.broadcast_object_list(found, src=0)
    return found[0]


def agree(what: str, digest: str) -> None:
    """Check that all processes have the same.

    Raises:
        UsageError: names what differs, in all processes.
    """
    if not _together():
        return
    found: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(found, digest)
    if len(set(found)) > 1:
        odd = next(rank for rank, other in enumerate(found) if other != found[0])
        raise UsageError(
            f"{what} of rank {odd} and of rank 0 differ; train must keep them equal, as DistributedDataParallel does."
        )


def share(state: State) -> State:
    """The first process' state, in all of them; the names must be the same.

    >>> share({"w": torch.ones(1)})
    {'w': tensor([1.])}
    """
    if not _together():
        return state
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    found = {}
    for name, value in state.items():
        moved = value.to(device, copy=True)
        dist.broadcast(moved, src=0)
        found[name] = moved.to(value.device)
    return found
