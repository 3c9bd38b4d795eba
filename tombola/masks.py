"""Masks: which weights exist."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tombola.errors import UsageError
from tombola.tensors import pack, unpack

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tombola.scopes import Scope

__all__ = ["Mask", "a_mask"]


def a_mask(value: object) -> Mask:
    """The mask that `value` is.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, Mask):
        raise UsageError(f"The mask is a {type(value).__name__}; expected a tombola.Mask, as tombola.prune returns it.")
    return value


class Mask(Mapping[str, "Tensor"]):
    """An immutable mapping from tensor name to a bool tensor, in module order: True where a weight exists.

    The places are held as packed bits and unpacked at each access, so nothing that is done to a tensor taken from a
    mask can change it; a mask is small, hashable, and compares and digests by content.

    Args:
        kept: name -> bool tensor of the weight's shape (any device), in module order.

    Raises:
        UsageError: a tensor is not boolean.

    >>> import torch
    >>> mask = Mask({"layer.weight": torch.tensor([[True, False], [True, True]])})
    >>> mask.density, mask.kept, mask["layer.weight"].sum().item()
    (0.75, {'layer.weight': 3}, 3)
    """

    __slots__ = ("_bits", "_digest", "_kept", "_shapes")

    def __init__(self, kept: Mapping[str, Tensor]) -> None:
        shapes: dict[str, tuple[int, ...]] = {}
        bits: dict[str, bytes] = {}
        counts: dict[str, int] = {}
        for name, tensor in kept.items():
            if str(tensor.dtype) != "torch.bool":
                raise UsageError(
                    f"The mask of {name!r} has dtype {tensor.dtype}; expected torch.bool (use `tensor != 0`)."
                )
            shapes[name], bits[name], counts[name] = tuple(tensor.shape), pack(tensor), int(tensor.sum())
        self._set(shapes, bits, counts)

    def _set(self, shapes: dict[str, tuple[int, ...]], bits: dict[str, bytes], counts: dict[str, int]) -> None:
        self._shapes, self._bits, self._kept = shapes, bits, counts
        whole = hashlib.sha256(json.dumps([[name, *shape] for name, shape in shapes.items()]).encode())
        for packed in bits.values():
            whole.update(packed)
        self._digest = whole.hexdigest()[:32]

    @classmethod
    def from_packed(cls, shapes: Mapping[str, tuple[int, ...]], bits: Mapping[str, bytes]) -> Mask:
        """The mask whose packed bits (`tensors.pack`) are these; raises `UsageError` where lengths do not fit."""
        return cls({name: unpack(bits[name], shape) for name, shape in shapes.items()})

    @classmethod
    def dense(cls, model: nn.Module, scope: Scope | None = None) -> Mask:
        """The mask that keeps every prunable weight of `model` (default scope: `tombola.scopes.Scope()`).

        Raises:
            UsageError: the model has no prunable weight.

        >>> from torch import nn
        >>> Mask.dense(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))).kept
        {'0.weight': 6, '2.weight': 2}
        """
        import torch

        from tombola.scopes import Scope, prunable

        found = prunable(model, scope or Scope())
        return cls({name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in found.items()})

    def __getitem__(self, name: str) -> Tensor:
        return unpack(self._bits[name], self._shapes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"Mask({len(self)} tensors, {self.alive:,} of {self.total:,} kept, density {self.density:.2%})"

    def __reduce__(self) -> tuple[object, ...]:
        return Mask.from_packed, (self._shapes, self._bits)

    @property
    def digest(self) -> str:
        """Identity by content: names in order, shapes and places."""
        return self._digest

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """name -> shape of the weight."""
        return dict(self._shapes)

    @property
    def packed(self) -> dict[str, bytes]:
        """name -> packed bits (`tensors.pack`)."""
        return dict(self._bits)

    @property
    def kept(self) -> dict[str, int]:
        """name -> number of weights that exist."""
        return dict(self._kept)

    @property
    def alive(self) -> int:
        """Number of weights that exist."""
        return sum(self._kept.values())

    @property
    def total(self) -> int:
        """Number of prunable weights, kept or not."""
        return sum(math.prod(shape) for shape in self._shapes.values())

    @property
    def density(self) -> float:
        """kept / prunable, in [0, 1]."""
        return self.alive / self.total if self.total else 0.0

    def within(self, other: Mask) -> bool:
        """Whether every weight kept here is kept in `other` too (masks of successive levels are nested)."""
        alike = list(self._shapes.items()) == list(other._shapes.items())
        return alike and all(not bool((self[n] & ~other[n]).any()) for n in self)

    def sparse(self) -> dict[str, Tensor]:
        """The tensors in which something is pruned: a dense tensor needs no masking."""
        return {name: self[name] for name in self if self._kept[name] < math.prod(self._shapes[name])}

    def require(self, weights: Mapping[str, Tensor]) -> None:
        """Check that `weights` has every masked tensor in the same shape; `UsageError` names the first it has not."""
        for name, shape in self._shapes.items():
            if name not in weights:
                raise UsageError(
                    f"The mask names {name!r}, which the model does not have; take it from Mask.dense(model)."
                )
            if tuple(weights[name].shape) != shape:
                raise UsageError(
                    f"The mask of {name!r} has shape {shape}, but the weight has {tuple(weights[name].shape)}."
                )
