"""What a criterion is given, what it returns, and what it says about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from tombola.criteria.work import Size, Work
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.starts import Moment

__all__ = [
    "Adjusting",
    "Batch",
    "Criterion",
    "Loss",
    "Needs",
    "Place",
    "Probe",
    "Scores",
    "Worth",
    "label_of",
    "needs",
    "needs_of",
    "work_of",
]

Scores = dict[str, Tensor]
"""Names and shapes of the mask; larger = keep; finite."""

Batch = tuple[Tensor, Tensor]
"""Inputs as the network takes them, and targets, of as many examples."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> the mean over the examples."""

Place = tuple[str, int]
"""A weight: its tensor's name, and its place in the flattened tensor."""

Worth = Callable[[nn.Module, Mask, Sequence[Place | None]], Tensor]
"""(model, mask, weights) -> what the masked model is worth without each of these alone (None: with all); larger is
better, finite, float64; the model is not touched."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Probe:
    """What a criterion may look at beside the weights; each part only where it is wanted.

    Args:
        seed: of its named random streams.
        keep: weights that will stay, for criteria that go there in steps; set by `Pruner`.
        batches: examples to score on, in a fixed order.
        loss: what the network is trained with.
        more: step -> a batch of the training set, without end, for criteria that train scores.
        initial: parameter -> value before training.
        gathered: statistic -> parameter -> its sum over the training so far.
        worth: what networks are worth, where the task can say so without examples.
    """

    seed: int = 0
    keep: int | None = None
    batches: Sequence[Batch] = ()
    loss: Loss | None = None
    more: Callable[[int], Batch] | None = None
    initial: Mapping[str, Tensor] | None = None
    gathered: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    worth: Worth | None = None

    def examples(self, name: str) -> tuple[Sequence[Batch], Loss]:
        """Batches that have examples, and loss; raises `UsageError` for the criterion `name` where there are none."""
        batches = [batch for batch in self.batches if len(batch[0])]
        if not batches or self.loss is None:
            raise UsageError(
                f"The criterion {name} looks at examples, and the probe has none; give "
                f"Probe(batches=[(inputs, targets)], loss=...)."
            )
        return batches, self.loss

    def stream(self, name: str) -> tuple[Callable[[int], Batch], Loss]:
        """Endless batches and the loss; the batches of the probe over and over where it has no other."""
        batches, loss = self.examples(name)
        return self.more or (lambda step: batches[step % len(batches)]), loss

    def lacks(self, wanted: Needs) -> bool:
        """Whether a criterion of these needs looks at examples that are not here."""
        seen = self.loss is not None and any(len(batch[0]) for batch in self.batches)
        return wanted.data and not seen and not (wanted.worth and self.worth is not None)

    def first(self, name: str, mask: Mask) -> Mapping[str, Tensor]:
        """The initial values of the masked weights; raises `UsageError` where they are not known or do not fit."""
        if self.initial is None:
            raise UsageError(
                f"The criterion {name} compares with the initial weights, which were not kept; give Probe(initial=...)."
            )
        mask.require(self.initial)
        return self.initial

    def sums(self, name: str, statistic: str, mask: Mask) -> Mapping[str, Tensor]:
        """A statistic gathered while training; raises `UsageError` where it was not."""
        if statistic not in self.gathered:
            raise UsageError(
                f"The criterion {name} needs {statistic!r}, which is gathered while training and was not; score a "
                f"training of its own."
            )
        mask.require(self.gathered[statistic])
        return self.gathered[statistic]


Criterion = Callable[[nn.Module, Mask, Probe], Scores]


@runtime_checkable
class Adjusting(Protocol):
    """A criterion that also changes the weights that stay, so that the output changes least."""

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores; writes nothing."""

    def adjusted(self, model: nn.Module, before: Mask, after: Mask, probe: Probe) -> dict[str, Tensor]:
        """Parameters that change -> their new values, once `before` was cut to `after`; writes nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a criterion wants in its probe, and when.

    Args:
        scored_at: the moment of training at which it scores, unless a recipe says otherwise.
        data: batches and loss.
        worth: with `data`: what the task says that networks are worth does instead of examples, where it says so.
        labels, inputs: whether it looks at these of the examples, or just at the others (or at their shapes).
        initial: the initial weights.
        gathered: statistics summed along the training (names of `tombola.training.gather`).
        inside: it looks at what Linear and convolution layers read or put out, so all masked weights must be theirs.
        moved: it compares the weights with the initial ones, so that before training all scores are equal.
        signed: scores may be below 0.
        passes: forward-backward passes over each batch, for the estimate of its cost; 0: none. Of one round, for a
            criterion with an option `rounds`.
        work: (the criterion with its options, the size of a cut) -> what it takes, where `passes` does not say it;
            raises `UsageError` for a cut that is too much.
        each: it looks at a network for each surviving weight: for networks of few weights.
        units: it scores whole units (rows, filters): its natural granularity. Also where its option `units` is true.
    """

    scored_at: Moment = Moment.END
    data: bool = False
    worth: bool = False
    labels: bool = True
    inputs: bool = True
    initial: bool = False
    gathered: tuple[str, ...] = ()
    inside: bool = False
    moved: bool = False
    signed: bool = False
    passes: float = 0.0
    work: Callable[[Any, Size], Work] | None = None
    each: bool = False
    units: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.scored_at, Moment):
            raise UsageError(f"needs(scored_at={self.scored_at!r}); expected {' or '.join(map(str, Moment))}.")


_Kind = TypeVar("_Kind", bound=Callable[..., Any])
_NOTHING = Needs()


def needs(**what: Any) -> Callable[[_Kind], _Kind]:
    """Say of a criterion (a function, or a frozen dataclass with `__call__`) what it needs: the fields of `Needs`.

    >>> @needs(initial=True)
    ... def moved(model, mask, probe):
    ...     ...
    >>> needs_of(moved).initial
    True
    """
    said = Needs(**what)

    def note(criterion: _Kind) -> _Kind:
        criterion.__tombola_needs__ = said  # type: ignore[attr-defined]
        return criterion

    return note


def needs_of(criterion: object) -> Needs:
    """What `needs` said of a criterion, with its options `rounds`, `steps`, `units`; nothing where it said nothing.

    >>> from tombola.criteria import criterion_of
    >>> needs_of(criterion_of("force:rounds=20")).passes
    20.0
    """
    found: Needs = getattr(criterion, "__tombola_needs__", _NOTHING)
    units = getattr(criterion, "units", False)
    times = next((n for n in (getattr(criterion, o, None) for o in ("rounds", "steps")) if isinstance(n, int)), 1)
    return replace(found, passes=float(found.passes * times), units=found.units or units is True)


def work_of(criterion: object, size: Size) -> Work:
    """What a cut of this size takes.

    Raises:
        UsageError: it is too much for the criterion.

    >>> from tombola.criteria import criterion_of
    >>> size = Size(alive=1000, keep=500, shapes=((100, 10),), batches=2, examples=64)
    >>> work_of(criterion_of("force:rounds=20"), size).passes, work_of(criterion_of("leave_one_out"), size).passes > 600
    (40.0, True)
    """
    wanted = needs_of(criterion)
    return wanted.work(criterion, size) if wanted.work else Work(passes=wanted.passes * size.batches)


def label_of(criterion: object) -> str:
    """How errors call a criterion.

    >>> from tombola.criteria.weights import magnitude
    >>> label_of(magnitude)
    'magnitude'
    """
    return str(getattr(criterion, "__name__", type(criterion).__name__))
