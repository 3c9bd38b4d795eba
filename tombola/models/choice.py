"""Which network a task trains: a registered one with its options, or a user's own factory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from tombola.errors import UsageError, suggest
from tombola.models.imported import build_imported, import_factory, source_digest
from tombola.models.net import Net
from tombola.models.registry import MODELS
from tombola.scopes import Scope, prunable
from tombola.tensors import digest_tensors
from tombola.training.state import state_of

__all__ = ["Choice"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Choice:
    """A network for inputs of one shape, to be built from any seed.

    Args:
        model: a name of `tombola.models.MODELS`, an import path `package.module:factory`, or a factory `() -> module`.
        net: options of a registered network.
        input_shape: of one example.
        outputs: numbers it must put out for one.
    """

    model: str | Callable[[], nn.Module]
    net: Net
    input_shape: tuple[int, ...]
    outputs: int
    _narrowed: dict[int, Net] = field(default_factory=dict, init=False, repr=False)

    @property
    def identity(self) -> object:
        """Its name and options, or a factory's file and what it builds from seed 0."""
        if isinstance(self.model, str) and self.model in MODELS:
            return {"name": self.model, "net": self.net}
        factory = import_factory(self.model) if isinstance(self.model, str) else self.model
        model = self.build(0)
        return {
            "source": source_digest(factory),
            "layers": re.sub(r" at 0x[0-9a-f]+", "", repr(model)),
            "weights": digest_tensors(state_of(model)),
        }

    def build(self, seed: int, *, at_most: int | None = None) -> nn.Module:
        """The network of this seed, in training mode, on the CPU.

        Raises:
            UsageError: a factory of one's own cannot be made narrower, or no network is as small as `at_most`.
        """
        if isinstance(self.model, str) and self.model in MODELS:
            net = self.net if at_most is None else self._narrow(at_most)
            return MODELS[self.model](self.input_shape, self.outputs, net, seed)
        if at_most is not None:
            raise UsageError("Only a named network can be made narrower (small-dense); a factory has one width.")
        if not isinstance(self.model, str):
            return build_imported(getattr(self.model, "__qualname__", "model"), self.model, seed)
        if ":" not in self.model:
            raise UsageError(
                f"Unknown model {self.model!r}. {suggest(self.model, MODELS)} Your own: package.module:factory."
            )
        return build_imported(self.model, import_factory(self.model), seed)

    def _narrow(self, at_most: int) -> Net:
        """The widest form of the network with at most so many prunable weights."""
        if at_most not in self._narrowed:
            low, high = 0.0, self.net.width
            if self._weights(high) <= at_most:
                return self.net
            for _ in range(24):
                middle = (low + high) / 2
                low, high = (middle, high) if self._weights(middle) <= at_most else (low, middle)
            if low == 0.0:
                raise UsageError(f"No form of {self.model} has at most {at_most} weights.")
            self._narrowed[at_most] = replace(self.net, width=low)
        return self._narrowed[at_most]

    def _weights(self, width: float) -> int:
        net = replace(self.net, width=width)
        with torch.device("meta"):  # shapes alone: many widths are tried, and numbers would be drawn for each
            model = MODELS[str(self.model)](self.input_shape, self.outputs, net, 0)
        return sum(weight.numel() for weight in prunable(model, Scope()).values())
