"""What runs in a worker process. Imported before torch is, so that a worker knows at once when its parent has died."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tombola.executors.base import Job
    from tombola.tasks import Task

__all__ = ["work_for"]

_EVERY = 0.1  # least seconds between two progress messages


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def work_for(channel: Connection, settings: dict[str, Any]) -> None:
    """Take jobs from `channel` until it closes or SIGTERM comes; a training then writes its checkpoint first."""
    _work(channel, settings)
    os._exit(0)  # everything is written; to take torch apart would cost a second, and somebody waits


def _work(channel: Connection, settings: dict[str, Any]) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    import torch

    from tombola.executors.work import compute
    from tombola.store import Store
    from tombola.training.loop import Stopped

    torch.set_num_threads(settings["threads"])
    try:
        task: Task = pickle.loads(channel.recv_bytes())
    except EOFError:  # the parent has ended already
        return
    store = Store(settings["root"], report=channel.send)
    while not stop.is_set():
        try:
            if not channel.poll(0.2):  # a signal handler only runs between two calls
                continue
            job: Job = channel.recv()
        except (EOFError, OSError):
            return
        throttle = _Throttle(channel, job.digest)
        try:
            outcome = compute(
                task, store, job, progress=throttle.progress, stopping=stop.is_set, device=settings["device"]
            )
        except Stopped:
            return
        channel.send(outcome)


class _Throttle:
    def __init__(self, channel: Connection, digest: str) -> None:
        self._channel, self._digest, self._last = channel, digest, 0.0

    def progress(self, step: int) -> None:
        now = time.monotonic()
        if now - self._last > _EVERY:
            self._last = now
            self._channel.send((self._digest, step))
