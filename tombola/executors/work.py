"""One request, computed under its lock: look again, go on from a checkpoint, compute, write."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from tombola.answers import Answer, Curve, Pruned, Trained
from tombola.criteria import Probe
from tombola.errors import StoreError, TombolaError, UsageError
from tombola.executors.base import Busy, Done, Failed, Job, Missing, Outcome
from tombola.masks import Mask
from tombola.requests import Fit, Prune
from tombola.resets import Ground, written
from tombola.scopes import Scope
from tombola.starts import Adjusted, At, Init, Made, Moment, Start
from tombola.store import Damaged, Store
from tombola.tasks import Task
from tombola.training.checkpoint import Checkpoint
from tombola.training.device import resolve_device
from tombola.training.loop import Stopped
from tombola.training.state import State, load_state, state_of

__all__ = ["compute", "packed_under", "provenance", "state_digest", "unmet"]


_MAKERS = ("engine", "variant", "torch", "processor", "threads")  # what may change the last bit of a number


class _NeedsState(Exception):
    def __init__(self, start: At | Adjusted) -> None:
        self.start = start


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


def state_digest(start: At | Adjusted, answer: Answer | None) -> str | None:
    """Under which digest the store would have a state, by the answer that made it."""
    if isinstance(start, Adjusted):
        return answer.state if isinstance(answer, Pruned) else None
    return answer.states.get(start.step) if isinstance(answer, Trained) else None


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
            return _fit(task, store, job, job.request, progress, stopping, device)
    except _NeedsState as missing:
        return Missing(digest=job.digest, needs=missing.start)
    except StoreError as error:
        return Failed(digest=job.digest, cause=str(error), fatal=True)
    except TombolaError as error:
        return Failed(digest=job.digest, cause=str(error))
    except Stopped:
        raise
    except Exception as error:  # whatever a user's module raises: the others go on
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        return Failed(digest=job.digest, cause=f"{type(error).__name__}: {error} ({place})".replace("\n", " "))


def _start(task: Task, store: Store, start: Start) -> State:
    """The weights and buffers that a start means."""
    if isinstance(start, Init):
        return state_of(task.build(start.seed, at_most=start.at_most))
    if isinstance(start, Made):
        trained = {} if start.trained is None else _start(task, store, start.trained)
        initial = _start(task, store, start.initial)
        return start.reset(Ground(initial=initial, trained=trained, mask=start.mask, seed=start.seed))
    answer = store.get(start.prune if isinstance(start, Adjusted) else start.fit)
    digest = state_digest(start, answer)
    if digest is None:
        raise _NeedsState(start)
    try:
        return store.state(digest)
    except Damaged as error:
        raise _NeedsState(start) from error


def _begun(task: Task, store: Store, fit: Fit) -> State:
    """The weights and buffers that a fit begins with; at pruned places the constants, where they are frozen."""
    start = _start(task, store, fit.start)
    if fit.frozen is None or fit.mask is None:
        return start
    constants = _start(task, store, fit.frozen)
    for name in fit.mask:
        got = tuple(constants[name].shape) if name in constants else "nothing"
        if got != tuple(start[name].shape):
            raise UsageError(
                f"The reset of the pruned gives {got} for {name!r}; expected its shape {tuple(start[name].shape)}."
            )
    return written(start, {n: start[n].where(kept, constants[n]) for n, kept in fit.mask.items()})


def _prune(task: Task, store: Store, job: Job, request: Prune, device: str) -> Done:
    stored = store.get(job.digest)
    if isinstance(stored, Pruned) and (stored.state is None or store.has(stored.state)):
        return Done(digest=job.digest, answer=stored)
    model, begun = task.build(0), time.perf_counter()
    load_state(model, _start(task, store, request.start))
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


def _probe(task: Task, store: Store, request: Prune, device: str) -> Probe:
    """What the criterion of a request may look at: examples of the task, initial weights, gathered sums."""
    probe = task.probe(request.seed, request.probe)
    if request.initial is not None:
        initial = _start(task, store, request.initial)
        probe = replace(probe, initial=_placed(initial, device))
    if isinstance(request.start, At):
        answer = store.get(request.start.fit)
        digests = answer.gathered if isinstance(answer, Trained) else {}
        try:
            probe = replace(probe, gathered={n: _placed(store.state(digest), device) for n, digest in digests.items()})
        except Damaged as error:
            raise _NeedsState(request.start) from error
    return probe


def _placed(state: State, device: str) -> State:
    return {name: value.to(resolve_device(device)) for name, value in state.items()}


def _fit(
    task: Task,
    store: Store,
    job: Job,
    fit: Fit,
    progress: Callable[[int], None],
    stopping: Callable[[], bool],
    device: str,
) -> Done:
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
    start = _begun(task, store, fit)
    measured = task.fit(fit, start, events=events, resume=resume, engine=job.engine)
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


def packed_under(fit: Fit) -> Mask | None:
    """What its states are packed under. Frozen constants lie outside the mask, and would be lost; a mask that moves is
    another one for each state."""
    return fit.mask if fit.frozen is None and fit.dynamics is None else None


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
    measured = task.fit(again, _begun(task, store, fit), events=events, engine=made_by)
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
