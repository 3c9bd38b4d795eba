"""The training loop around a stack: that of `tombola.training.loop`, for many fits at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from tombola.masks import Mask
from tombola.requests import Fit
from tombola.training.checkpoint import Checkpoint
from tombola.training.loop import CHECKPOINT_SECONDS, Course, Events, Measured, Stopped
from tombola.training.sets import Sets
from tombola.training.settings import Training
from tombola.training.stacked import Stack
from tombola.training.state import State

__all__ = ["train_many"]


def train_many(
    model: nn.Module,
    fits: Sequence[Fit],
    starts: Sequence[State],
    *,
    sets: Sets,
    training: Training,
    prunable: Mask,
    events: Sequence[Events],
    resume: Sequence[Checkpoint | None] = (),
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    width: int | None = None,
    capture: bool = False,
) -> list[Measured]:
    """Train fits of one network as lanes of one stack; what each measures, keeps and checkpoints is its own.

    A fit that diverges ends, and the others go on. The seconds of the stack are shared out evenly.

    Args:
        model: the network, on the device; its weights are of no account.
        fits: of the same steps and held learning rate, none of which `tombola.training.stacking.stack_key` refuses.
        starts, events: one of each for every fit.
        resume: checkpoints of these very fits. All are gone on from, or none: they must be of one step and width.
        width: lanes, at least as many as fits; a resumed stack needs the one it had.
        capture: record the step.

    Returns:
        The measurements, in the order of the fits.

    Raises:
        Stopped: one of the events said so; the checkpoints of all that have not ended were sent before.
        torch.OutOfMemoryError: the device does not hold so many lanes.
    """
    begun = time.perf_counter()
    stack = Stack(model, fits, starts, sets, training, prunable, width=width, capture=capture)
    courses = [
        Course(lane, fit, sets, training, told, begun)
        for lane, fit, told in zip(stack.lanes, fits, events, strict=True)
    ]
    saved = [checkpoint for checkpoint in resume if checkpoint is not None]
    going_on = len(saved) == len(fits) and len({checkpoint.step for checkpoint in saved}) == 1
    going_on = going_on and all(c.fits(lane) for c, lane in zip(saved, stack.lanes, strict=True))
    step = fits[0].first
    if going_on:
        step = max(course.resume(checkpoint) for course, checkpoint in zip(courses, saved, strict=True))
    elif saved:
        for told in events:
            told.anew()
    ended: dict[int, Measured] = {}
    running = dict(enumerate(courses))

    def observe(step: int) -> None:
        for number, course in list(running.items()):
            if not course.observe(step):
                ended[number] = running.pop(number).measured(diverged_at=step)

    looked = time.monotonic()
    with stack.running():
        if not going_on:
            observe(step)
        while running and step < fits[0].last:
            due = min(course.due(step) for course in running.values())
            while step < due:
                stopping = any(course.events.stopping() for course in running.values())
                if stopping or time.monotonic() - looked > checkpoint_seconds:
                    for course in running.values():
                        course.events.checkpoint(course.checkpoint(step))
                    looked = time.monotonic()
                    if stopping:
                        raise Stopped
                stack.advance(step, step + 1)
                step += 1
                for course in running.values():
                    course.tally.steps += 1
                    course.events.progress(step)
            observe(step)
        ended |= {number: course.measured(diverged_at=None) for number, course in running.items()}
    return [replace(ended[number], seconds=ended[number].seconds / len(fits)) for number in range(len(fits))]
