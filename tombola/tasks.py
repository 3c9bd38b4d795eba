"""Tasks: the one door to the world. A search never sees data; the runner sees a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn

    from tombola.answers import Interpolated
    from tombola.criteria import Probe
    from tombola.masks import Mask
    from tombola.requests import Fit, Interpolate, ProbeSpec
    from tombola.scopes import Scope
    from tombola.training.checkpoint import Checkpoint
    from tombola.training.loop import Events, Measured
    from tombola.training.state import State

__all__ = ["Metric", "Stacking", "Task"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """What a task is judged by."""

    name: str
    larger_is_better: bool


class Task(Protocol):
    """What the runner needs from the world: images, a user's own loop, gene networks."""

    @property
    def fingerprint(self) -> str:
        """Identity of data and code by content; never a path."""

    @property
    def metric(self) -> Metric:
        """What is measured."""

    @property
    def steps(self) -> int:
        """Optimizer steps of a whole training."""

    def build(self, seed: int, *, at_most: int | None = None) -> nn.Module:
        """A freshly initialised network, or a narrower one with at most so many prunable weights; two seeds differ."""

    def prunable(self, scope: Scope, *, at_most: int | None = None) -> Mask:
        """The dense mask of the network, or of its narrower form."""

    def probe(self, seed: int, spec: ProbeSpec | None = None) -> Probe:
        """What criteria may look at: examples as `spec` says, drawn from the seed; None: none."""

    def effective(self, mask: Mask) -> int | None:
        """How many weights of `mask` lie on a path from an input to an output; None where that cannot be told."""

    def notes(self) -> dict[str, Any]:
        """What reports like to know about the task; no part of its identity."""

    def fit(
        self,
        fit: Fit,
        start: State,
        *,
        events: Events,
        resume: Checkpoint | None = None,
        engine: str | None = None,
    ) -> Measured:
        """Train the weights `start` as `fit` says; by this engine where one is named, else by the task's own choice."""

    def interpolate(
        self, request: Interpolate, one: State, other: State, origin: State | None, *, stopping: Callable[[], bool]
    ) -> Interpolated:
        """Measure the network on the line between two states; the answer's `request` is left empty."""


@runtime_checkable
class Stacking(Task, Protocol):
    """A task that can train several fits as one; others train them one by one."""

    def why_not_stacked(self) -> str | None:
        """Why fits do not stack here, as a clause; None: they do."""

    def lanes(self) -> int:
        """How many fits at once the device has memory for."""

    def fit_many(
        self,
        fits: Sequence[Fit],
        starts: Sequence[State],
        *,
        events: Sequence[Events],
        resume: Sequence[Checkpoint | None] = (),
        width: int | None = None,
    ) -> list[Measured]:
        """Train fits of equal `tombola.training.stacking.stack_key` as one (`tombola.training.together`)."""
