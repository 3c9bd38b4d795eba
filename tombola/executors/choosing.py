"""Which executor answers a run."""

from __future__ import annotations

from tombola.executors.base import Executor, OnProgress
from tombola.executors.inline import Inline
from tombola.executors.pool import Pool
from tombola.executors.stacked import Stacked
from tombola.store import Store
from tombola.tasks import Stacking, Task
from tombola.training.device import resolve_device
from tombola.training.scale import StackWidth

__all__ = ["executor_for", "stacks"]


def stacks(task: Stacking, stack: StackWidth, device: str) -> bool:
    """Whether fits are to train as one: several were asked for, or a GPU is there; and the network allows it."""
    wanted = resolve_device(device).type == "cuda" if stack == "auto" else stack > 1
    return wanted and task.why_not_stacked() is None


def executor_for(
    task: Task,
    store: Store,
    *,
    workers: int = 1,
    stack: StackWidth = "auto",
    on_progress: OnProgress,
    device: str = "cpu",
    threads: int = 1,
) -> Executor:
    """A pool of processes for several workers; else this process, with stacked fits where there are to be some."""
    if workers > 1:
        return Pool(task, store, workers=workers, on_progress=on_progress, device=device, threads=threads)
    if isinstance(task, Stacking) and stacks(task, stack, device):
        return Stacked(task, store, width=stack, on_progress=on_progress, device=device, threads=threads)
    return Inline(task, store, on_progress=on_progress, device=device, threads=threads)
