"""Worker processes: spawned, ending with their parent; one that is killed fails one request, not the pool."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from tombola.errors import UsageError
from tombola.executors.base import Failed, Job, OnProgress, Outcome
from tombola.executors.worker import work_for
from tombola.store import Store
from tombola.tasks import Task

__all__ = ["Pool"]

_PATIENCE = 10.0  # seconds for a stopping worker to write its checkpoint


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    channel: Connection
    job: Job | None = None


class Pool:
    """Up to `workers` processes, each started when there is first a job for it.

    Until `close`, torch has one thread in this process: the cores are the workers'.

    Args:
        workers: how many processes at most.
        threads: of torch, in each.
    """

    def __init__(
        self, task: Task, store: Store, *, workers: int, on_progress: OnProgress, device: str = "cpu", threads: int = 1
    ) -> None:
        try:
            self._task = pickle.dumps(task)  # sent from memory to memory, once to each worker; never a file
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(
                f"The network or data cannot be sent to worker processes ({error}); define them at the top level of a "
                f"module, or use one worker."
            ) from error
        self._store, self._on_progress = store, on_progress
        self._settings = {"root": str(store.root), "device": device, "threads": threads}
        self._limit = workers
        self._workers: list[_Worker] = []
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)

    def free(self) -> int:
        """How many workers are idle or not yet started."""
        return self._limit - sum(worker.job is not None for worker in self._workers)

    def submit(self, job: Job) -> None:
        """Give the job to an idle worker, or start one for it."""
        worker = next((w for w in self._workers if w.job is None and w.process.is_alive()), None) or self._start()
        worker.job = job
        with contextlib.suppress(OSError):  # a dead worker is found by `wait`
            worker.channel.send(job)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work_for, args=(theirs, self._settings), daemon=True, name="tombola-worker")
        with _without_interrupts():
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        with contextlib.suppress(OSError):
            ours.send_bytes(self._task)
        return worker

    def wait(self, seconds: float) -> list[Outcome]:
        """Outcomes of ended jobs; progress messages are passed on the way."""
        outcomes: list[Outcome] = []
        deadline = time.monotonic() + seconds
        while not outcomes and (left := deadline - time.monotonic()) > 0:
            ready = wait([w.channel for w in self._workers], timeout=left)
            for worker in [w for w in self._workers if w.channel in ready]:
                outcomes += self._receive(worker)
        return outcomes

    def _receive(self, worker: _Worker) -> list[Outcome]:
        try:
            message: Any = worker.channel.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        if isinstance(message, str):
            self._store.report(message)
            return []
        if isinstance(message, tuple):
            self._on_progress(*message)
            return []
        worker.job = None
        return [message]

    def _bury(self, worker: _Worker) -> list[Outcome]:
        worker.process.join()
        worker.channel.close()
        self._workers.remove(worker)
        if worker.job is None:
            return []
        code = worker.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return [
            Failed(digest=worker.job.digest, cause=f"its worker process {how}; run the same command again to go on")
        ]

    def close(self) -> None:
        """Ask every worker to write its checkpoint and end; kill those that do not."""
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError, OSError):
                worker.process.terminate()
        deadline = time.monotonic() + _PATIENCE
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.channel.close()
        self._workers.clear()
        torch.set_num_threads(self._before)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process started in here ignores Ctrl-C from its first instruction on: the parent decides what it means."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
