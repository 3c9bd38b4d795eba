"""What a request starts from: the state that a reference means."""

from __future__ import annotations

from tombola.answers import Answer, Pruned, Trained
from tombola.errors import UsageError
from tombola.requests import Fit
from tombola.resets import Ground, written
from tombola.starts import Adjusted, At, Init, Made, Start
from tombola.store import Damaged, Store
from tombola.tasks import Task
from tombola.training.state import State, state_of

__all__ = ["NeedsState", "begun", "start_of", "state_digest"]


class NeedsState(Exception):
    """A state is not in the store, or is damaged there."""

    def __init__(self, start: At | Adjusted) -> None:
        self.start = start


def state_digest(start: At | Adjusted, answer: Answer | None) -> str | None:
    """Under which digest the store would have a state, by the answer that made it."""
    if isinstance(start, Adjusted):
        return answer.state if isinstance(answer, Pruned) else None
    return answer.states.get(start.step) if isinstance(answer, Trained) else None


def start_of(task: Task, store: Store, start: Start) -> State:
    """The weights and buffers that a start means."""
    if isinstance(start, Init):
        return state_of(task.build(start.seed, at_most=start.at_most))
    if isinstance(start, Made):
        trained = {} if start.trained is None else start_of(task, store, start.trained)
        initial = start_of(task, store, start.initial)
        return start.reset(Ground(initial=initial, trained=trained, mask=start.mask, seed=start.seed))
    answer = store.get(start.prune if isinstance(start, Adjusted) else start.fit)
    digest = state_digest(start, answer)
    if digest is None:
        raise NeedsState(start)
    try:
        return store.state(digest)
    except Damaged as error:
        raise NeedsState(start) from error


def begun(task: Task, store: Store, fit: Fit) -> State:
    """The weights and buffers that a fit begins with; at pruned places the constants, where they are frozen."""
    start = start_of(task, store, fit.start)
    if fit.frozen is None or fit.mask is None:
        return start
    constants = start_of(task, store, fit.frozen)
    for name in fit.mask:
        got = tuple(constants[name].shape) if name in constants else "nothing"
        if got != tuple(start[name].shape):
            raise UsageError(
                f"The reset of the pruned gives {got} for {name!r}; expected its shape {tuple(start[name].shape)}."
            )
    return written(start, {n: start[n].where(kept, constants[n]) for n, kept in fit.mask.items()})
