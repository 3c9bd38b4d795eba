"""The recipe: everything that determines an experiment's numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from tombola.allocation import ALLOCATIONS
from tombola.criteria import CRITERIA
from tombola.errors import UsageError, suggest
from tombola.granularity.registry import GRANULARITIES
from tombola.models.net import Net
from tombola.registry import Registry, name_of
from tombola.requests import ProbeSpec
from tombola.resets import RESETS, RESETS_PRUNED
from tombola.schedules import SCHEDULES
from tombola.specs import added
from tombola.starts import Moment
from tombola.training.optimizers import LrSchedule, Optimizer
from tombola.training.settings import Loss, MemoryFormat, Precision, Training

__all__ = ["ControlName", "Recipe", "SearchName"]

SearchName = Literal["imp", "oneshot", "gradual"]
ControlName = Literal["reinit", "shuffled", "small-dense", "untrained", "inverted", "random-labels", "random-inputs"]
EndpointName = Literal["early-stop", "end"]

_AUTO = "auto"
_WORDS = {"search": SearchName, "endpoint": EndpointName}
_NAMED: dict[str, Registry] = {
    "criterion": CRITERIA,
    "allocation": ALLOCATIONS,
    "granularity": GRANULARITIES,
    "schedule": SCHEDULES,
    "reset": RESETS,
    "reset_pruned": RESETS_PRUNED,
}
_NATURAL = "natural"
_TRAINING = {"schedule": "lr_schedule"}  # field of `Training` -> of a recipe, where `schedule` is that of pruning


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A whole experiment: data, network, training, search, controls, replicates.

    Args:
        name: what people call it; no part of the identity.
        summary: one line about it.
        data: digits, mnist, fashion-mnist, cifar-10, or a .npz file with x_train, y_train, x_test, y_test; a part of
            one: mnist:train=12000,test=2000.
        model: a network's name (tombola list models), or package.module:factory, called without arguments.
        net: options of a named network.
        steps: optimizer steps of a training.
        batch_size: examples a step.
        loss: cross-entropy, or mean-squared-error.
        label_smoothing: of cross-entropy, in [0, 1).
        l2: adds l2 * w to the gradient of prunable weights.
        clip_norm: largest norm of the whole gradient; 0: no clipping.
        optimizer: with its hyper-parameters.
        lr_schedule: of the learning rate.
        eval_every: steps between evaluations.
        normalise: of the inputs: unit, pixel, standard or none.
        validation: examples drawn from the training set; 0: 5,000 of 50,000 or more, else a tenth.
        split_seed: of that draw, the same for all replicates.
        augment: of the training images, anew in each step: flip-crop:pad=4 (tombola list augmentations); none.
        precision: float32; or bfloat16, in which layers compute while weights and loss stay float32.
        memory_format: contiguous; or channels-last, in which torch's convolutions are often faster.
        parts: a batch goes through the network in so many parts whose gradients are summed: less memory.
        search: imp (iterative), oneshot (each level cut from the one dense training), gradual (one training is pruned
            on its way), ... (tombola list searches).
        levels: prunings; level 0 is the dense network.
        schedule: how the density falls from level to level: geometric, linear:final=0.1, custom:densities=0.5/0.2, ...
            (tombola list schedules); one-shot and custom set the number of levels themselves. For the search gradual:
            linear or cubic by training step, cubic:final=0.05,every=50.
        rate: fraction of the surviving weights that goes at each level (geometric schedule).
        output_factor: factor of the rate for the output layer (layerwise allocation).
        output_layer: name of its weight; empty: the last prunable tensor.
        allocation: layerwise (each layer loses its rate), global (one threshold), ... (tombola list allocations).
        criterion: what a weight's survival goes by: magnitude, snip, ..., or package.module:name, each with options:
            NAME:option=value,... (tombola list criteria).
        granularity: weight, unit or filter (tombola list granularities); natural: the criterion's own.
        probe: the examples that a criterion looks at.
        score_at: where weights are scored: early-stop, end, init or a step; auto: where the criterion says.
        search_steps: length of the searching trainings; 0: whole ones, which are the tickets themselves.
        rewind_to: step whose weights the survivors take back.
        reset: what survivors restart from: rewind, lr-rewind, fine-tune, ... (tombola list resets).
        reset_pruned: where pruned places stand: zero, or a constant (tombola list resets-pruned).
        protect: patterns over parameter names that are never pruned.
        controls: trained beside each ticket (tombola list controls).
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
    lr_schedule: LrSchedule = field(default_factory=LrSchedule)
    eval_every: int = 25
    normalise: str = "unit"
    validation: int = 0
    split_seed: int = 0
    augment: str = "none"
    precision: Precision = "float32"
    memory_format: MemoryFormat = "contiguous"
    parts: int = 1
    search: SearchName = "imp"
    levels: int = 17
    schedule: str = added("geometric")
    rate: float = 0.2
    output_factor: float = 0.5
    output_layer: str = ""
    allocation: str = "layerwise"
    criterion: str = "magnitude"
    granularity: str = added(_NATURAL)
    probe: ProbeSpec = added(ProbeSpec())
    score_at: str = _AUTO
    search_steps: int = 0
    rewind_to: int = 0
    reset: str = "rewind"
    reset_pruned: str = added("zero")
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
        for name, kind in _WORDS.items():
            if getattr(self, name) not in get_args(kind):
                known = suggest(str(getattr(self, name)), get_args(kind))
                raise UsageError(f"Unknown {name} {getattr(self, name)!r}. {known}")
        for name, registry in _NAMED.items():
            if (name, getattr(self, name)) != ("granularity", _NATURAL):
                name_of(_text(name, getattr(self, name)), registry, name)
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
        if name_of(self.reset, RESETS, "reset") == "fine-tune":
            if self.rewind_to:
                raise UsageError("reset 'fine-tune' goes on from the end, so it cannot rewind; leave rewind_to at 0.")
            if self.lr_schedule.at(self.steps, self.steps) <= 0:
                raise UsageError(
                    "reset 'fine-tune' trains at the schedule's last rate, which is 0 here; use another lr_schedule."
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
        own = {_TRAINING.get(f.name, f.name): f.name for f in fields(Training)}
        return Training(**{theirs: getattr(self, ours) for ours, theirs in own.items()})

    def procedure(self) -> dict[str, Any]:
        """The part that says what is searched: with the task's fingerprint, the identity of the experiment."""
        training = {_TRAINING.get(f.name, f.name) for f in fields(Training)}
        elsewhere = {"name", "summary", "data", "model", "net", *training}
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in elsewhere}
        neutral = {f.name: f.metadata["neutral"] for f in fields(self) if "neutral" in f.metadata}
        return {name: value for name, value in found.items() if name not in neutral or value != neutral[name]}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name} is {value!r}; expected text: NAME[:option=value,...].")
    return value


def _whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name} is {value!r}; expected a whole number, {least} or more.")


def _fraction(name: str, value: object, good: Callable[[float], bool], expected: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and good(value)):  # type: ignore[arg-type]
        raise UsageError(f"{name} is {value!r}; expected {expected}.")
