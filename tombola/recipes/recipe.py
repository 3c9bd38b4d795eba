"""The recipe: everything that determines an experiment's numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from tombola.errors import UsageError, suggest
from tombola.models.net import Net
from tombola.requests import Moment
from tombola.training.optimizers import LrSchedule, Optimizer
from tombola.training.settings import Loss, Training

__all__ = ["AllocationName", "ControlName", "CriterionName", "Recipe", "ResetName", "SearchName"]

SearchName = Literal["imp", "oneshot"]
AllocationName = Literal["layerwise", "global"]
CriterionName = Literal["magnitude", "random"]
ControlName = Literal["reinit", "shuffled", "small-dense"]
EndpointName = Literal["early-stop", "end"]
ResetName = Literal["rewind", "fine-tune"]

_AUTO = "auto"
_CHOICES = {
    "search": SearchName,
    "allocation": AllocationName,
    "criterion": CriterionName,
    "reset": ResetName,
    "endpoint": EndpointName,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A whole experiment: data, network, training, search, controls, replicates.

    Args:
        name: what people call it; no part of the identity.
        summary: one line about it.
        data: digits, mnist, fashion-mnist, cifar-10, or a .npz file with x_train, y_train, x_test, y_test.
        model: a network's name, or package.module:factory, called without arguments.
        net: options of a named network.
        steps: optimizer steps of a training.
        batch_size: examples a step.
        loss: cross-entropy, or mean-squared-error.
        label_smoothing: of cross-entropy, in [0, 1).
        l2: adds l2 * w to the gradient of prunable weights.
        clip_norm: largest norm of the whole gradient; 0: no clipping.
        optimizer: with its hyper-parameters.
        schedule: of the learning rate.
        eval_every: steps between evaluations.
        normalise: of the inputs: unit, pixel, standard or none.
        validation: examples drawn from the training set; 0: 5,000 of 50,000 or more, else a tenth.
        split_seed: of that draw, the same for all replicates.
        search: imp (iterative), or oneshot (each level cut from the one dense training).
        levels: prunings; level 0 is the dense network.
        rate: fraction of the surviving weights that goes at each level.
        output_factor: factor of the rate for the output layer (layerwise allocation).
        output_layer: name of its weight; empty: the last prunable tensor.
        allocation: layerwise (each layer loses its rate), or global (one threshold).
        criterion: what a weight's survival goes by.
        score_at: where weights are scored: early-stop, end, init or a step; auto: where the criterion says.
        search_steps: length of the searching trainings; 0: whole ones, which are the tickets themselves.
        rewind_to: step whose weights the survivors take back.
        reset: rewind, or fine-tune (weights go on from the end).
        protect: patterns over parameter names that are never pruned.
        controls: trained beside each ticket.
        draws: of each random re-initialisation, averaged within the replicate.
        replicates: runs of the whole procedure, each with its own init and data order.
        seed: of everything.
        endpoint: where an arm is judged: test accuracy at early-stop (its validation minimum) or at the end.
        margin: loss of accuracy, as a fraction, within which a ticket still counts as good as the dense network.
    """

    name: str = "custom"
    summary: str = ""
    data: str = "digits"
    model: str = "lenet-300-100"
    net: Net = field(default_factory=Net)
    steps: int = 1200
    batch_size: int = 60
    loss: Loss = "cross-entropy"
    label_smoothing: float = 0.0
    l2: float = 0.0
    clip_norm: float = 0.0
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: LrSchedule = field(default_factory=LrSchedule)
    eval_every: int = 25
    normalise: str = "unit"
    validation: int = 0
    split_seed: int = 0
    search: SearchName = "imp"
    levels: int = 17
    rate: float = 0.2
    output_factor: float = 0.5
    output_layer: str = ""
    allocation: AllocationName = "layerwise"
    criterion: CriterionName = "magnitude"
    score_at: str = _AUTO
    search_steps: int = 0
    rewind_to: int = 0
    reset: ResetName = "rewind"
    protect: tuple[str, ...] = ()
    controls: tuple[ControlName, ...] = ("reinit", "shuffled")
    draws: int = 1
    replicates: int = 5
    seed: int = 0
    endpoint: EndpointName = "early-stop"
    margin: float = 0.01

    def __post_init__(self) -> None:
        self.training()  # its own checks
        for name in ("levels", "draws", "replicates"):
            _whole(name, getattr(self, name), 1)
        for name in ("search_steps", "rewind_to", "seed"):
            _whole(name, getattr(self, name), 0)
        for name, kind in _CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                known = suggest(str(getattr(self, name)), get_args(kind))
                raise UsageError(f"Unknown {name} {getattr(self, name)!r}. {known}")
        for control in self.controls:
            if control not in get_args(ControlName):
                raise UsageError(f"Unknown control {control!r}. {suggest(str(control), get_args(ControlName))}")
        if len(set(self.controls)) < len(self.controls):
            raise UsageError(f"controls names one twice: {', '.join(self.controls)}.")
        _fraction("rate", self.rate, lambda x: 0 < x < 1, "a fraction above 0 and below 1")
        _fraction("output_factor", self.output_factor, lambda x: 0 <= x <= 1, "a fraction from 0 to 1")
        _fraction("margin", self.margin, lambda x: 0 < x < 1, "a fraction above 0 and below 1")
        self._check_steps()

    def _check_steps(self) -> None:
        searching = self.search_steps or self.steps
        if searching > self.steps:
            raise UsageError(f"search_steps is {self.search_steps}, more than the {self.steps} steps of a training.")
        if self.rewind_to >= searching:
            kind = "searching training" if self.search_steps else "training"
            expected = f"expected 0 to {searching - 1}"
            raise UsageError(f"rewind_to is {self.rewind_to}, but a {kind} has {searching} steps; {expected}.")
        moment = self.moment
        if isinstance(moment, int) and not self.rewind_to <= moment <= searching:
            raise UsageError(f"score_at is step {moment}; expected {self.rewind_to} to {searching}.")
        if self.reset == "fine-tune":
            if self.rewind_to:
                raise UsageError("reset 'fine-tune' goes on from the end, so it cannot rewind; leave rewind_to at 0.")
            if self.schedule.at(self.steps, self.steps) <= 0:
                raise UsageError(
                    "reset 'fine-tune' trains at the schedule's last rate, which is 0 here; use another schedule."
                )

    @property
    def moment(self) -> int | Moment | None:
        """Where weights are scored; None: where the criterion says."""
        if not isinstance(self.score_at, str):
            raise UsageError(f"score_at is {self.score_at!r}; expected text: a step, or early-stop, end, init, auto.")
        if self.score_at == _AUTO:
            return None
        if self.score_at in {moment.value for moment in Moment}:
            return Moment(self.score_at)
        if self.score_at.isdecimal():
            return int(self.score_at)
        known = suggest(self.score_at, [_AUTO, *(moment.value for moment in Moment)])
        raise UsageError(f"score_at is {self.score_at!r}; expected a step, or early-stop, end, init. {known}")

    def training(self) -> Training:
        """The part that says how a network is trained."""
        return Training(**{f.name: getattr(self, f.name) for f in fields(Training)})

    def procedure(self) -> dict[str, Any]:
        """The part that says what is searched: with the task's fingerprint, the identity of the experiment."""
        elsewhere = {"name", "summary", "data", "model", "net", *(f.name for f in fields(Training))}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in elsewhere}


def _whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name} is {value!r}; expected a whole number, {least} or more.")


def _fraction(name: str, value: object, good: Callable[[float], bool], expected: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and good(value)):  # type: ignore[arg-type]
        raise UsageError(f"{name} is {value!r}; expected {expected}.")
