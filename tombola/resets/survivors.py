"""What survivors restart from other than the weights they had: Zhou's "mask-1 actions" and kindred questions.

Zhou et al. (2019, arXiv 1905.01067, section 3): what of its initial value does a winning ticket need? Each reset
changes the masked tensors alone; biases, batch norm and all else stay as they are in `Ground.initial`. Random numbers
are drawn from `Ground.seed`, for each tensor by its name. With W one tensor of `Ground.initial`, whole, and m its mask:

    reinit            survivors of a permutation of the whole W (as their code draws from "the layer's distribution")
    reshuffle         the values W[m], permuted among the survivors
    constant          a = the standard deviation of W, times `scale`
    signed_...        its magnitude, with the sign of the weight that stood there
    rand_signed_...   its magnitude, with a fair coin for a sign

Where they say "initial", a ticket that is rewound to step k > 0 has the weights of step k.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.errors import UsageError
from tombola.resets.base import Ground, State, remakes, written
from tombola.streams import stream

__all__ = [
    "RandSignedConstant",
    "SignedConstant",
    "Wiggle",
    "drawn_anew",
    "rand_signed_reinit",
    "rand_signed_reshuffle",
    "redraw_losers",
    "reinit",
    "resample",
    "reshuffle",
    "signed_reinit",
    "signed_reshuffle",
]

_Draw = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""(whole tensor, which survive, stream) -> values of the survivors, in row-major order."""

_Sign = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""(drawn values, the survivors' own, stream) -> the drawn ones with their signs."""


def drawn_anew(whole: Tensor, generator: torch.Generator) -> Tensor:
    """The values of a tensor at other places: a draw from its own distribution, without replacement."""
    order = torch.randperm(whole.numel(), generator=generator)
    return whole.flatten()[order].view_as(whole)


def spread_of(whole: Tensor) -> float:
    """The standard deviation of a tensor, of all its numbers (divided by their count)."""
    return float(whole.double().std(correction=0))


def _permuted_layer(whole: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
    return drawn_anew(whole, generator)[kept]


def _permuted_survivors(whole: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
    return drawn_anew(whole[kept], generator)


def _as_drawn(values: Tensor, own: Tensor, generator: torch.Generator) -> Tensor:
    return values


def _own(values: Tensor, own: Tensor, generator: torch.Generator) -> Tensor:
    return torch.copysign(values, own)


def _coins(values: Tensor, own: Tensor, generator: torch.Generator) -> Tensor:
    coins = torch.randint(2, values.shape, generator=generator).to(values.dtype)
    return values.abs() * (2 * coins - 1)


def _remade(ground: Ground, purpose: str, draw: _Draw, sign: _Sign = _as_drawn) -> State:
    """Survivors drawn and signed, tensor by tensor; a signed reset draws the magnitudes of the unsigned one."""
    values = {}
    for name in ground.mask:
        whole, kept = ground.initial[name], ground.mask[name]
        drawn = draw(whole, kept, stream(ground.seed, f"reset/{purpose}/{name}"))
        made = whole.clone()
        made[kept] = sign(drawn, whole[kept], stream(ground.seed, f"reset/signs/{name}")).to(whole.dtype)
        values[name] = made
    return written(ground.initial, values)


def reinit(ground: Ground) -> State:
    """Survivors take values of the whole layer, permuted: new magnitudes and signs."""
    return _remade(ground, "reinit", _permuted_layer)


def signed_reinit(ground: Ground) -> State:
    """As `reinit`, each with the sign that stood there."""
    return _remade(ground, "reinit", _permuted_layer, _own)


def rand_signed_reinit(ground: Ground) -> State:
    """As `reinit`, with random signs."""
    return _remade(ground, "reinit", _permuted_layer, _coins)


def reshuffle(ground: Ground) -> State:
    """Survivors swap their values within the tensor."""
    return _remade(ground, "reshuffle", _permuted_survivors)


def signed_reshuffle(ground: Ground) -> State:
    """Survivors swap their magnitudes; each place keeps its sign."""
    return _remade(ground, "reshuffle", _permuted_survivors, _own)


def rand_signed_reshuffle(ground: Ground) -> State:
    """Survivors swap their magnitudes, with random signs."""
    return _remade(ground, "reshuffle", _permuted_survivors, _coins)


def resample(ground: Ground) -> State:
    """Each survivor draws one of the survivors' values of its tensor, with replacement.

    Frankle and Carbin (2019, arXiv 1803.03635, appendix F): is it the distribution that a ticket's weights came from?
    """

    def draw(whole: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
        own = whole[kept]
        return own[torch.randint(len(own), own.shape, generator=generator)]

    return _remade(ground, "resample", draw)


def _constant(ground: Ground, scale: float, sign: _Sign) -> State:
    def draw(whole: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
        return torch.full_like(whole[kept], scale * spread_of(whole))

    return _remade(ground, "constant", draw, sign)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedConstant:
    """Survivors become +a or -a, with the sign that stood there; a = scale x the tensor's standard deviation.

    Zhou et al. (2019, arXiv 1905.01067, section 3): about as good as rewinding, so it is the sign that matters.

    >>> from tombola.masks import Mask
    >>> kept, initial = torch.tensor([[True, True, False, True]]), {"w": torch.tensor([[1.0, -1.0, 3.0, -3.0]])}
    >>> ground = Ground(initial=initial, trained={}, mask=Mask({"w": kept}), seed=0)
    >>> [round(value, 3) for value in SignedConstant()(ground)["w"][kept].tolist()]
    [2.236, -2.236, -2.236]
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _above_zero("scale", self.scale)

    def __call__(self, ground: Ground) -> State:
        """The start of the survivors."""
        return _constant(ground, self.scale, _own)


@dataclass(frozen=True, kw_only=True, slots=True)
class RandSignedConstant:
    """Survivors become +a or -a by a fair coin; a as in `SignedConstant`, which it is the control of."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        _above_zero("scale", self.scale)

    def __call__(self, ground: Ground) -> State:
        """The start of the survivors."""
        return _constant(ground, self.scale, _coins)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wiggle:
    """Survivors move a little from where they began: w + c sigma z, z standard normal, sigma the tensor's deviation.

    Frankle and Carbin (2019, arXiv 1803.03635, appendix F): how much room there is around a winning ticket. They know
    the distribution that the layer was drawn from; here sigma is measured on its initial weights.

    Args:
        c: size of the noise in standard deviations of the layer, above 0; they try 0.5, 1, 2, 3.
    """

    c: float = 0.5

    def __post_init__(self) -> None:
        _above_zero("c", self.c)

    def __call__(self, ground: Ground) -> State:
        """The start of the survivors."""

        def draw(whole: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
            own = whole[kept].double()
            return own + self.c * spread_of(whole) * torch.randn(own.shape, generator=generator, dtype=own.dtype)

        return _remade(ground, "wiggle", draw)


@remakes(dense=True)
def redraw_losers(ground: Ground) -> State:
    """Survivors keep their initial values, the others draw new ones from the layer; the network trains whole.

    Are the survivors worth anything as a lucky part of a dense network? Compare with its `reinit` and `shuffled` arms.
    """
    values = {}
    for name in ground.mask:
        whole, kept = ground.initial[name], ground.mask[name]
        other = drawn_anew(whole, stream(ground.seed, f"reset/losers/{name}"))
        values[name] = torch.where(kept, whole, other)
    return written(ground.initial, values)


def _above_zero(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} is {value!r}; expected a finite number above 0.")
