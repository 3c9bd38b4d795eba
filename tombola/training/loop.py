"""The reference loop: plain torch, any module."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from tombola.masks import Mask
from tombola.models.dropout import CounterDropout
from tombola.requests import Fit, Moment, Point
from tombola.streams import derive, key, seeded
from tombola.training.checkpoint import Checkpoint, Tally, restore, take
from tombola.training.enforce import enforce
from tombola.training.evaluation import correct, evaluate
from tombola.training.order import Order
from tombola.training.sets import Sets, loss_of
from tombola.training.settings import Training
from tombola.training.state import State, state_of

CHECKPOINT_SECONDS = 30.0

__all__ = ["CHECKPOINT_SECONDS", "Events", "Measured", "Stopped", "silent", "train"]


class Stopped(Exception):
    """Training was asked to stop; its checkpoint is written."""


class Events(Protocol):
    """What a training tells the outside, and the one thing it asks: whether to stop."""

    def keep(self, step: int, state: State) -> None:
        """A state that is to be kept."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """All that is needed to go on from here."""

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

    def progress(self, step: int) -> None:
        """Nothing."""

    def stopping(self) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a training measured."""

    points: tuple[Point, ...]
    diverged_at: int | None
    train_loss: float | None
    train_metric: float | None
    seconds: float


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Numbers below 1e-38 count as 0: moments of dead weights decay into them, and they are slow."""
    flushed = float(torch.full((), 1e-40) * 1.0) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


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
) -> Measured:
    """Train `model` (already holding the start weights) as `fit` says, in place.

    Evaluates at every multiple of `training.eval_every` from `fit.first` on, and at the last step. Sends the states of
    `fit.keep` and the last one to `events.keep`. Global random state is put back afterwards; each step sets torch's own
    generator from (noise, step), so that a user's `nn.Dropout` can be replayed from any step too.

    Args:
        prunable: names the tensors that `training.l2` acts on.
        resume: a checkpoint of this very fit.
        checkpoint_seconds: least time between two checkpoints.

    Returns:
        The measurements; a loss that is not finite ends it with `diverged_at`, and the last finite state kept.

    Raises:
        Stopped: `events.stopping()` said so; a checkpoint was sent before.
    """
    run = _Run(model, fit, sets, training, prunable, events)
    first = run.resume(resume) if resume else fit.first
    saved = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(_flushed_denormals())
        stack.enter_context(seeded(fit.noise))
        if fit.mask is not None:
            stack.enter_context(enforce(model, run.optimizer, fit.mask, remask=False))
        for step in range(first, fit.last + 1):
            if not (resume and step == first) and not run.observe(step):
                return run.measured(diverged_at=step)
            if step == fit.last:
                break
            stopping = events.stopping()
            if stopping or time.monotonic() - saved > checkpoint_seconds:
                events.checkpoint(run.checkpoint(step))
                saved = time.monotonic()
                if stopping:
                    raise Stopped
            run.step(step)
            events.progress(step + 1)
        return run.measured(diverged_at=None)


class _Run:
    """One training on its way."""

    def __init__(
        self, model: nn.Module, fit: Fit, sets: Sets, training: Training, prunable: Mask, events: Events
    ) -> None:
        self.model, self.fit, self.sets, self.training, self.events = model, fit, sets, training, events
        self.optimizer = training.optimizer.build(model.parameters())
        named = dict(model.named_parameters())
        self.decayed = [named[name] for name in prunable] if training.l2 else []
        self.dtype = next(model.parameters()).dtype
        self.order = Order(sets.train_index, batch=training.batch_size, seed=fit.order)
        self.noise = derive(fit.noise, "step") >> 1  # room for the step
        self.dropouts = [m for m in model.modules() if isinstance(m, CounterDropout)]
        moments = {Moment.INIT: fit.first, Moment.END: fit.last}
        self.keep = {moments.get(s, fit.last) if isinstance(s, Moment) else s for s in fit.keep} | {fit.last}
        self.wants_best = Moment.EARLY_STOP in fit.keep
        self.tally, self.kept = Tally(), dict[str, State]()
        self.loss = torch.zeros((), device=sets.train.x.device)
        self.correct = torch.zeros((), device=sets.train.x.device, dtype=torch.int64)
        self.begun = time.perf_counter()
        model.train()

    def resume(self, checkpoint: Checkpoint) -> int:
        self.tally, self.kept = restore(checkpoint, self.model, self.optimizer)
        self.loss.fill_(self.tally.loss)
        self.correct.fill_(int(self.tally.correct))
        return checkpoint.step

    def checkpoint(self, step: int) -> Checkpoint:
        tally = self.tally
        now = Tally(
            points=tally.points,
            loss=float(self.loss),
            correct=float(self.correct),
            steps=tally.steps,
            best_loss=tally.best_loss,
            seconds=self.seconds,
        )
        return take(step, self.model, self.optimizer, now, self.kept)

    @property
    def seconds(self) -> float:
        return self.tally.seconds + time.perf_counter() - self.begun

    def step(self, step: int) -> None:
        """One optimizer step, from absolute step `step` to `step + 1`."""
        training, fit = self.training, self.fit
        torch.default_generator.manual_seed(self.noise + step)
        if self.loss.is_cuda:
            torch.cuda.manual_seed(self.noise + step)
        for number, layer in enumerate(self.dropouts):
            layer.key = key(fit.noise, f"dropout/{number}", step)
        at = step if fit.held_rate is None else fit.held_rate
        rate = training.optimizer.lr * training.schedule.at(at, training.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        index = self.order.batch(step)
        y = self.sets.train.y.index_select(0, index)
        outputs = self.model(self.sets.inputs(self.sets.train.x.index_select(0, index), self.dtype))
        loss = loss_of(outputs, y, training)
        self.optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            if self.decayed:
                pairs = [(w.grad, w.detach()) for w in self.decayed if w.grad is not None]
                torch._foreach_add_([g for g, _ in pairs], [w for _, w in pairs], alpha=training.l2)
            if training.clip_norm:
                nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm)
            self.loss += loss.detach()
            if self.sets.classes:
                self.correct += correct(outputs, y)
        self.optimizer.step()
        self.tally.steps += 1

    def observe(self, step: int) -> bool:
        """Evaluate and keep what is due at `step`; False where a loss is not finite."""
        if step % self.training.eval_every == 0 or step == self.fit.last:
            point = self._point(step)
            self.tally.points.append(point)
            seen = (point.train_loss, point.validation_loss, point.test_loss)
            if not all(value is None or math.isfinite(value) for value in seen):
                finite = self.kept.get("finite")
                if finite is not None:
                    self.events.keep(max(p.step for p in self.tally.points[:-1]), finite)
                return False
            self.kept["finite"] = state_of(self.model)
            if step > 0 and (point.validation_loss or 0.0) < self.tally.best_loss:
                self.tally.best_loss = point.validation_loss or 0.0
                self.kept.pop("best", None)  # a checkpoint may come from a run with other wishes
                if self.wants_best:
                    self.kept["best"] = state_of(self.model)
        if step in self.keep:
            self.events.keep(step, state_of(self.model))
        return True

    def _point(self, step: int) -> Point:
        tally, sets, training = self.tally, self.sets, self.training
        loss = metric = None
        if tally.steps:
            loss = float(self.loss) / tally.steps
            metric = float(self.correct) / (tally.steps * training.batch_size) if sets.classes else loss
        tally.steps = 0
        self.loss.zero_()
        self.correct.zero_()
        validation = evaluate(self.model, sets.validation, sets, training)
        test = evaluate(self.model, sets.test, sets, training)
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
            index = self.sets.train_index
            loss, metric = evaluate(self.model, self.sets.train, self.sets, self.training, index=index)
            if self.wants_best and "best" in self.kept:
                best = min((p for p in points if p.step > 0), key=lambda p: p.validation_loss or 0.0)
                self.events.keep(best.step, self.kept["best"])
        return Measured(
            points=points, diverged_at=diverged_at, train_loss=loss, train_metric=metric, seconds=self.seconds
        )
