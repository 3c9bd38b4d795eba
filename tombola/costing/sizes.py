"""Bytes on disk: of the whole network, and of what a mask leaves of it."""

from __future__ import annotations

import zlib

from torch import Tensor, nn

from tombola.masks import Mask
from tombola.store.packing import mask_bytes, state_bytes
from tombola.training.state import State

__all__ = ["sizes"]


def sizes(model: nn.Module, mask: Mask) -> dict[str, int]:
    """Bytes of a masked network's parameters and buffers.

    Args:
        model: pruned weights are 0.
        mask: names as by `model.named_parameters()`.

    Returns:
        "dense": as safetensors, zeros included; "packed": as the store keeps it, a bit for each prunable weight and
        the values of those that exist; "dense_zlib", "packed_zlib": both compressed.

    >>> sizes(nn.Linear(100, 100), Mask({"weight": (__import__("torch").ones(100, 100) > 0).tril()}))["packed"] < 24_000
    True
    """
    state = _tensors(model)
    dense = state_bytes(state, None)
    packed = state_bytes(state, mask) + mask_bytes(mask)
    return {
        "dense": len(dense),
        "dense_zlib": len(zlib.compress(dense)),
        "packed": len(packed),
        "packed_zlib": len(zlib.compress(packed)),
    }


def _tensors(model: nn.Module) -> State:
    """Every tensor of the state once, a tied one by its first name."""
    found: State = {}
    seen: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            continue
        place = (value.data_ptr(), tuple(value.shape), value.stride())
        if value.numel() and place in seen:
            continue
        seen.add(place)
        found[name] = value.detach().to("cpu", copy=True).contiguous()
    return found
