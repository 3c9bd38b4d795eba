"""States and masks as bytes: safetensors, with the weights of a masked tensor packed to those that exist."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from tombola.masks import Mask
    from tombola.training.checkpoint import Checkpoint
    from tombola.training.state import State

__all__ = ["checkpoint_bytes", "checkpoint_from", "mask_bytes", "mask_from", "notes_of", "state_bytes", "state_from"]


def _save(tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> bytes:
    from safetensors.torch import save

    # One metadata entry: the order of several is not fixed, and equal contents must be equal bytes.
    return save(dict(tensors), {"tombola": json.dumps(notes, sort_keys=True)})


def notes_of(data: bytes) -> dict[str, Any]:
    """The notes in the header of one of our safetensors files."""
    length = int.from_bytes(data[:8], "little")
    notes: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["tombola"])
    return notes


def state_bytes(state: Mapping[str, Tensor], mask: Mask | None) -> bytes:
    """A state; under a mask, the values at kept places alone, in row-major order."""
    places = mask.sparse() if mask is not None else {}
    packed = {name: value[places[name]] if name in places else value for name, value in state.items()}
    return _save(packed, {"kind": "state", "mask": mask.digest if places and mask is not None else None})


def state_from(data: bytes, mask_of: Callable[[str], Mask]) -> State:
    """The state in `data`; pruned weights are exactly 0. `mask_of` finds the mask by its digest."""
    import torch
    from safetensors.torch import load

    state, digest = load(data), notes_of(data)["mask"]
    if digest is None:
        return state
    for name, kept in mask_of(digest).sparse().items():
        whole = torch.zeros(kept.shape, dtype=state[name].dtype)
        whole[kept] = state[name]
        state[name] = whole
    return state


def mask_bytes(mask: Mask) -> bytes:
    """A mask: one bit a weight."""
    import torch

    packed = {name: torch.frombuffer(bytearray(bits), dtype=torch.uint8) for name, bits in mask.packed.items()}
    shapes = [[name, list(shape)] for name, shape in mask.shapes.items()]
    return _save(packed, {"kind": "mask", "shapes": shapes})


def mask_from(data: bytes) -> Mask:
    """The mask in `data`."""
    from safetensors.torch import load

    from tombola.masks import Mask

    bits = load(data)
    shapes = {name: tuple(shape) for name, shape in notes_of(data)["shapes"]}
    return Mask.from_packed(shapes, {name: bits[name].numpy().tobytes() for name in shapes})


def checkpoint_bytes(checkpoint: Checkpoint, states: Mapping[int, str]) -> bytes:
    """A checkpoint, with the states that its fit has kept so far."""
    notes = {"kind": "checkpoint", "step": checkpoint.step, "notes": checkpoint.notes, "states": list(states.items())}
    return _save(checkpoint.tensors, notes)


def checkpoint_from(data: bytes) -> tuple[Checkpoint, dict[int, str]]:
    """The checkpoint in `data`, and the states kept so far."""
    from safetensors.torch import load

    from tombola.training.checkpoint import Checkpoint

    notes = notes_of(data)
    return Checkpoint(step=notes["step"], tensors=load(data), notes=notes["notes"]), dict(map(tuple, notes["states"]))
