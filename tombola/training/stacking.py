"""Which trainings can be stacked, and how many of them a device holds."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Hashable

import torch
from torch import nn

from tombola.masks import Mask
from tombola.requests import Fit
from tombola.starts import Init
from tombola.training.captured import draws_elsewhere
from tombola.training.reference import Reference
from tombola.training.sets import Sets
from tombola.training.settings import Training
from tombola.training.stacked import Stack
from tombola.training.state import state_of

__all__ = ["MOST", "lanes_for", "peak_memory", "stack_key", "why_not_stacked"]

MOST = 64  # lanes; beyond that no GPU gains from more
_SHARE = 0.8  # of the free memory that a stack may plan with: allocators round up, and evaluation comes on top
_TOLERANCE = 1e-3


def stack_key(fit: Fit) -> Hashable | None:
    """Fits with equal keys stack: they make the same steps at the same learning rates. None: it stacks with none.

    >>> stack_key(Fit(start=Init(seed=0), mask=None, last=9, order=1, noise=1))
    (0, 9, None)
    """
    narrowed = isinstance(fit.start, Init) and fit.start.at_most is not None
    if narrowed or fit.first == fit.last or fit.frozen or fit.dynamics or fit.gather:
        return None
    return fit.first, fit.last, fit.held_rate


def why_not_stacked(model: nn.Module, sets: Sets, training: Training) -> str | None:
    """Why fits of this network do not stack, as a clause; None: they do.

    Two lanes make one step, and so does the network alone, on the same examples. Where torch.func.vmap cannot run the
    module, has no batched form of an operation, or the weights come out otherwise, the module does not stack.

    Args:
        model: on the device of the sets; it is left as it is.
    """
    elsewhere = draws_elsewhere(model)
    if elsewhere is not None:
        return elsewhere
    fit = Fit(start=Init(seed=0), mask=None, last=1, order=0, noise=0)
    start = state_of(model)
    alone, one = copy.deepcopy(model), Mask.dense(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # vmap warns of operations that it can only run one by one
            stack = Stack(copy.deepcopy(model), [fit, fit], [start, start], sets, training, one)
            with stack.running():
                stack.advance(0, 1)
        single = Reference(alone, fit, sets, training, one)
        with single.running():
            single.advance(0, 1)
    except torch.OutOfMemoryError:
        return "the device has no memory for two at once"
    except Exception as error:  # whatever a user's module raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"torch.func.vmap cannot run {type(model).__name__} ({reason.rstrip('.')})"
    for name, value in single.state().items():
        got = stack.lanes[1].state()[name].to(torch.float64)
        apart = float((got - value.to(torch.float64)).abs().max()) if value.numel() else 0.0
        # Adam's first step is as long as the learning rate, whichever way a tiny gradient points.
        if not apart <= _TOLERANCE * (1 + float(value.abs().max())) + 2 * training.optimizer.lr:
            return f"stacked, {type(model).__name__} trains to another {name!r} (by {apart:.1e})"
    return None


def peak_memory(device: torch.device) -> Callable[[Callable[[], object]], tuple[int, int]]:
    """What runs a function on a GPU and says how many bytes it took at its peak, and how many were free before."""

    def measured(function: Callable[[], object]) -> tuple[int, int]:
        with torch.cuda.device(device):
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before, (free, _) = torch.cuda.memory_allocated(), torch.cuda.mem_get_info()
            function()
            torch.cuda.synchronize()
            taken = torch.cuda.max_memory_allocated() - before
            torch.cuda.empty_cache()
            return taken, free

    return measured


def lanes_for(
    model: nn.Module,
    sets: Sets,
    training: Training,
    *,
    measure: Callable[[Callable[[], object]], tuple[int, int]],
) -> int:
    """How many lanes the device holds, from what one takes in two steps and an evaluation; at least 1, at most `MOST`.

    lanes = floor(0.8 free / taken by one)

    Args:
        model: on the device; it is left as it is.
        measure: a function -> (bytes at its peak, bytes free before), as `peak_memory` makes it.
    """

    def one() -> None:
        fit = Fit(start=Init(seed=0), mask=Mask.dense(model), last=2, order=0, noise=0)
        stack = Stack(copy.deepcopy(model), [fit], [state_of(model)], sets, training, Mask.dense(model))
        with stack.running():
            stack.advance(0, 2)
            stack.lanes[0].snapshot()
            stack.lanes[0].evaluate(sets.validation)

    try:
        taken, free = measure(one)
    except torch.OutOfMemoryError:
        return 1
    return max(1, min(MOST, int(_SHARE * free / max(1, taken))))
