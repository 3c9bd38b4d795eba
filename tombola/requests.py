"""What searches ask for and what they get. Plain data: nothing here trains, reads a disk or imports torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from tombola.errors import UsageError
from tombola.specs import added, wish

if TYPE_CHECKING:
    from tombola.masks import Mask
    from tombola.pruning import Pruner
    from tombola.resets import Remake

__all__ = [
    "CUT",
    "GRADUAL",
    "MASKED",
    "TICKET",
    "Adjusted",
    "Answer",
    "Arm",
    "At",
    "Curve",
    "Fit",
    "Found",
    "Gradual",
    "Init",
    "Made",
    "Moment",
    "Place",
    "Point",
    "ProbeSpec",
    "Prune",
    "Pruned",
    "Request",
    "Round",
    "Search",
    "Start",
    "Trained",
    "references",
]


class Moment(Enum):
    """A named moment of a training."""

    INIT = "init"
    EARLY_STOP = "early-stop"
    END = "end"


@dataclass(frozen=True, kw_only=True, slots=True)
class Init:
    """Start from the weights that the task builds from this seed.

    Args:
        at_most: the network is made narrower until it has no more prunable weights than this; None: as it is.
    """

    seed: int
    at_most: int | None = added(None)


@dataclass(frozen=True, kw_only=True, slots=True)
class At:
    """Start from the state that another fit had after `step` (absolute) steps."""

    fit: str
    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Adjusted:
    """Start from the weights that a prune has adjusted (optimal brain surgeon and its kin)."""

    prune: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """Start from weights that a reset makes of others.

    Args:
        reset: a function or frozen dataclass (`tombola.resets`).
        initial: where the survivors would be rewound to.
        trained: the weights that were scored; None where the reset does not look at them.
        mask: the ticket's.
        seed: of the reset's random streams.
    """

    reset: Remake
    initial: Start
    trained: Start | None = None
    mask: Mask
    seed: int


Start = Init | At | Adjusted | Made


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeSpec:
    """Which examples a criterion scores on, drawn from the training set.

    Args:
        batches: how many.
        size: examples in each.
        balanced: as many of each class in every batch (the size must be a multiple of the classes).
        random_labels: a control: labels drawn at random (Su et al. 2020, arXiv 2009.11094).
        random_inputs: a control: pixels drawn from a normal distribution with the batch's mean and deviation.
    """

    batches: int = 1
    size: int = 128
    balanced: bool = False
    random_labels: bool = False
    random_inputs: bool = False

    def __post_init__(self) -> None:
        for name in ("batches", "size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UsageError(f"probe.{name} is {value!r}; expected a whole number, 1 or more.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gradual:
    """Prune while training: after each of these steps, down to so many weights in all, by the weights of that moment.

    Args:
        keeps: (absolute step, weights left in all), steps rising and weights falling.
        seed: of the criterion's own random streams, and of the examples that each cut draws anew.
        probe: the examples, for a criterion that looks at some.

    Raises:
        UsageError: no cut, or cuts that do not follow each other so.
    """

    pruner: Pruner
    keeps: tuple[tuple[int, int], ...]
    seed: int
    probe: ProbeSpec | None = None

    def __post_init__(self) -> None:
        if not self.keeps:
            raise UsageError("keeps is empty; expected (step, weights left) for each cut.")
        for (before, had), (step, keep) in itertools.pairwise(((0, math.inf), *self.keeps)):
            if not before < step:
                raise UsageError(
                    f"A cut after step {step} comes behind step {before}; expected steps that rise from 1."
                )
            if not 1 <= keep < had:
                raise UsageError(
                    f"The cut after step {step} leaves {keep:,} weights; expected 1 or more, fewer from cut to cut."
                )

    def until(self, step: int) -> Gradual | None:
        """The cuts that come up to `step`; None: none does."""
        keeps = tuple(cut for cut in self.keeps if cut[0] <= step)
        return replace(self, keeps=keeps) if keeps else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Train from `start` under `mask`, from absolute step `first` to `last`. With first = last it is an evaluation.

    Args:
        start: which weights to start from; a reference, never a tensor.
        mask: which weights exist; None: all.
        first, last: absolute steps; learning-rate schedule and data order go by them.
        order: seed of the data order.
        noise: seed of per-step noise (dropout).
        held_rate: the learning rate stays at what the schedule gives for this step; None: it follows the schedule.
        frozen: pruned places stand at these values, which never change; None: at 0.
        gather: statistics summed along the training and kept with its last state (`tombola.training.gather`).
        dynamics: how the mask moves while training, from `mask` on (None: from all prunable weights); None: not at all.
        keep: steps (or moments) whose states to keep beside the last; a wish, not identity.
    """

    start: Start
    mask: Mask | None
    first: int = 0
    last: int
    order: int
    noise: int
    held_rate: int | None = added(None)
    frozen: Start | None = added(None)
    gather: tuple[str, ...] = added(())
    dynamics: Gradual | None = added(None)
    keep: tuple[int | Moment, ...] = wish(())

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise UsageError(f"A fit from step {self.first} to step {self.last}; expected 0 <= first <= last.")
        if self.frozen is not None and self.mask is None:
            raise UsageError("A fit without a mask has no pruned places that could be frozen; give it one.")
        if self.dynamics is None:
            return
        if self.frozen is not None:
            raise UsageError("A fit whose mask moves cannot freeze its pruned places; leave frozen or dynamics out.")
        first, last = self.dynamics.keeps[0][0], self.dynamics.keeps[-1][0]
        if not self.first < first <= last <= self.last:
            raise UsageError(
                f"Cuts after the steps {first} to {last} of a fit from step {self.first} to {self.last}; expected them "
                f"after its first step, and none after its last."
            )

    @property
    def settled(self) -> int:
        """The step of the last cut: before it the network was not yet as sparse as the fit leaves it."""
        return self.dynamics.keeps[-1][0] if self.dynamics else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Prune:
    """Score the state `start` and cut `mask` down to `keep` weights in all.

    Args:
        seed: of the criterion's own random streams.
        initial: the initial weights, for a criterion that compares with them.
        probe: the examples, for a criterion that looks at some.
    """

    start: Start
    mask: Mask
    pruner: Pruner
    keep: int
    seed: int
    initial: Start | None = added(None)
    probe: ProbeSpec | None = added(None)


Request = Fit | Prune


def references(request: Request) -> tuple[Start, ...]:
    """Everything that a request starts from or compares with, those that other starts are made of included."""
    rest: list[Start | None] = [request.start, request.frozen if isinstance(request, Fit) else request.initial]
    found: list[Start] = []
    while rest:
        start = rest.pop(0)
        if start is None:
            continue
        found.append(start)
        if isinstance(start, Made):
            rest += [start.initial, start.trained]
    return tuple(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One row of a curve. Losses and metrics are means over the set; `train` is the running mean of the batches since
    the row before; None: not measured."""

    step: int
    train_loss: float | None = None
    train_metric: float | None = None
    validation_loss: float | None = None
    validation_metric: float | None = None
    test_loss: float | None = None
    test_metric: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """What was measured along a training, in order of steps.

    Args:
        settled: step before which no point is judged, for the mask still moved.
    """

    points: tuple[Point, ...] = ()
    settled: int = 0

    @property
    def early_stop(self) -> Point | None:
        """The evaluated point of smallest validation loss, the first one on ties; never step 0 or before `settled`."""
        usable = [
            p
            for p in self.points
            if p.step >= max(1, self.settled) and p.validation_loss is not None and math.isfinite(p.validation_loss)
        ]
        return min(usable, key=lambda p: p.validation_loss or 0.0, default=None)

    @property
    def end(self) -> Point | None:
        """The last point."""
        return self.points[-1] if self.points else None

    @property
    def judged(self) -> Point | None:
        """Where it is judged: the early-stop point, or the only one of an evaluation, which has trained nothing."""
        return self.early_stop or (self.end if len(self.points) == 1 else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """The answer to a `Fit`: where the kept states are, and what was measured on the way.

    Args:
        request: digest of the fit (with its task).
        states: step -> digest of the stored state.
        diverged_at: the step at which a loss was seen not to be finite; None: it never was.
        train_metric: over the whole training set, at the end.
        metric: what the metrics measure ("accuracy").
        seconds: of computing, all sessions together.
        provenance: engine, versions, hardware: what made it, no part of what it is.
        gathered: statistic -> digest of the stored sums.
        effective: weights of the mask that lie on a path from an input to an output; None: not known.
        mask: the one that the training ends with, where it moved; kept, effective and mask_digest are of it.
    """

    request: str
    first: int
    last: int
    curve: Curve
    states: Mapping[int, str] = field(default_factory=dict)
    mask_digest: str | None = None
    kept: Mapping[str, int] = field(default_factory=dict)
    prunable: int = 0
    diverged_at: int | None = None
    train_loss: float | None = None
    train_metric: float | None = None
    metric: str = "accuracy"
    seconds: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    gathered: Mapping[str, str] = field(default_factory=dict)
    effective: int | None = None
    mask: Mask | None = None

    def at(self, moment: int | Moment) -> At:
        """A reference to this fit's state at a step or moment (`INIT` is its first step).

        Raises:
            UsageError: the step lies outside the fit.
        """
        if isinstance(moment, Moment):
            stop = self.curve.early_stop
            named = {Moment.INIT: self.first, Moment.END: self.last}
            moment = named.get(moment, stop.step if stop else self.last)
        if not self.first <= moment <= self.last:
            raise UsageError(f"Step {moment} lies outside the training from step {self.first} to {self.last}.")
        return At(fit=self.request, step=moment)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """The answer to a `Prune`: the mask.

    Args:
        state: digest of the stored weights that the criterion adjusted; None where it adjusts none.
    """

    request: str
    mask: Mask
    seconds: float = 0.0
    state: str | None = None


Answer = Trained | Pruned


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Arm:
    """Which part a request plays in an experiment."""

    name: str
    draw: int = 0


TICKET = Arm(name="ticket")
CUT = Arm(name="cut")
GRADUAL = Arm(name="gradual")
MASKED = (CUT.name, GRADUAL.name)
"""Arms whose answer has the mask of its level's ticket."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Place:
    """Where in an experiment a request stands."""

    level: int
    replicate: int
    arm: Arm


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What a search wants next: it goes on when `ask` is answered; `aside` (controls) never holds it up."""

    level: int
    ask: Mapping[Arm, Request] = field(default_factory=dict)
    aside: Mapping[Arm, Request] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a search ends with: the mask of its last level."""

    mask: Mask


Search = Generator[Round, Mapping[Arm, Answer], Found]
