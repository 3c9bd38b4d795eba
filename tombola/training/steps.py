"""Counting the steps of a loop that is not ours, by what its optimizers do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

__all__ = ["Steps", "counting"]

Called = Callable[[Optimizer, list[nn.Parameter]], None]
"""(optimizer, those of its parameters that are the model's)."""


@dataclass(slots=True)
class Steps:
    """What was counted: `done` steps, and calls of optimizers that hold none of the model's parameters."""

    done: int = 0
    elsewhere: int = 0
    optimizers: WeakKeyDictionary[Optimizer, tuple[int, list[nn.Parameter]]] = field(default_factory=WeakKeyDictionary)


def _nothing(optimizer: Optimizer, parameters: list[nn.Parameter]) -> None:
    return


@contextmanager
def counting(model: nn.Module, *, first: Called = _nothing, after: Called = _nothing) -> Iterator[Steps]:
    """Count the steps that are made on the parameters of `model` inside, whatever makes them.

    A step is a maximal run of effective optimizer steps in which no parameter is updated twice: two optimizers over
    disjoint parts make one step together, three calls of one and one of the other make three, and one optimizer for
    each parameter within the backward pass makes one a backward. A closure that steps by itself (SAM, Lookahead) and a
    subclass that calls its parent count once. A step that a `GradScaler` skips is none; LBFGS makes one a `step`.

    Args:
        first: called before the first step of each optimizer that holds parameters of the model.
        after: called after every call of such an optimizer, effective or not; `Steps.done` is up to date then.

    >>> import torch
    >>> model = nn.Linear(2, 1)
    >>> with counting(model) as steps:
    ...     for parameter in model.parameters():
    ...         parameter.grad = torch.ones_like(parameter)
    ...         torch.optim.SGD([parameter], lr=0.1).step()
    >>> steps.done
    1
    """
    steps, own = Steps(), set(model.parameters())
    touched: set[nn.Parameter] = set()
    pending = False  # one flag, no depth: a step that raises and is caught leaves no debt

    def held_by(optimizer: Optimizer) -> list[nn.Parameter]:
        count, held = steps.optimizers.get(optimizer, (-1, []))
        now = sum(len(group["params"]) for group in optimizer.param_groups)
        if count != now:
            new = not held
            held = [p for group in optimizer.param_groups for p in group["params"] if p in own]
            steps.optimizers[optimizer] = now, held
            if held and new:
                first(optimizer, held)
        return held

    def before_step(optimizer: Optimizer, *_: object) -> None:
        nonlocal pending
        if held_by(optimizer):
            pending = True
        else:
            steps.elsewhere += 1

    def after_step(optimizer: Optimizer, *_: object) -> None:
        nonlocal pending
        held = held_by(optimizer)
        if not held:
            return
        if pending and not _skipped(optimizer):
            if not touched.isdisjoint(held) or not touched:
                steps.done += 1
                touched.clear()
            touched.update(held)
        pending = False
        after(optimizer, held)

    with ExitStack() as hooks:
        hooks.callback(register_optimizer_step_pre_hook(before_step).remove)
        hooks.callback(register_optimizer_step_post_hook(after_step).remove)
        yield steps


def _skipped(optimizer: Optimizer) -> bool:
    """Whether a `GradScaler` has found an infinity: fused optimizers are called all the same, and do nothing."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found)
