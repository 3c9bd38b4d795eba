"""The executor that trains several fits as one, where they stack."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from tombola.errors import hint
from tombola.executors.base import Busy, Done, Job, OnProgress, Outcome
from tombola.executors.fitting import Ready, closed, fitted, opened
from tombola.executors.inline import at_work
from tombola.executors.work import compute, judged
from tombola.requests import Fit
from tombola.store import Store
from tombola.tasks import Stacking
from tombola.training.loop import Stopped
from tombola.training.scale import StackWidth
from tombola.training.stacking import stack_key

__all__ = ["Stacked"]

_EVERY = 0.1  # least seconds between two messages of progress
_AHEAD = 16  # jobs for each lane that are taken at a time, so that there is a choice of what stacks


class Stacked:
    """Computes jobs in this process: what is no fit at once, and fits that make the same steps as one stack.

    What searches wait for goes first; the lanes that are left are filled with controls. A stack that does not fit in
    memory is halved, and says so.

    Args:
        width: most fits at a time; auto: what the task says that the device holds, found when first needed.
        threads: of torch, while jobs run; put back afterwards.
    """

    def __init__(
        self,
        task: Stacking,
        store: Store,
        *,
        width: StackWidth,
        on_progress: OnProgress,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        self._task, self._store, self._on_progress = task, store, on_progress
        self._device, self._threads = device, threads
        self._asked: StackWidth = width
        self._width = 0
        self._most: int | None = None  # lanes, once there was no memory for more
        self._jobs: list[Job] = []

    @property
    def width(self) -> int:
        """How many fits at a time at most, as things stand."""
        if not self._width:
            self._width = self._task.lanes() if self._asked == "auto" else self._asked
        return self._width

    def free(self) -> int:
        """How many more jobs it takes, for there to be a choice."""
        return max(0, _AHEAD * (self._width or 1) - len(self._jobs))

    def submit(self, job: Job) -> None:
        """Take a job for one of the next calls of `wait`."""
        self._jobs.append(job)

    def wait(self, seconds: float) -> list[Outcome]:
        """Compute one job that does not stack, or one stack."""
        if not self._jobs:
            return []
        with at_work(self._threads) as stopping:
            chosen = self._chosen()
            outcomes = self._together(chosen, stopping) if self._key(chosen[0]) else self._alone(chosen[0], stopping)
        ended = {outcome.digest for outcome in outcomes}
        self._jobs = [job for job in self._jobs if job.digest not in ended]
        return outcomes

    def _chosen(self) -> list[Job]:
        """The first job that cannot be stacked, for others wait for it; else those that stack with the first fit."""
        keyed = sorted(self._jobs, key=lambda job: job.aside)  # stable: within each kind, in the order they came
        for job in keyed:
            if not isinstance(job.request, Fit):
                return [job]
        first = self._key(keyed[0])
        return [job for job in keyed if self._key(job) == first][: self.width] if first else keyed[:1]

    def _key(self, job: Job) -> Any:
        """Jobs with equal keys stack; None: it is computed by itself, as what another engine has begun."""
        if not isinstance(job.request, Fit) or job.engine is not None or self._task.why_not_stacked() is not None:
            return None
        return stack_key(job.request)

    def _alone(self, job: Job, stopping: Callable[[], bool]) -> list[Outcome]:
        return [
            compute(
                self._task,
                self._store,
                job,
                progress=lambda step: self._on_progress(job.digest, step),
                stopping=stopping,
                device=self._device,
            )
        ]

    def _together(self, jobs: Sequence[Job], stopping: Callable[[], bool]) -> list[Outcome]:
        """Compute jobs that stack, under the locks of all of them; those that memory has no room for are left."""
        outcomes: list[Outcome] = []
        ready: list[Ready] = []
        with ExitStack() as locks:
            for job in jobs:
                if not locks.enter_context(self._store.lock(job.digest)):
                    outcomes.append(Busy(digest=job.digest))
                    continue
                try:
                    found = self._opened(job, stopping)
                except Stopped:
                    raise
                except Exception as error:  # whatever a user's module raises: the others go on
                    outcomes.append(judged(job, error))
                    continue
                if isinstance(found, Done):
                    outcomes.append(found)
                else:
                    ready.append(found)
            for group in self._groups(ready):
                outcomes += self._trained(group)
        return outcomes

    def _opened(self, job: Job, stopping: Callable[[], bool]) -> Ready | Done:
        assert isinstance(job.request, Fit)
        told = _Told(self._on_progress, job.digest)
        return opened(self._task, self._store, job, job.request, told, stopping)

    def _trained(self, group: Sequence[Ready]) -> list[Outcome]:
        """Train what goes on from the same step, as one where it is more than one."""
        lanes = self._lanes(group[0])
        try:
            if len(group) == 1 and not lanes:
                return [fitted(self._task, self._store, group[0], self._device)]
            found = self._task.fit_many(
                [ready.fit for ready in group],
                [ready.start for ready in group],
                events=[ready.events for ready in group],
                resume=[ready.resume for ready in group],
                width=max(lanes, len(group)),
            )
            return [
                closed(self._task, self._store, ready, measured, self._device)
                for ready, measured in zip(group, found, strict=True)
            ]
        except Stopped:
            raise
        except torch.OutOfMemoryError as error:
            if len(group) == 1 and lanes <= 1:
                return [judged(group[0].job, error)]
        except Exception as error:  # whatever a user's module raises
            return [judged(ready.job, error) for ready in group]
        self._halve(max(lanes, len(group)))  # outside of `except`: the error's frames hold the stack that was too large
        return []

    def _halve(self, width: int) -> None:
        """The jobs stay; the next stack of them is half as wide."""
        self._width = self._most = (width + 1) // 2
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        hint(f"{width} fits at once do not fit in the device's memory; going on with {self._width} at a time.")

    def _lanes(self, ready: Ready) -> int:
        """The width of the stack that has made its checkpoint; 0: none has, or memory has no room for it."""
        lanes = 0 if ready.resume is None else int(ready.resume.made_by.get("stack", "0"))
        return lanes if self._most is None or lanes <= self._most else 0

    def _groups(self, ready: Sequence[Ready]) -> list[list[Ready]]:
        """Fits that begin at the same step, in a stack of the same width; what a single fit has begun goes on so."""
        groups: dict[Any, list[Ready]] = {}
        for one in ready:
            lanes, begun = self._lanes(one), one.resume
            single = one.job.digest if begun is not None and "stack" not in begun.made_by else None
            groups.setdefault((begun.step if begun is not None and lanes else None, lanes, single), []).append(one)
        return list(groups.values())

    def close(self) -> None:
        """Nothing is running between two calls."""


class _Told:
    """Passes a fit's progress on now and then: many lanes would tell of every step more than the steps take."""

    def __init__(self, on_progress: OnProgress, digest: str) -> None:
        self._on_progress, self._digest, self._last = on_progress, digest, 0.0

    def __call__(self, step: int) -> None:
        now = time.monotonic()
        if now - self._last > _EVERY:
            self._last = now
            self._on_progress(self._digest, step)
