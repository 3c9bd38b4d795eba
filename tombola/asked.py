"""What `find_ticket` is asked for, checked before anything is trained."""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from tombola.errors import UsageError, suggest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tombola.allocation import Allocation
    from tombola.criteria import Criterion

__all__ = ["Asked", "patterns"]

ResetName = Literal["rewind", "fine-tune"]
AfterName = Literal["continue", "restart"]
ControlName = Literal["reinit", "shuffled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The arguments of `find_ticket` that say what is done; see there.

    Raises:
        UsageError: one is out of range, or two do not go together.
    """

    levels: int | None
    rate: float
    min_metric: float | None
    criterion: str | Criterion
    allocation: str | Allocation
    reset: ResetName
    rewind_to: int
    after_rewind: AfterName
    controls: tuple[str, ...]
    replicates: int
    key: str

    def __post_init__(self) -> None:
        if self.levels is not None:
            _whole("levels", self.levels, 1)
        _whole("rewind_to", self.rewind_to, 0)
        _whole("replicates", self.replicates, 1)
        if not (_number(self.rate) and 0 < self.rate < 1):
            raise UsageError(f"rate={self.rate!r}; expected a fraction above 0 and below 1.")
        if not (self.min_metric is None or _number(self.min_metric)):
            raise UsageError(f"min_metric={self.min_metric!r}; expected a finite number, as evaluate gives.")
        choices: dict[str, tuple[object, tuple[str, ...]]] = {
            "reset": (self.reset, get_args(ResetName)),
            "after_rewind": (self.after_rewind, get_args(AfterName)),
            **{f"controls[{i}]": (name, get_args(ControlName)) for i, name in enumerate(self.controls)},
        }
        for name, (value, known) in choices.items():
            if value not in known:
                raise UsageError(f"{name}={value!r} is unknown. {suggest(str(value), known)}")
        if len(set(self.controls)) < len(self.controls):
            raise UsageError(f"controls names one twice: {', '.join(self.controls)}.")
        if self.reset == "fine-tune" and self.rewind_to:
            raise UsageError("reset='fine-tune' goes on from the trained weights and cannot rewind; leave rewind_to=0.")
        if not isinstance(self.key, str):
            raise UsageError(f"key={self.key!r}; expected text that names this pair of train and evaluate.")

    @property
    def least(self) -> float:
        """The density that is gone down to where no number of levels is asked for."""
        return 0.1 if self.min_metric is None else 0.01

    def check(self, model: object, train: object, evaluate: object) -> None:
        """Refuse what is no model or function, and what needs a factory but has none.

        Raises:
            UsageError: with what was expected.
        """
        from torch import nn

        for name, value in (("train", train), ("evaluate", evaluate)):
            if not (callable(value) or (value is None and name == "evaluate")):
                raise UsageError(f"{name} is a {type(value).__name__}; expected a function of the model.")
        if self.min_metric is not None and evaluate is None:
            raise UsageError("min_metric needs evaluate(model), a number of which larger is better.")
        if isinstance(model, nn.Module):
            for what, wanted in (
                ("controls=('reinit',)", "reinit" in self.controls),
                ("replicates", self.replicates > 1),
            ):
                if wanted:
                    raise UsageError(
                        f"{what} needs fresh initial weights: give a factory, `lambda: MyModel(...)`, not a module."
                    )
        elif not callable(model):
            raise UsageError(f"model is a {type(model).__name__}; expected a torch.nn.Module, or a factory of it.")


def patterns(protect: str | Sequence[str] | Callable[[str, Tensor], bool], model: nn.Module) -> tuple[str, ...]:
    """What `Scope(protect=...)` takes; a predicate becomes the names for which it holds.

    >>> from torch import nn
    >>> patterns(lambda name, weight: weight.ndim < 2, nn.Linear(2, 1))
    ('bias',)
    """
    if not callable(protect) and not _texts(protect):
        raise UsageError(f"protect={protect!r}; expected glob patterns ('*head*'), or (name, tensor) -> bool.")
    if callable(protect):
        return tuple(glob.escape(name) for name, value in model.named_parameters() if protect(name, value))
    return (protect,) if isinstance(protect, str) else tuple(protect)


def _texts(value: object) -> bool:
    """Whether it is a text, or several."""
    return isinstance(value, str) or (isinstance(value, Sequence) and all(isinstance(one, str) for one in value))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name}={value!r}; expected a whole number, {least} or more.")
