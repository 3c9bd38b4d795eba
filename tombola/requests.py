"""What searches ask for. Plain data: nothing here trains, reads a disk or imports torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tombola.answers import Answer
from tombola.errors import UsageError
from tombola.specs import added, wish
from tombola.starts import Made, Moment, Start

if TYPE_CHECKING:
    from tombola.masks import Mask
    from tombola.pruning import Pruner

__all__ = [
    "CUT",
    "GRADUAL",
    "MASKED",
    "TICKET",
    "Arm",
    "Fit",
    "Found",
    "Gradual",
    "Interpolate",
    "Place",
    "ProbeSpec",
    "Prune",
    "Request",
    "Round",
    "Search",
    "references",
]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpolate:
    """Walk in a straight line from one state to another, and measure the network on the way and how far it is.

    Args:
        one, other: the two ends.
        origin: where both set out; their ways from there are measured too.
        mask: which weights distances and angle are of.
        points: how many on the line, evenly spaced, both ends among them, 3 or more; 0: distances alone.
        recompute: training examples for which batch-norm statistics are computed anew at each point, 2 or more.
        examples: training examples that are measured, 1 or more; where there are fewer, all.
    """

    one: Start
    other: Start
    origin: Start | None
    mask: Mask
    points: int
    recompute: int
    examples: int

    def __post_init__(self) -> None:
        if self.points and self.points < 3:
            raise UsageError(f"points is {self.points}; expected 3 or more, or there is nothing between the ends.")
        for name, least in (("recompute", 2), ("examples", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; expected {least} training examples or more.")


Request = Fit | Prune | Interpolate


def references(request: Request) -> tuple[Start, ...]:
    """Everything that a request starts from or compares with, those that other starts are made of included."""
    rest: list[Start | None]
    if isinstance(request, Interpolate):
        rest = [request.one, request.other, request.origin]
    else:
        rest = [request.start, request.frozen if isinstance(request, Fit) else request.initial]
    found: list[Start] = []
    while rest:
        start = rest.pop(0)
        if start is None:
            continue
        found.append(start)
        if isinstance(start, Made):
            rest += [start.initial, start.trained]
    return tuple(found)


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
