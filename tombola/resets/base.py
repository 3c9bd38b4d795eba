"""What a reset is given and what it returns; and the resets that are ways of training on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from tombola.masks import Mask

__all__ = [
    "Facts",
    "FineTune",
    "Ground",
    "LrRewind",
    "Remake",
    "Reset",
    "Restarting",
    "Rewind",
    "Started",
    "State",
    "facts_of",
    "remakes",
    "written",
]

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ground:
    """What a reset works on; it changes none of it.

    Args:
        initial: parameter or buffer -> value where the survivors would be rewound to, whole.
        trained: the same after the training whose weights were scored; empty unless the reset asks for it.
        mask: the ticket's.
        seed: of the reset's random streams.
    """

    initial: Mapping[str, Tensor]
    trained: Mapping[str, Tensor]
    mask: Mask
    seed: int


Remake = Callable[[Ground], State]
"""Ground -> every parameter and buffer of the start; what the mask has pruned is cleared (or frozen) afterwards."""


@runtime_checkable
class Restarting(Protocol):
    """A reset of the pruned places that also changes where survivors start."""

    def __call__(self, ground: Ground) -> State:
        """Where the pruned places stand."""

    def survivors(self, ground: Ground, start: Mapping[str, Tensor]) -> State:
        """The start of the survivors, from what their own reset has made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewind:
    """Survivors take back the weights of step k; learning rate and data order go on from k.

    Frankle and Carbin (2019, arXiv 1803.03635) with k = 0; Frankle et al. (2020, arXiv 1912.05671) with k > 0.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class LrRewind:
    """Survivors keep their trained weights; the learning rate goes back to step k, with 0 the whole schedule again.

    Renda et al. (2020, arXiv 2003.02389).
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class FineTune:
    """Survivors keep their trained weights and go on at the last rate (Han et al. 2015, arXiv 1506.02626)."""


Reset = Rewind | LrRewind | FineTune | Remake


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a remake says of itself.

    Args:
        trained: it looks at the trained weights.
        dense: the network trains whole, not under the mask.
    """

    trained: bool = False
    dense: bool = False


_Kind = TypeVar("_Kind", bound=Callable[..., Any])
_NOTHING = Facts()


def remakes(**what: bool) -> Callable[[_Kind], _Kind]:
    """Say of a remake what `Facts` has fields for."""
    said = Facts(**what)

    def note(remake: _Kind) -> _Kind:
        remake.__tombola_facts__ = said  # type: ignore[attr-defined]
        return remake

    return note


def facts_of(remake: object) -> Facts:
    """What `remakes` said of a remake; nothing where it said nothing."""
    found: Facts = getattr(remake, "__tombola_facts__", _NOTHING)
    return found


@remakes(trained=True)
@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A remake: what the reset of the survivors makes, changed by that of the pruned places.

    Args:
        reset: of the survivors; None: they are rewound.
        pruned: of the pruned places.
    """

    reset: Remake | None = None
    pruned: Restarting

    def __call__(self, ground: Ground) -> State:
        """The start of the survivors."""
        start = ground.initial if self.reset is None else self.reset(ground)
        return self.pruned.survivors(ground, start)


def written(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> State:
    """A copy of `state` with other values in some tensors, and in those tied to them.

    A state holds a tied tensor under each of its names, all with the same numbers; a mask names it once. So what has
    the numbers of a changed tensor (not zeros alone) and is not changed itself gets the new ones too.

    >>> one = torch.ones(2, 2)
    >>> found = written({"up": one, "down": one, "bias": torch.ones(2)}, {"up": 2 * one})
    >>> {name: value.flatten()[0].item() for name, value in found.items()}
    {'up': 2.0, 'down': 2.0, 'bias': 1.0}
    """
    found = {name: value.clone() for name, value in state.items()}
    for name, new in values.items():
        before = state[name]
        for twin, value in state.items():
            alike = twin not in values and value.shape == before.shape and value.dtype == before.dtype
            if twin == name or (alike and bool(before.any()) and torch.equal(value, before)):
                found[twin] = new.to(before.dtype, copy=True)
    return found
