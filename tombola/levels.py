"""One training of a user's own loop under a mask: what it starts from, what is refused in it, what comes out."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.rewinding import Fresh, masked_state, rewind
from tombola.streams import seeded
from tombola.training.enforce import enforce
from tombola.training.places import bare
from tombola.training.state import State, load_state, state_of
from tombola.training.steps import Steps, counting

__all__ = ["Course", "Ran", "Stage", "Train", "now", "run"]

Train = Callable[[Any], object]
"""A user's own function: trains the module that it is given, in place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What one training starts from.

    Args:
        start: everything in the module's `state_dict()`; it is masked when it is put into the module.
        mask: which weights exist.
        hold: the start is put back after each of so many first steps, so that schedule and data order go on from there.
        keep: the state after so many steps is wanted; 0: none.
        seed: of the global random state.
        level, arm, replicate: which training of a search it is.
    """

    start: State
    mask: Mask
    hold: int = 0
    keep: int = 0
    seed: int = 0
    level: int = 0
    arm: str = "ticket"
    replicate: int = 0

    @property
    def name(self) -> str:
        """What it is called in messages.

        >>> Course(start={}, mask=Mask({}), level=3, arm="reinit", replicate=1).name
        'level 3, reinit of replicate 1'
        """
        arm = "" if self.arm == "ticket" else f", {self.arm}"
        return f"level {self.level}{arm}" + (f" of replicate {self.replicate}" if self.replicate else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What came out of one training: the last state, the one that was to be kept, effective steps, seconds."""

    trained: State
    kept: State | None
    steps: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A user's module and loop, to be run again and again; what is no tensor in the module is put back before each run.

    Args:
        model: as the user gave it, wrappers and all.
        train: the user's loop.
        met: optimizers of earlier runs.
        modes, trainable: training mode of every module and `requires_grad` of every parameter, as they were at first.
        kinds: dtype and device of every parameter and buffer, by name, as they were at first.
        unsaved: buffers that are in no state (`persistent=False`), as they were at first.
    """

    model: nn.Module
    train: Train
    met: WeakSet[Optimizer] = field(default_factory=WeakSet)
    modes: dict[nn.Module, bool] = field(default_factory=dict)
    trainable: dict[nn.Parameter, bool] = field(default_factory=dict)
    kinds: dict[str, tuple[torch.dtype, torch.device]] = field(default_factory=dict)
    unsaved: State = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.modes.update({module: module.training for module in self.model.modules()})
        self.trainable.update({parameter: parameter.requires_grad for parameter in self.model.parameters()})
        saved = self.own.state_dict()
        for name, value in [*self.own.named_parameters(), *self.own.named_buffers()]:
            self.kinds[name] = value.dtype, value.device
            if name not in saved:
                self.unsaved[name] = value.detach().clone()

    @property
    def own(self) -> nn.Module:
        """The user's module without wrappers: names and states are its."""
        return bare(self.model)

    def state(self) -> State:
        """The state of now, in the dtypes of first."""
        found = state_of(self.own)
        return {n: value.to(self.kinds[n][0]) if n in self.kinds else value for n, value in found.items()}

    @torch.no_grad()
    def reset(self, when: str) -> None:
        """Everything but the values of states as it was at first.

        A loop may have converted the module (`model.double()`): parameters stay the same objects.

        Raises:
            UsageError: modules or parameters are others by now.
        """
        if {*self.model.modules()} != {*self.modes} or {*self.model.parameters()} != {*self.trainable}:
            what = "it has other modules or parameters."
            raise UsageError(f"Before {when} the model is not what it was at first: {what} {_LEAVE}")
        for name, value in [*self.own.named_parameters(), *self.own.named_buffers()]:
            dtype, device = self.kinds.get(name, (value.dtype, value.device))
            if (value.dtype, value.device) != (dtype, device):
                value.data = value.data.to(device, dtype)
            if name in self.unsaved:
                value.copy_(self.unsaved[name])
        for module, mode in self.modes.items():
            module.training = mode
        for parameter, wanted in self.trainable.items():
            parameter.requires_grad_(wanted)
            parameter.grad = None


_NOW: list[Course] = []


def now() -> Course | None:
    """The training that `find_ticket` is at, for callbacks of other libraries; None outside of it.

    >>> now() is None
    True
    """
    return _NOW[-1] if _NOW else None


def run(stage: Stage, course: Course) -> Ran:
    """Run the user's loop once, under the mask, from the start.

    Raises:
        UsageError: the loop did something that makes its result no training of this ticket; says what, and the fix.
    """
    model, mask, begun = stage.own, course.mask, time.perf_counter()
    before, fresh = dict(model.named_parameters()), Fresh()
    stage.reset(course.name)
    try:
        rewind(model, course.start, mask)
    except UsageError as error:
        raise UsageError(f"Before {course.name} the model is not what it was at first: {error} {_LEAVE}") from error
    start, kept, met = masked_state(model, course.start, mask), list[State](), list[Optimizer]()

    checked = False

    def unmoved(*_: object) -> None:
        nonlocal checked
        guard.close()
        if not checked:
            _refuse_moved(before, start, mask, course.name)
        checked = True

    def first(optimizer: Optimizer, parameters: list[nn.Parameter]) -> None:
        if optimizer in stage.met or _used(optimizer, parameters):
            raise UsageError(
                f"{type(optimizer).__name__} has made steps before {course.name}: it was made outside of train, so its "
                f"momentum and learning rate would live across levels. Make optimizer and scheduler in train(model)."
            )
        unmoved()
        met.append(optimizer)
        fresh.remember(optimizer, parameters)

    def after(optimizer: Optimizer, parameters: list[nn.Parameter]) -> None:
        if steps.done == course.keep > 0:
            kept[:] = [stage.state()]  # again after each of several optimizers that make up this step
        if 0 < steps.done <= course.hold:
            load_state(model, start)
            fresh.restore(optimizer, parameters)

    guard = ExitStack()  # when the first gradient comes, the loop has not written into weights but to set them up
    for weight in (before[name] for name in mask if before[name].requires_grad):
        guard.callback(weight.register_post_accumulate_grad_hook(unmoved).remove)
    _NOW.append(course)
    try:
        with guard, seeded(course.seed), enforce(model, None, mask), counting(model, first=first, after=after) as steps:
            stage.train(stage.model)
    finally:
        _NOW.pop()
        stage.met.update(met)
    _check(model, course, before, steps)
    seconds = time.perf_counter() - begun
    return Ran(trained=stage.state(), kept=kept[0] if kept else None, steps=steps.done, seconds=seconds)


_LEAVE = "train and evaluate must leave names, shapes and parameter objects as they are; load before find_ticket."


def _used(optimizer: Optimizer, parameters: list[nn.Parameter]) -> bool:
    """Whether an optimizer has state that only a step makes; Adagrad has some from the beginning."""
    slots = [optimizer.state[parameter] for parameter in parameters if parameter in optimizer.state]
    if any("step" in found for found in slots):
        return any(float(found.get("step", 0)) > 0 for found in slots)
    return any(isinstance(v, Tensor) and bool(v.count_nonzero()) for found in slots for v in found.values())


@torch.no_grad()
def _refuse_moved(before: dict[str, nn.Parameter], start: State, mask: Mask, name: str) -> None:
    """Weights that are not the start's when a level begins."""
    for tensor in mask:
        weight = before[tensor]
        wanted = start[tensor].to(weight.device, weight.dtype)
        if not torch.equal(weight, wanted):
            raise UsageError(
                f"{tensor!r} is not what {name} starts from when the first gradient comes: train initialises or loads "
                f"weights. Do that before find_ticket, in the model or its factory."
            )


def _check(model: nn.Module, course: Course, before: dict[str, nn.Parameter], steps: Steps) -> None:
    after = dict(model.named_parameters())
    for name in before.keys() | after.keys():
        if after.get(name) is not before.get(name):
            raise UsageError(
                f"After {course.name}, {name!r} is another parameter than before, so no mask held. {_LEAVE}"
            )
    if not steps.done:
        what = f"{steps.elsewhere} steps of optimizers that hold none of its parameters" if steps.elsewhere else "none"
        raise UsageError(
            f"train made no optimizer step on the model ({what} in {course.name}). It must train the very module that "
            f"it is given, with a torch.optim optimizer over model.parameters(): not a copy, not in another process."
        )
    for wanted in (course.keep, course.hold):
        if wanted >= steps.done:
            raise UsageError(
                f"rewind_to={wanted}, but train made {steps.done} steps in {course.name}; "
                f"expected 0 to {steps.done - 1}."
            )
