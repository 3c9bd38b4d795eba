"""The hill-climb as a training: steps, kept states, checkpoints, measurements."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace

import torch

from tombola.answers import Point
from tombola.compiled import compiled
from tombola.motifs import kernel
from tombola.motifs.genes import EDGES, MORPHOGEN
from tombola.motifs.hillclimb import Climb, Population, advanced, founded
from tombola.motifs.judge import Judge
from tombola.requests import Fit
from tombola.starts import Moment
from tombola.streams import derive
from tombola.training.checkpoint import Checkpoint
from tombola.training.engine import MAKERS
from tombola.training.loop import Events, Measured, Stopped
from tombola.training.state import State

__all__ = ["ENGINE", "Course"]

ENGINE = "hill-climb"


class Course:
    """One climb on its way.

    Args:
        fit, start, events: as `Task.fit` gets them.
        judge: what networks are worth.
        climb: its constants; in step k the width is that of round k, or of `fit.held_rate`.
        checkpoint_seconds: between two checkpoints.
    """

    def __init__(
        self, fit: Fit, start: State, *, judge: Judge, climb: Climb, events: Events, checkpoint_seconds: float
    ) -> None:
        self.fit, self.start, self.events = fit, start, events
        self.judge, self.climb, self.checkpoint_seconds = judge, climb, checkpoint_seconds
        self.seed = derive(fit.order, "climb", fit.noise)
        self.mask = torch.ones_like(start[EDGES], dtype=torch.bool) if fit.mask is None else fit.mask[EDGES]
        moments = {Moment.INIT: fit.first, Moment.END: fit.last}
        self.keep = {moments.get(s, fit.last) if isinstance(s, Moment) else s for s in fit.keep} | {fit.last}
        self.begun, self.before = time.perf_counter(), 0.0
        self.points, self.best = list[Point](), State()
        library = compiled()
        usable = library is not None and kernel.usable(library)
        self.provenance = {"engine": ENGINE, "variant": library.name if library is not None and usable else "torch"}

    def run(self, resume: Checkpoint | None) -> Measured:
        """Climb to the last step.

        Raises:
            Stopped: `events.stopping()` said so; a checkpoint was sent before.
        """
        step, last, saved = self.fit.first, self.fit.last, time.monotonic()
        if resume is not None and any(resume.made_by.get(name) != self.provenance.get(name) for name in MAKERS):
            self.events.anew()
            resume = None
        if resume is not None:
            step, population = resume.step, self.restored(resume)
        else:
            weights = torch.where(self.mask, self.start[EDGES], 0.0)
            population = founded(weights, self.start[MORPHOGEN], self.judge)
            self.observe(step, population)
        while step < last:
            stopping = self.events.stopping()
            if stopping or time.monotonic() - saved > self.checkpoint_seconds:
                self.events.checkpoint(self.checkpoint(step, population))
                saved = time.monotonic()
                if stopping:
                    raise Stopped
            number = step if self.fit.held_rate is None else self.fit.held_rate
            climb = replace(self.climb, sigma=self.climb.width(number), cooling=1.0)
            population = advanced(population, self.mask, step, seed=self.seed, climb=climb, judge=self.judge)
            step += 1
            self.events.progress(step)
            self.observe(step, population)
        if Moment.EARLY_STOP in self.fit.keep and self.best:
            self.events.keep(self.stopped, self.best)
        end = self.points[-1]
        return Measured(
            points=tuple(self.points),
            diverged_at=None,
            train_loss=end.validation_loss,
            train_metric=end.validation_metric,
            seconds=self.seconds,
            provenance=self.provenance,
        )

    @property
    def seconds(self) -> float:
        """Of computing, all sessions together."""
        return self.before + time.perf_counter() - self.begun

    @property
    def stopped(self) -> int:
        """The step of smallest loss, the first on ties, never 0."""
        return min((p for p in self.points if p.step), key=lambda p: p.validation_loss or 0.0).step

    def observe(self, step: int, population: Population) -> None:
        """Measure the fittest network, and keep it where it is wanted."""
        loss, gained = -float(population.fitness[0]), float(population.reward[0])
        self.points.append(
            Point(
                step=step,
                train_loss=loss,
                train_metric=gained,
                validation_loss=loss,
                validation_metric=gained,
                test_loss=loss,
                test_metric=gained,
            )
        )
        state = {EDGES: population.weights[0].clone(), MORPHOGEN: population.morphogen[0].clone()}
        if step and self.stopped == step:
            self.best = state
        if step in self.keep:
            self.events.keep(step, state)

    def checkpoint(self, step: int, population: Population) -> Checkpoint:
        """All that is needed to go on from here."""
        tensors = {f"population/{name}": getattr(population, name) for name in Population.__slots__}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        points = [asdict(point) for point in self.points]
        notes = {"step": step, "points": points, "seconds": self.seconds, "engine": self.provenance}
        return Checkpoint(step=step, tensors=tensors, notes=json.dumps(notes))

    def restored(self, checkpoint: Checkpoint) -> Population:
        """Put a checkpoint back."""
        notes, tensors = json.loads(checkpoint.notes), checkpoint.tensors
        self.points, self.before = [Point(**row) for row in notes["points"]], notes["seconds"]
        self.best = {name: tensors[f"best/{name}"] for name in (EDGES, MORPHOGEN) if f"best/{name}" in tensors}
        return Population(**{name: tensors[f"population/{name}"] for name in Population.__slots__})
