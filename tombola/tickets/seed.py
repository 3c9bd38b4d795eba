"""Start weights that are kept as the seed that makes them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tombola.errors import TicketError, suggest
from tombola.masks import Mask
from tombola.models.net import Net
from tombola.models.registry import MODELS
from tombola.streams import seeded
from tombola.tickets.plain import printable
from tombola.tickets.streams import raw
from tombola.training.state import State, state_of

__all__ = ["Build", "NamedModel", "digest_bits", "made"]

Build = Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedModel:
    """A registered network, to be built from a seed.

    Args:
        name: of `tombola.models.MODELS`.
        input_shape: of one example.
        outputs: numbers it puts out for one example.
        net: its options.

    >>> NamedModel(name="mlp", input_shape=(4,), outputs=2, net=Net(hidden=(3,)))(0).fc1.weight.shape
    torch.Size([3, 4])
    """

    name: str
    input_shape: tuple[int, ...]
    outputs: int
    net: Net = field(default_factory=Net)

    def __call__(self, seed: int) -> nn.Module:
        """The freshly initialised network."""
        if self.name not in MODELS:
            raise TicketError(f"Unknown model '{printable(self.name, 60)}'. {suggest(self.name, MODELS)}")
        return MODELS[self.name](self.input_shape, self.outputs, self.net, seed)

    def note(self) -> dict[str, Any]:
        """What a file keeps of it."""
        net = {f.name: getattr(self.net, f.name) for f in fields(Net) if getattr(self.net, f.name) != f.default}
        return {"name": self.name, "input_shape": list(self.input_shape), "outputs": self.outputs, "net": net}

    @classmethod
    def from_note(cls, note: Mapping[str, Any], weights: int, tensors: int) -> Build:
        """What `note` gave, as a `build` that makes no network larger than so many numbers and tensors.

        Raises:
            ValueError: the note says something else.
        """
        try:
            net = Net(**{**note["net"], "hidden": tuple(note["net"].get("hidden", ()))})
            named = cls(name=note["name"], input_shape=tuple(note["input_shape"]), outputs=note["outputs"], net=net)
            sizes = (*named.input_shape, named.outputs, *net.hidden)
            if (
                not isinstance(named.name, str)
                or len(note) != 4
                or not all(type(s) is int and 0 < s <= weights for s in sizes)
                or len(sizes) > tensors + 16
            ):
                raise ValueError
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError("a network that cannot be built") from error

        def build(seed: int) -> nn.Module:
            with _Bounded(weights):
                return named(seed)

        return build


class _Bounded(TorchDispatchMode):
    """Inside it no more than `left` numbers can be made room for."""

    def __init__(self, left: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.left = 4 * left + 1024  # a layer is first made without values, and has some scratch

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        first = args[0] if args else None
        if isinstance(first, list | tuple) and all(isinstance(size, int) for size in first):
            self.left -= math.prod(first)
        elif isinstance(first, Tensor) and "_like" in str(func):
            self.left -= first.numel()
        if self.left < 0:
            raise ValueError("a network larger than the weights that the file lists")
        return func(*args, **(kwargs or {}))


def made(build: Build, seed: int, mask: Mask) -> State:
    """What `build(seed)` makes, with 0 where the mask prunes.

    Raises:
        TicketError: it raises, returns no module, or one that the mask does not fit.
    """
    name = printable(getattr(build, "__qualname__", type(build).__name__), 60)
    try:
        with seeded(seed):
            model = build(seed)
    except Exception as error:  # whatever a user's function raises
        reason = printable(f"{type(error).__name__}: {error}")
        raise TicketError(f"build={name} failed for the seed {seed}: {reason}") from error
    if not isinstance(model, nn.Module):
        raise TicketError(f"build={name} returned a {type(model).__name__}; expected a torch.nn.Module.")
    state, own = state_of(model), model.state_dict(keep_vars=True)
    for tensor, kept in mask.sparse().items():
        for twin in (n for n in own if own[n] is own.get(tensor) and own[n].shape == kept.shape):  # tied ones too
            state[twin] = state[twin].masked_fill(~kept, 0)
    return state


def digest_bits(state: Mapping[str, Tensor]) -> str:
    """32 hex digits of SHA-256 of names, dtypes, shapes and bits, in the order of the names; 0.0 and -0.0 differ.

    >>> import torch
    >>> digest_bits({"a": torch.zeros(1)}) == digest_bits({"a": -torch.zeros(1)})
    False
    """
    whole = hashlib.sha256()
    for name in sorted(state):
        whole.update(json.dumps([name, str(state[name].dtype), list(state[name].shape)]).encode() + b"\n")
        whole.update(raw(state[name]))
    return whole.hexdigest()[:32]
