"""Optimizers and learning-rate schedules as specifications."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from tombola.errors import UsageError, suggest

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["OPTIMIZERS", "SCHEDULES", "LrSchedule", "Optimizer"]

OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["constant", "step", "cosine"]


def _require(good: bool, name: str, got: object, expected: str) -> None:
    if not good:
        raise UsageError(f"{name} is {got!r}; expected {expected}.")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    """An optimizer with its hyper-parameters; what a kind does not use must keep its default.

    Args:
        name: adam, adamw (decoupled weight decay) or sgd.
        lr: learning rate before the schedule, above 0.
        betas: decay rates of Adam's moments, in [0, 1).
        eps: Adam's denominator term, above 0.
        momentum: of SGD, in [0, 1).
        nesterov: Nesterov's form of SGD's momentum.
        weight_decay: torch's own meaning for each optimizer; 0 or more.
    """

    name: OptimizerName = "adam"
    lr: float = 1.2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise UsageError(f"Unknown optimizer {self.name!r}. {suggest(str(self.name), OPTIMIZERS)}")
        _require(_number(self.lr) and self.lr > 0, "optimizer.lr", self.lr, "a finite number above 0")
        _require(
            _number(self.weight_decay) and self.weight_decay >= 0,
            "optimizer.weight_decay",
            self.weight_decay,
            "0 or more",
        )
        _require(
            _number(self.momentum) and 0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "a number in [0, 1)"
        )
        good = len(self.betas) == 2 and all(_number(b) and 0 <= b < 1 for b in self.betas)
        _require(good, "optimizer.betas", self.betas, "two numbers in [0, 1)")
        _require(_number(self.eps) and self.eps > 0, "optimizer.eps", self.eps, "a finite number above 0")
        if self.name != "sgd" and (self.momentum or self.nesterov):
            raise UsageError(
                f"optimizer.momentum and nesterov belong to sgd, not to {self.name}; {self.name} has betas."
            )
        if self.nesterov and not self.momentum:
            raise UsageError("optimizer.nesterov needs optimizer.momentum above 0.")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer, fused: default Adam is slow on the exact zeros of masked gradients."""
        return OPTIMIZERS[self.name](self, [p for p in parameters if p.requires_grad])


def _adam(spec: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    from torch.optim import Adam

    return Adam(parameters, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay, fused=True)


def _adamw(spec: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    from torch.optim import AdamW

    return AdamW(parameters, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay, fused=True)


def _sgd(spec: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    from torch.optim import SGD

    decay, momentum = spec.weight_decay, spec.momentum
    return SGD(parameters, lr=spec.lr, momentum=momentum, nesterov=spec.nesterov, weight_decay=decay, fused=True)


OPTIMIZERS: dict[str, Callable[[Optimizer, list[nn.Parameter]], torch.optim.Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LrSchedule:
    """Factor of the learning rate by absolute step; a linear warmup may precede each kind.

    Args:
        name: constant; step (times `factor` at each milestone); cosine (to 0 at the last step).
        warmup: steps of the linear rise from 0: factor (t + 1) / warmup while t < warmup.
        milestones: steps at which `step` drops, increasing.
        factor: of each drop, above 0.

    >>> schedule = LrSchedule(name="step", milestones=(10,), warmup=4)
    >>> schedule.at(1, 20), schedule.at(10, 20)
    (0.5, 0.1)
    """

    name: ScheduleName = "constant"
    warmup: int = 0
    milestones: tuple[int, ...] = ()
    factor: float = 0.1

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise UsageError(f"Unknown learning-rate schedule {self.name!r}. {suggest(str(self.name), SCHEDULES)}")
        _require(isinstance(self.warmup, int) and self.warmup >= 0, "schedule.warmup", self.warmup, "0 or more steps")
        _require(_number(self.factor) and self.factor > 0, "schedule.factor", self.factor, "a finite number above 0")
        rising = all(a < b for a, b in zip((0, *self.milestones), self.milestones, strict=False))
        _require(rising, "schedule.milestones", self.milestones, "increasing steps above 0")
        if (self.name == "step") != bool(self.milestones):
            raise UsageError("schedule.milestones and the schedule 'step' need each other.")

    def at(self, step: int, steps: int) -> float:
        """The factor for the optimizer step that leads from `step` to `step + 1`, in a training of `steps`."""
        rise = (step + 1) / self.warmup if step < self.warmup else 1.0
        return rise * SCHEDULES[self.name](self, step, steps)


def _constant(spec: LrSchedule, step: int, steps: int) -> float:
    return 1.0


def _drops(spec: LrSchedule, step: int, steps: int) -> float:
    passed = sum(step >= milestone for milestone in spec.milestones)
    return float(spec.factor**passed)


def _cosine(spec: LrSchedule, step: int, steps: int) -> float:
    done = min(1.0, max(0, step - spec.warmup) / max(1, steps - spec.warmup))
    return 0.5 * (1 + math.cos(math.pi * done))


SCHEDULES: dict[str, Callable[[LrSchedule, int, int], float]] = {
    "constant": _constant,
    "step": _drops,
    "cosine": _cosine,
}

assert set(OPTIMIZERS) == set(get_args(OptimizerName)) and set(SCHEDULES) == set(get_args(ScheduleName))
