"""Engines: what computes the steps of one training. Everything around the steps is the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from tombola.errors import UsageError, suggest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tombola.masks import Mask
    from tombola.requests import Fit
    from tombola.training.sets import Examples, Sets
    from tombola.training.settings import Training
    from tombola.training.state import State

__all__ = ["ENGINES", "MAKERS", "Engine", "EngineName", "MakeEngine", "check_engine"]

EngineName = Literal["auto", "native", "torch"]

ENGINES: tuple[str, ...] = get_args(EngineName)

MAKERS = ("engine", "variant", "stack", "step")
"""What of an engine's provenance may change the last bit of a number."""


class Engine(Protocol):
    """Computes one training, from weights, optimizer state and sums that it alone holds while it is running."""

    @property
    def stride(self) -> int:
        """Most steps until the next look outside (whether to stop, a checkpoint, progress); may change on the way."""

    @property
    def provenance(self) -> Mapping[str, str]:
        """Its name as `engine`, and what else makes its numbers its own; checkpoints of others do not fit it."""

    def running(self) -> AbstractContextManager[None]:
        """What holds during the training; afterwards the module it was made with has the trained weights."""

    def advance(self, first: int, last: int) -> None:
        """Train from absolute step `first` to `last`."""

    def sums(self) -> tuple[float, float]:
        """Losses and correct predictions, each summed over the batches since `clear`: mean losses, whole counts."""

    def clear(self, loss: float = 0.0, correct: float = 0.0) -> None:
        """Begin new sums, or go on with those of a checkpoint."""

    def evaluate(self, examples: Examples, index: Tensor | None = None) -> tuple[float, float]:
        """(loss, metric) as means over the examples, or over those at `index`; see `tombola.training.evaluation`."""

    def state(self) -> State:
        """Weights and buffers under their names in `state_dict()`: copies on the CPU."""

    def snapshot(self) -> Callable[[], State]:
        """The state of now; what it costs to make it one is paid when it is called."""

    def slots(self) -> tuple[State, dict[str, dict[str, float]]]:
        """The optimizer's state by index of the parameter: tensors `INDEX/SLOT` (copies on the CPU), and numbers."""

    def gathered(self) -> dict[str, State]:
        """Statistic that the fit gathers -> its sums so far (`tombola.training.gather`): copies on the CPU."""

    def moved(self) -> Mask | None:
        """The mask of now, where the fit moves it; None: it is the fit's own throughout."""

    def restore(
        self,
        model: State,
        slots: State,
        numbers: Mapping[str, Mapping[str, float]],
        gathered: Mapping[str, State],
        mask: State,
    ) -> None:
        """Go on from `state()`, `slots()`, `gathered()` and `moved()` (empty: None) of such an engine; called before
        `running`."""


MakeEngine = Callable[["nn.Module", "Fit", "Sets", "Training", "Mask"], Engine]
"""(module with the start weights, fit, sets, training, names that L2 acts on) -> its engine."""


def check_engine(name: str) -> None:
    """Refuse what is no choice of an engine.

    Raises:
        UsageError: with the nearest one.
    """
    if name not in ENGINES:
        raise UsageError(f"engine is {name!r}; expected one of {', '.join(ENGINES)}. {suggest(str(name), ENGINES)}")
