"""Where pruned places stand: at 0, or frozen at a constant (Zhou's "mask-0 actions").

Zhou et al. (2019, arXiv 1905.01067, section 4): is it the zeros that help, or that the weights stand still? A frozen
place takes part in every forward pass and is never trained: w = m theta + (1 - m) c. With w_i the initial and w_f the
trained weight of a place (their names, `train_lottery.py` of their code):

    freeze_init            c = w_i
    freeze_reinit          c = a value of the layer's w_i, permuted
    freeze_init_zero_mask  c = 0 where |w_i| > |w_f| (training moved it towards 0), else w_i
    freeze_init_zero_all   the same, and survivors that moved towards 0 start at 0 too

"_reshuffle" puts as many zeros at random places (the control of the choice), "_rev" zeros what moved away from 0. At
the levels after the first, w_f of a place that was pruned before is the constant it stood at: what was 0 stays 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from tombola.resets.base import Ground, State, remakes, written
from tombola.resets.survivors import drawn_anew
from tombola.streams import stream

__all__ = [
    "FreezeInitZeroAll",
    "FreezeInitZeroAllReshuffle",
    "FreezeInitZeroAllRev",
    "freeze_init",
    "freeze_init_zero_mask",
    "freeze_init_zero_mask_reshuffle",
    "freeze_init_zero_mask_rev",
    "freeze_reinit",
    "zero",
]


class _Which(Enum):
    """Which places become 0."""

    INWARDS = "moved towards 0"
    OUTWARDS = "moved away from 0"
    ANY = "as many as moved towards 0, at random places"


def zero(ground: Ground) -> State:
    """A pruned weight does not exist: it stands at 0."""
    return written(ground.initial, {name: torch.zeros_like(ground.initial[name]) for name in ground.mask})


def freeze_init(ground: Ground) -> State:
    """Pruned places stand at their initial values."""
    return written(ground.initial, {})


def freeze_reinit(ground: Ground) -> State:
    """Pruned places stand at values of their layer, drawn anew."""
    drawn = {n: drawn_anew(ground.initial[n], stream(ground.seed, f"reset/freeze/{n}")) for n in ground.mask}
    return written(ground.initial, drawn)


@remakes(trained=True)
def freeze_init_zero_mask(ground: Ground) -> State:
    """Pruned places that moved towards 0 stand there, the others at their initial values."""
    return _zeroed(ground, _Which.INWARDS)


@remakes(trained=True)
def freeze_init_zero_mask_reshuffle(ground: Ground) -> State:
    """As many pruned places stand at 0 as moved towards it, but random ones."""
    return _zeroed(ground, _Which.ANY)


@remakes(trained=True)
def freeze_init_zero_mask_rev(ground: Ground) -> State:
    """Pruned places that moved away from 0 stand at 0, the others at their initial values."""
    return _zeroed(ground, _Which.OUTWARDS)


@remakes(trained=True)
@dataclass(frozen=True, kw_only=True, slots=True)
class FreezeInitZeroAll:
    """`freeze_init_zero_mask`, and survivors that moved towards 0 start at 0 too: masking is training."""

    def __call__(self, ground: Ground) -> State:
        """Where the pruned places stand."""
        return _zeroed(ground, _Which.INWARDS)

    def survivors(self, ground: Ground, start: State) -> State:
        """Where the survivors start."""
        return _started(ground, start, _Which.INWARDS)


@remakes(trained=True)
@dataclass(frozen=True, kw_only=True, slots=True)
class FreezeInitZeroAllReshuffle:
    """As many zeros as `FreezeInitZeroAll` has among the pruned and among the survivors, at random places of each."""

    def __call__(self, ground: Ground) -> State:
        """Where the pruned places stand."""
        return _zeroed(ground, _Which.ANY)

    def survivors(self, ground: Ground, start: State) -> State:
        """Where the survivors start."""
        return _started(ground, start, _Which.ANY)


@remakes(trained=True)
@dataclass(frozen=True, kw_only=True, slots=True)
class FreezeInitZeroAllRev:
    """Pruned places and survivors that moved away from 0 are put there."""

    def __call__(self, ground: Ground) -> State:
        """Where the pruned places stand."""
        return _zeroed(ground, _Which.OUTWARDS)

    def survivors(self, ground: Ground, start: State) -> State:
        """Where the survivors start."""
        return _started(ground, start, _Which.OUTWARDS)


def _zeroed(ground: Ground, which: _Which) -> State:
    """The initial weights, 0 at the pruned places that `which` says."""
    values = {
        name: ground.initial[name].masked_fill(_places(ground, name, ~ground.mask[name], which, "pruned"), 0)
        for name in ground.mask
    }
    return written(ground.initial, values)


def _started(ground: Ground, start: State, which: _Which) -> State:
    """The start of the survivors, 0 at those that `which` says."""
    values = {
        name: start[name].masked_fill(_places(ground, name, ground.mask[name], which, "kept"), 0)
        for name in ground.mask
    }
    return written(start, values)


def _places(ground: Ground, name: str, among: Tensor, which: _Which, purpose: str) -> Tensor:
    first, last = ground.initial[name].abs(), ground.trained[name].abs()
    if which is _Which.OUTWARDS:
        return among & (first < last)
    inwards = among & (first > last)
    if which is _Which.INWARDS:
        return inwards
    found = torch.zeros_like(among)
    found[among] = drawn_anew(inwards[among], stream(ground.seed, f"reset/zeros/{purpose}/{name}"))
    return found
