"""The training loop around an engine: evaluations, kept states, checkpoints, measurements."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from torch import nn

from tombola.answers import Point
from tombola.masks import Mask
from tombola.requests import Fit
from tombola.starts import Moment
from tombola.training.checkpoint import Checkpoint, Tally, restore, take
from tombola.training.engine import Engine, MakeEngine
from tombola.training.reference import Reference
from tombola.training.sets import Sets
from tombola.training.settings import Training
from tombola.training.state import State

CHECKPOINT_SECONDS = 30.0

__all__ = ["CHECKPOINT_SECONDS", "Course", "Events", "Measured", "Stopped", "silent", "train"]


class Stopped(Exception):
    """Training was asked to stop; its checkpoint is written."""


class Events(Protocol):
    """What a training tells the outside, and the one thing it asks: whether to stop."""

    def keep(self, step: int, state: State) -> None:
        """A state that is to be kept."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """All that is needed to go on from here."""

    def anew(self) -> None:
        """The checkpoint is another engine's: nothing that was kept before counts."""

    def progress(self, step: int) -> None:
        """So many steps are done."""

    def stopping(self) -> bool:
        """Whether to write a checkpoint and raise `Stopped` now."""


class silent:  # noqa: N801 - used like a function: train(..., events=silent())
    """Events that go nowhere but to the `states` it holds."""

    def __init__(self) -> None:
        self.states: dict[int, State] = {}

    def keep(self, step: int, state: State) -> None:
        """Hold the state."""
        self.states[step] = state

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Nothing."""

    def anew(self) -> None:
        """Nothing."""

    def progress(self, step: int) -> None:
        """Nothing."""

    def stopping(self) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a training measured, which engine computed it (`provenance`), the statistics it was to gather, and the
    mask it ended with where that moved."""

    points: tuple[Point, ...]
    diverged_at: int | None
    train_loss: float | None
    train_metric: float | None
    seconds: float
    provenance: Mapping[str, str]
    gathered: Mapping[str, State] = field(default_factory=dict)
    mask: Mask | None = None


def train(
    model: nn.Module,
    fit: Fit,
    *,
    sets: Sets,
    training: Training,
    prunable: Mask,
    events: Events,
    resume: Checkpoint | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    engine: MakeEngine = Reference,
) -> Measured:
    """Train `model` (already holding the start weights) as `fit` says, in place.

    Evaluates at every multiple of `training.eval_every` from `fit.first` on, and at the last step. Sends the states of
    `fit.keep` and the last one to `events.keep`. Global random state is put back afterwards.

    Args:
        prunable: names the tensors that `training.l2` acts on.
        resume: a checkpoint of this very fit; one of another engine is left aside, and the training begins anew.
        checkpoint_seconds: least time between two checkpoints.
        engine: what computes the steps.

    Returns:
        The measurements; a loss that is not finite ends it with `diverged_at`, and the last finite state kept.

    Raises:
        Stopped: `events.stopping()` said so; a checkpoint was sent before.
    """
    begun = time.perf_counter()
    run = Course(engine(model, fit, sets, training, prunable), fit, sets, training, events, begun)
    if resume is not None and not resume.fits(run.engine):
        resume = None
        events.anew()
    step = run.resume(resume) if resume else fit.first
    saved = time.monotonic()
    with run.engine.running():
        if not resume and not run.observe(step):
            return run.measured(diverged_at=step)
        while step < fit.last:
            due = run.due(step)
            while step < due:
                stopping = events.stopping()
                if stopping or time.monotonic() - saved > checkpoint_seconds:
                    events.checkpoint(run.checkpoint(step))
                    saved = time.monotonic()
                    if stopping:
                        raise Stopped
                then = min(step + run.engine.stride, due)
                run.engine.advance(step, then)
                run.tally.steps += then - step
                step = then
                events.progress(step)
            if not run.observe(step):
                return run.measured(diverged_at=step)
        return run.measured(diverged_at=None)


class Course:
    """One training on its way: everything that is the same for all engines."""

    def __init__(self, engine: Engine, fit: Fit, sets: Sets, training: Training, events: Events, begun: float) -> None:
        self.engine, self.fit, self.sets, self.training, self.events = engine, fit, sets, training, events
        moments = {Moment.INIT: fit.first, Moment.END: fit.last}
        self.keep = {moments.get(s, fit.last) if isinstance(s, Moment) else s for s in fit.keep} | {fit.last}
        self.wants_best = Moment.EARLY_STOP in fit.keep
        self.judged_from = max(1, fit.settled)
        self.tally, self.kept = Tally(), dict[str, Callable[[], State]]()
        self.begun = begun

    def resume(self, checkpoint: Checkpoint) -> int:
        self.tally, kept = restore(checkpoint, self.engine)
        self.kept = {name: partial(dict, state) for name, state in kept.items()}
        return checkpoint.step

    def checkpoint(self, step: int) -> Checkpoint:
        loss, correct = self.engine.sums()
        now = replace(self.tally, loss=loss, correct=correct, seconds=self.seconds)
        return take(step, self.engine, now, {name: made() for name, made in self.kept.items()})

    @property
    def seconds(self) -> float:
        return self.tally.seconds + time.perf_counter() - self.begun

    def due(self, step: int) -> int:
        """The first step after `step` at which there is something to observe."""
        every = self.training.eval_every
        return min(self.fit.last, (step // every + 1) * every, *(kept for kept in self.keep if kept > step))

    def observe(self, step: int) -> bool:
        """Evaluate and keep what is due at `step`; False where a loss is not finite."""
        if step % self.training.eval_every == 0 or step == self.fit.last:
            point = self._point(step)
            self.tally.points.append(point)
            seen = (point.train_loss, point.validation_loss, point.test_loss)
            if not all(value is None or math.isfinite(value) for value in seen):
                finite = self.kept.get("finite")
                if finite is not None:
                    self.events.keep(max(p.step for p in self.tally.points[:-1]), finite())
                return False
            self.kept["finite"] = self.engine.snapshot()
            if step >= self.judged_from and (point.validation_loss or 0.0) < self.tally.best_loss:
                self.tally.best_loss = point.validation_loss or 0.0
                self.kept.pop("best", None)  # a checkpoint may come from a run with other wishes
                if self.wants_best:
                    self.kept["best"] = self.engine.snapshot()
        if step in self.keep:
            self.events.keep(step, self.engine.state())
        return True

    def _point(self, step: int) -> Point:
        tally, sets, training = self.tally, self.sets, self.training
        loss = metric = None
        if tally.steps:
            losses, correct = self.engine.sums()
            loss = losses / tally.steps
            metric = correct / (tally.steps * training.batch_size) if sets.classes else loss
        tally.steps = 0
        self.engine.clear()
        validation = self.engine.evaluate(sets.validation)
        test = self.engine.evaluate(sets.test)
        return Point(
            step=step,
            train_loss=loss,
            train_metric=metric,
            validation_loss=validation[0],
            validation_metric=validation[1],
            test_loss=test[0],
            test_metric=test[1],
        )

    def measured(self, diverged_at: int | None) -> Measured:
        """The measurements, with the whole training set at the end of a finite run."""
        points, loss, metric = tuple(self.tally.points), None, None
        if diverged_at is None:
            loss, metric = self.engine.evaluate(self.sets.train, self.sets.train_index)
            if self.wants_best and "best" in self.kept:
                best = min((p for p in points if p.step >= self.judged_from), key=lambda p: p.validation_loss or 0.0)
                self.events.keep(best.step, self.kept["best"]())
        return Measured(
            points=points,
            diverged_at=diverged_at,
            train_loss=loss,
            train_metric=metric,
            seconds=self.seconds,
            provenance=self.engine.provenance,
            gathered=self.engine.gathered() if diverged_at is None else {},
            mask=self.engine.moved(),
        )
