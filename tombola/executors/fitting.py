"""A fit between store and task: what is there already, what its training sends, what it is answered with."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tombola.answers import Curve, Trained
from tombola.errors import TombolaError
from tombola.executors.base import Done, Job
from tombola.executors.starting import begun
from tombola.masks import Mask
from tombola.requests import Fit
from tombola.scopes import Scope
from tombola.starts import Init, Moment
from tombola.store import Store
from tombola.tasks import Stacking, Task
from tombola.training.checkpoint import Checkpoint
from tombola.training.device import resolve_device
from tombola.training.engine import MAKERS
from tombola.training.loop import Measured
from tombola.training.state import State

__all__ = ["Ready", "closed", "fitted", "opened", "packed_under", "provenance", "unmet"]

_MAKERS = (*MAKERS, "torch", "processor", "threads")  # what may change the last bit of a number


class _Events:
    """Keeps what a training sends, in the store."""

    def __init__(
        self, store: Store, job: Job, mask: Mask | None, progress: Callable[[int], None], stopping: Callable[[], bool]
    ) -> None:
        self.store, self.digest, self.mask = store, job.digest, mask
        self.states: dict[int, str] = {}
        self.progress, self.stopping = progress, stopping

    def keep(self, step: int, state: State) -> None:
        self.states[step] = self.store.keep(state, self.mask)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self.store.save_checkpoint(self.digest, checkpoint, self.states)

    def anew(self) -> None:
        self.states = {}


def provenance(device: str, threads: int | None = None) -> dict[str, str | int]:
    """What computes here: versions, hardware. Which engine did is said by each training itself."""
    from tombola import __version__

    return {
        "tombola": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "device": str(resolve_device(device)),
        "threads": threads or torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def unmet(fit: Fit, answer: Trained, store: Store) -> set[int]:
    """The steps whose states `fit` wishes for and the stored answer does not have. The last step always counts, also
    where gathered sums are lost: they are those of the whole training."""
    if answer.diverged_at is not None:
        return set()
    lost = {fit.last} if any(not store.has(digest) for digest in answer.gathered.values()) else set()
    stop = answer.curve.early_stop
    named = {Moment.INIT: fit.first, Moment.END: fit.last, Moment.EARLY_STOP: stop.step if stop else fit.last}
    wished = {named[step] if isinstance(step, Moment) else step for step in fit.keep} | {fit.last}
    return lost | {s for s in wished if fit.first <= s <= fit.last and not store.has(answer.states.get(s, "-"))}


def packed_under(fit: Fit) -> Mask | None:
    """What its states are packed under. Frozen constants lie outside the mask, and would be lost; a mask that moves is
    another one for each state."""
    return fit.mask if fit.frozen is None and fit.dynamics is None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A fit that is to be trained: from where, and who hears of it."""

    job: Job
    fit: Fit
    start: State
    events: _Events
    resume: Checkpoint | None


def opened(
    task: Task, store: Store, job: Job, fit: Fit, progress: Callable[[int], None], stopping: Callable[[], bool]
) -> Ready | Done:
    """Look again, make what a stored answer lacks, or get ready; under the lock of the request.

    Raises:
        NeedsState: what it starts from is not in the store.
        Stopped: `stopping()` said so.
    """
    stored = store.get(job.digest)
    packed = packed_under(fit)
    if packed is not None:
        store.keep_mask(packed)  # its states cannot be read without it
    if isinstance(stored, Trained):
        steps = unmet(fit, stored, store)
        if steps:
            stored = _again(task, store, job, fit, stored, steps, progress, stopping)
            store.put(job.digest, fit, stored)
        store.drop_checkpoint(job.digest)  # a kill between the answer and this line leaves it behind
        return Done(digest=job.digest, answer=stored)
    events = _Events(store, job, packed, progress, stopping)
    saved = store.checkpoint(job.digest)
    resume = None
    if saved is not None and all(store.has(digest) for digest in saved[1].values()):
        resume, events.states = saved
    return Ready(job=job, fit=fit, start=begun(task, store, fit), events=events, resume=resume)


def fitted(task: Task, store: Store, ready: Ready | Done, device: str) -> Done:
    """Train it by itself."""
    if isinstance(ready, Done):
        return ready
    engine = ready.job.engine
    measured = task.fit(ready.fit, ready.start, events=ready.events, resume=ready.resume, engine=engine)
    return closed(task, store, ready, measured, device)


def closed(task: Task, store: Store, ready: Ready, measured: Measured, device: str) -> Done:
    """Write the answer."""
    job, fit, events = ready.job, ready.fit, ready.events
    at_most = fit.start.at_most if isinstance(fit.start, Init) else None
    mask = measured.mask or fit.mask or task.prunable(Scope(), at_most=at_most)
    answer = Trained(
        request=job.digest,
        first=fit.first,
        last=fit.last,
        curve=Curve(measured.points, fit.settled),
        states=events.states,
        mask_digest=mask.digest,
        kept=mask.kept,
        effective=task.effective(mask) if at_most is None else None,
        prunable=mask.total,
        diverged_at=measured.diverged_at,
        train_loss=measured.train_loss,
        train_metric=measured.train_metric,
        metric=task.metric.name,
        seconds=measured.seconds,
        provenance={**provenance(device), **measured.provenance},
        gathered={name: store.keep(sums, None) for name, sums in measured.gathered.items()},
        mask=measured.mask,
    )
    store.put(job.digest, fit, answer)
    store.drop_checkpoint(job.digest)
    return Done(digest=job.digest, answer=answer)


def _again(
    task: Task,
    store: Store,
    job: Job,
    fit: Fit,
    stored: Trained,
    steps: set[int],
    progress: Callable[[int], None],
    stopping: Callable[[], bool],
) -> Trained:
    """Train a stored fit again by the engine that made it, only as far as the last wanted step, and add the states.

    Kept states hold no optimizer, so the start is the nearest state from which the same steps follow. States that the
    store has on the way must come out bit-equal.
    """
    last = max(steps)
    known = {step: digest for step, digest in stored.states.items() if step <= last}
    events = _Events(store, job, packed_under(fit), progress, stopping)
    events.checkpoint = lambda checkpoint: None  # type: ignore[method-assign] # it would stand for the whole fit
    dynamics = fit.dynamics and fit.dynamics.until(last)
    again = replace(fit, last=last, keep=tuple(sorted(steps | known.keys())), dynamics=dynamics)
    made_by = str(stored.provenance.get("engine", "torch"))
    start = begun(task, store, fit)
    if made_by == "stacked" and isinstance(task, Stacking):  # how many lanes there were may change the last bit
        width = int(stored.provenance["stack"])
        [measured] = task.fit_many([again], [start], events=[events], width=width)
    else:
        measured = task.fit(again, start, events=events, engine=made_by)
    gathered = {name: store.keep(sums, None) for name, sums in measured.gathered.items()} if last == fit.last else {}
    same = all(gathered.get(name, digest) == digest for name, digest in stored.gathered.items())
    same &= last < fit.last or measured.mask == stored.mask
    for step, digest in known.items():
        if not same or events.states.get(step) != digest:
            made = ", ".join(f"{k} {stored.provenance[k]}" for k in _MAKERS if k in stored.provenance)
            raise TombolaError(
                f"Training {job.digest[:12]} again does not give its stored state of step {step} bit for bit; it was "
                f"made by {made}. Use that machine and version, or another --store."
            )
    return replace(stored, states={**stored.states, **events.states})
