"""One request, computed under its lock: look again, go on from a checkpoint, compute, write."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from tombola.answers import Pruned, Trained
from tombola.criteria import Probe
from tombola.errors import StoreError, TombolaError
from tombola.executors.base import Busy, Done, Failed, Job, Missing, Outcome
from tombola.executors.fitting import fitted, opened, packed_under, provenance, unmet
from tombola.executors.starting import NeedsState, start_of, state_digest
from tombola.requests import Interpolate, Prune
from tombola.starts import At
from tombola.store import Damaged, Store
from tombola.tasks import Task
from tombola.training.device import resolve_device
from tombola.training.loop import Stopped
from tombola.training.state import State, load_state, state_of

__all__ = ["compute", "judged", "packed_under", "provenance", "state_digest", "unmet"]


def compute(
    task: Task, store: Store, job: Job, *, progress: Callable[[int], None], stopping: Callable[[], bool], device: str
) -> Outcome:
    """Compute a job unless its answer is there, or somebody else is at it.

    Raises:
        Stopped: `stopping()` said so; the checkpoint is written.
    """
    try:
        with store.lock(job.digest) as got:
            if not got:
                return Busy(digest=job.digest)
            if isinstance(job.request, Prune):
                return _prune(task, store, job, job.request, device)
            if isinstance(job.request, Interpolate):
                return _interpolate(task, store, job, job.request, stopping)
            return fitted(task, store, opened(task, store, job, job.request, progress, stopping), device)
    except Stopped:
        raise
    except Exception as error:  # whatever a user's module raises: the others go on
        return judged(job, error)


def judged(job: Job, error: Exception) -> Outcome:
    """What an error means for the request that it ended."""
    if isinstance(error, NeedsState):
        return Missing(digest=job.digest, needs=error.start)
    if isinstance(error, TombolaError):
        return Failed(digest=job.digest, cause=str(error), fatal=isinstance(error, StoreError))
    if isinstance(error, torch.OutOfMemoryError):
        cause = "the device's memory does not hold it; use a smaller --batch-size, more --parts, or another --device"
        return Failed(digest=job.digest, cause=cause)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return Failed(digest=job.digest, cause=f"{type(error).__name__}: {error} ({place})".replace("\n", " "))


def _prune(task: Task, store: Store, job: Job, request: Prune, device: str) -> Done:
    stored = store.get(job.digest)
    if isinstance(stored, Pruned) and (stored.state is None or store.has(stored.state)):
        return Done(digest=job.digest, answer=stored)
    model, begun = task.build(0), time.perf_counter()
    load_state(model, start_of(task, store, request.start))
    model.to(resolve_device(device))  # where the probe's examples are
    cut = request.pruner.cut(model, request.mask, request.keep, _probe(task, store, request, device))
    state = None
    if cut.adjusted:
        with torch.no_grad():
            for name, value in cut.adjusted.items():
                model.get_parameter(name).copy_(value)  # a tied one under all its names
        state = store.keep(state_of(model), cut.mask)
    if isinstance(stored, Pruned) and (cut.mask, state) != (stored.mask, stored.state):
        raise TombolaError(
            f"Pruning {job.digest[:12]} again does not give its stored mask and weights bit for bit. Use the machine "
            f"and version that made them, or another --store."
        )
    answer = Pruned(request=job.digest, mask=cut.mask, seconds=time.perf_counter() - begun, state=state)
    store.put(job.digest, request, answer)
    return Done(digest=job.digest, answer=answer)


def _interpolate(task: Task, store: Store, job: Job, request: Interpolate, stopping: Callable[[], bool]) -> Done:
    stored, begun = store.get(job.digest), time.perf_counter()
    if stored is not None:
        return Done(digest=job.digest, answer=stored)
    one, other = start_of(task, store, request.one), start_of(task, store, request.other)
    origin = None if request.origin is None else start_of(task, store, request.origin)
    found = task.interpolate(request, one, other, origin, stopping=stopping)
    answer = replace(found, request=job.digest, seconds=time.perf_counter() - begun)
    store.put(job.digest, request, answer)
    return Done(digest=job.digest, answer=answer)


def _probe(task: Task, store: Store, request: Prune, device: str) -> Probe:
    """What the criterion of a request may look at: examples of the task, initial weights, gathered sums."""
    probe = task.probe(request.seed, request.probe)
    if request.initial is not None:
        initial = start_of(task, store, request.initial)
        probe = replace(probe, initial=_placed(initial, device))
    if isinstance(request.start, At):
        answer = store.get(request.start.fit)
        digests = answer.gathered if isinstance(answer, Trained) else {}
        try:
            probe = replace(probe, gathered={n: _placed(store.state(digest), device) for n, digest in digests.items()})
        except Damaged as error:
            raise NeedsState(request.start) from error
    return probe


def _placed(state: State, device: str) -> State:
    return {name: value.to(resolve_device(device)) for name, value in state.items()}
