"""Structured pruning that changes the function: handed over to the `torch-pruning` package."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from tombola.errors import UsageError

__all__ = ["structured"]


def structured(
    model: nn.Module,
    example: Tensor | dict[str, Any],
    ratio: float = 0.5,
    *,
    importance: Any = None,
    protect: Sequence[nn.Module] = (),
    overall: bool = False,
) -> nn.Module:
    """Remove whole channels by importance, with `torch-pruning`; other than `shrink`, this changes the outputs.

    Args:
        model: stays as it is.
        example: a batch, or a dict of arguments by name.
        ratio: fraction of the channels that goes, in (0, 1).
        importance: one of `torch_pruning.importance`; None: the L2 norm of a channel's weights.
        protect: layers of `model` that keep their outputs, such as the last one.
        overall: rank the channels of all layers together, not within each.

    Returns:
        A smaller copy, to be trained on.

    Raises:
        UsageError: `torch-pruning` is not installed, or `ratio` is out of range.

    >>> structured(nn.Linear(2, 2), None, 1.5)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tombola.errors.UsageError: ratio=1.5; expected a number above 0 and below 1...
    """
    if not 0 < ratio < 1:
        raise UsageError(f"ratio={ratio}; expected a number above 0 and below 1, the fraction of channels that goes.")
    pruning = _package()
    places = [name for name, module in model.named_modules() if any(module is one for one in protect)]
    if len(places) < len(protect):
        raise UsageError("protect names a module that is not part of the model; give modules of this very model.")
    smaller = copy.deepcopy(model)
    pruning.pruner.BasePruner(
        smaller,
        example_inputs=example,
        importance=importance or pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        global_pruning=overall,
        ignored_layers=[smaller.get_submodule(name) for name in places],
    ).step()
    return smaller


def _package() -> ModuleType:
    try:
        return importlib.import_module("torch_pruning")
    except ImportError as error:
        raise UsageError(
            "Structured pruning is handed over to the package torch-pruning, which is not installed: "
            "pip install 'tombola[structured]'."
        ) from error
