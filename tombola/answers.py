"""What requests are answered with. Plain data: nothing here trains, reads a disk or imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tombola.errors import UsageError
from tombola.starts import At, Moment

if TYPE_CHECKING:
    from tombola.masks import Mask

__all__ = ["Answer", "Curve", "Interpolated", "Mixed", "Point", "Pruned", "Trained"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One row of a curve. Losses and metrics are means over the set; `train` is the running mean of the batches since
    the row before; None: not measured."""

    step: int
    train_loss: float | None = None
    train_metric: float | None = None
    validation_loss: float | None = None
    validation_metric: float | None = None
    test_loss: float | None = None
    test_metric: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """What was measured along a training, in order of steps.

    Args:
        settled: step before which no point is judged, for the mask still moved.
    """

    points: tuple[Point, ...] = ()
    settled: int = 0

    @property
    def early_stop(self) -> Point | None:
        """The evaluated point of smallest validation loss, the first one on ties; never step 0 or before `settled`."""
        usable = [
            p
            for p in self.points
            if p.step >= max(1, self.settled) and p.validation_loss is not None and math.isfinite(p.validation_loss)
        ]
        return min(usable, key=lambda p: p.validation_loss or 0.0, default=None)

    @property
    def end(self) -> Point | None:
        """The last point."""
        return self.points[-1] if self.points else None

    @property
    def judged(self) -> Point | None:
        """Where it is judged: the early-stop point, or the only one of an evaluation, which has trained nothing."""
        return self.early_stop or (self.end if len(self.points) == 1 else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """The answer to a `Fit`: where the kept states are, and what was measured on the way.

    Args:
        request: digest of the fit (with its task).
        states: step -> digest of the stored state.
        diverged_at: the step at which a loss was seen not to be finite; None: it never was.
        train_metric: over the whole training set, at the end.
        metric: what the metrics measure ("accuracy").
        seconds: of computing, all sessions together.
        provenance: engine, versions, hardware: what made it, no part of what it is.
        gathered: statistic -> digest of the stored sums.
        effective: weights of the mask that lie on a path from an input to an output; None: not known.
        mask: the one that the training ends with, where it moved; kept, effective and mask_digest are of it.
    """

    request: str
    first: int
    last: int
    curve: Curve
    states: Mapping[int, str] = field(default_factory=dict)
    mask_digest: str | None = None
    kept: Mapping[str, int] = field(default_factory=dict)
    prunable: int = 0
    diverged_at: int | None = None
    train_loss: float | None = None
    train_metric: float | None = None
    metric: str = "accuracy"
    seconds: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    gathered: Mapping[str, str] = field(default_factory=dict)
    effective: int | None = None
    mask: Mask | None = None

    def at(self, moment: int | Moment) -> At:
        """A reference to this fit's state at a step or moment (`INIT` is its first step).

        Raises:
            UsageError: the step lies outside the fit.
        """
        if isinstance(moment, Moment):
            stop = self.curve.early_stop
            named = {Moment.INIT: self.first, Moment.END: self.last}
            moment = named.get(moment, stop.step if stop else self.last)
        if not self.first <= moment <= self.last:
            raise UsageError(f"Step {moment} lies outside the training from step {self.first} to {self.last}.")
        return At(fit=self.request, step=moment)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """The answer to a `Prune`: the mask.

    Args:
        state: digest of the stored weights that the criterion adjusted; None where it adjusts none.
    """

    request: str
    mask: Mask
    seconds: float = 0.0
    state: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixed:
    """The network at (1 - alpha) * one + alpha * other. Errors are shares of wrong predictions; losses are means, None
    where not finite."""

    alpha: float
    train_loss: float | None
    train_error: float
    test_loss: float | None
    test_error: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpolated:
    """The answer to an `Interpolate`.

    Args:
        own: along the line, with the networks' own batch-norm statistics interpolated like weights.
        recomputed: the same with those statistics computed anew at each point; empty for a network without any.
        distance: |one - other| over the weights that were asked for.
        angle: between them as vectors, in degrees; None where one of them is 0.
        ways: |one - origin| and |other - origin|; empty without an origin.
        weights: how many were compared.
    """

    request: str
    own: tuple[Mixed, ...]
    recomputed: tuple[Mixed, ...]
    distance: float
    angle: float | None
    ways: tuple[float, ...]
    weights: int
    seconds: float = 0.0


Answer = Trained | Pruned | Interpolated
