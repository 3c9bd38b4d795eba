"""How a network is trained: one specification, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from tombola.data.augmentation import AUGMENTATIONS
from tombola.errors import UsageError, suggest
from tombola.registry import name_of
from tombola.specs import added
from tombola.training.optimizers import LrSchedule, Optimizer

__all__ = ["Loss", "MemoryFormat", "Precision", "Training"]

Loss = Literal["cross-entropy", "mean-squared-error"]
Precision = Literal["float32", "bfloat16"]
MemoryFormat = Literal["contiguous", "channels-last"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Everything about a training that changes its numbers, beside data, network and request.

    Args:
        steps: optimizer steps of a whole training, at least 1.
        batch_size: examples a step, at least 1.
        loss: cross-entropy, or mean squared error (class labels become one-hot targets).
        label_smoothing: of cross-entropy, in [0, 1).
        l2: adds l2 * w to the gradient of the prunable weights (the penalty l2 / 2 * sum w^2), 0 or more.
        clip_norm: largest norm of the whole gradient; 0: no clipping.
        optimizer, schedule: the optimizer and the factor of its learning rate.
        eval_every: steps between evaluations; the last step is always evaluated.
        normalise: a name of `tombola.data.NORMALISATIONS`.
        validation: examples drawn from the training set; 0: 5,000 of 50,000 or more, else a tenth.
        split_seed: of that draw, the same for all replicates.
        augment: of the training examples, anew in each step (`tombola.data.augmentation`); none: as they are.
        precision: float32; or bfloat16, in which layers compute under autocast while weights and loss stay float32.
        memory_format: contiguous; or channels-last, in which torch's convolutions are faster on many machines.
        parts: a batch goes through the network in so many parts whose gradients are summed (gradient accumulation):
            the same step with less memory, but batch norm sees parts.
    """

    steps: int
    batch_size: int = 60
    loss: Loss = "cross-entropy"
    label_smoothing: float = 0.0
    l2: float = 0.0
    clip_norm: float = 0.0
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: LrSchedule = field(default_factory=LrSchedule)
    eval_every: int = 100
    normalise: str = "unit"
    validation: int = 0
    split_seed: int = 0
    augment: str = added("none")
    precision: Precision = added("float32")
    memory_format: MemoryFormat = added("contiguous")
    parts: int = added(1)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_every", "parts"):
            _whole(name, getattr(self, name), 1)
        _whole("validation", self.validation, 0)
        if self.parts > self.batch_size:
            raise UsageError(f"parts is {self.parts}, more than the {self.batch_size} examples of a batch.")
        for name, kind in (("loss", Loss), ("precision", Precision), ("memory_format", MemoryFormat)):
            if getattr(self, name) not in get_args(kind):
                known = suggest(str(getattr(self, name)), get_args(kind))
                raise UsageError(f"Unknown {name} {getattr(self, name)!r}. {known}")
        if not isinstance(self.augment, str):
            raise UsageError(f"augment is {self.augment!r}; expected text: NAME[:option=value,...].")
        name_of(self.augment, AUGMENTATIONS, "augment")
        for name, top in (("l2", math.inf), ("clip_norm", math.inf), ("label_smoothing", 1.0)):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and 0 <= value < top):
                raise UsageError(
                    f"{name} is {value!r}; expected a finite number, 0 or more{' and below 1' * (top == 1)}."
                )
        if self.label_smoothing and self.loss != "cross-entropy":
            raise UsageError(f"label_smoothing belongs to cross-entropy, not to {self.loss}.")


def _whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name} is {value!r}; expected a whole number, {least} or more.")
