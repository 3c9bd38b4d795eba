"""The executor without processes: one job at a time, here."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from tombola.executors.base import Job, OnProgress, Outcome
from tombola.executors.work import compute
from tombola.store import Store
from tombola.tasks import Task
from tombola.training.loop import Stopped

__all__ = ["Inline", "at_work"]


class Inline:
    """Computes each job in this process when it is waited for.

    Args:
        threads: of torch, while a job runs; put back afterwards.
    """

    def __init__(
        self, task: Task, store: Store, *, on_progress: OnProgress, device: str = "cpu", threads: int = 1
    ) -> None:
        self._task, self._store, self._on_progress = task, store, on_progress
        self._device, self._threads = device, threads
        self._job: Job | None = None

    def free(self) -> int:
        """1 while nothing is submitted."""
        return int(self._job is None)

    def submit(self, job: Job) -> None:
        """Take the job that the next `wait` computes."""
        self._job = job

    def wait(self, seconds: float) -> list[Outcome]:
        """Compute the job."""
        job, self._job = self._job, None
        if job is None:
            return []
        with at_work(self._threads) as stopping:
            outcome = compute(
                self._task,
                self._store,
                job,
                progress=lambda step: self._on_progress(job.digest, step),
                stopping=stopping,
                device=self._device,
            )
        return [outcome]

    def close(self) -> None:
        """Nothing is running between two calls."""


@contextmanager
def at_work(threads: int) -> Iterator[Callable[[], bool]]:
    """Inside, torch has so many threads, and Ctrl-C asks (what this yields) before it interrupts."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _interruptible() as stopping:
            yield stopping
    finally:
        torch.set_num_threads(before)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks the training to write its checkpoint, then interrupts; a second one interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    except Stopped as stopped:
        raise KeyboardInterrupt from stopped
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt
