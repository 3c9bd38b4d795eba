"""A model and an example, made ready for an export: a copy in eval mode on the CPU, and tensors among its arguments."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tombola.errors import UsageError
from tombola.shrinking.checking import as_arguments, first_line, require_runs
from tombola.shrinking.tracing import Arguments
from tombola.training.places import bare

__all__ = ["Example", "batch_of", "batched", "copied", "fill", "longer", "size_of", "split", "still"]

Example = Tensor | Sequence[object] | Mapping[str, object]
"""What a model is called with: a tensor, a tuple of arguments, or a dict of arguments by name."""

_HOLE = object()


def copied(model: nn.Module) -> nn.Module:
    """A copy of the user's own module in eval mode on the CPU.

    Raises:
        UsageError: it is no module, cannot be copied, or has no values yet.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"The model is a {type(model).__name__}; expected a torch.nn.Module.")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer) or tensor.is_meta:
            what = "on the meta device" if tensor.is_meta else "of a lazy layer that was never run"
            raise UsageError(f"The model's {name!r} is {what} and has no values; load or initialise the model first.")
    try:
        return copy.deepcopy(bare(model)).to("cpu").eval()
    except Exception as error:
        raise UsageError(
            f"{type(model).__name__} cannot be copied ({first_line(error)}); exporting works on a copy.deepcopy of it."
        ) from error


def still(model: nn.Module, example: Example) -> tuple[nn.Module, Arguments]:
    """`copied` and the arguments in the example, after one call that shows that they fit.

    Raises:
        UsageError: as of `copied`; the example is none, or the model does not take it, or returns no tensor.
    """
    own = copied(model)
    arguments: Arguments = _mapped(as_arguments(example), lambda tensor: tensor.detach().cpu())
    with torch.random.fork_rng(devices=[]):
        require_runs(own, arguments)
    return own, arguments


def split(entry: Any, found: list[Tensor]) -> Any:
    """Put the tensors of nested tuples, lists and dicts into `found`; returns what is left, to be filled again.

    >>> found = []
    >>> fill(split({"x": [torch.ones(1), 3]}, found), iter(found)), len(found)
    ({'x': [tensor([1.]), 3]}, 1)
    """

    def take(tensor: Tensor) -> Any:
        found.append(tensor)
        return _HOLE

    return _mapped(entry, take)


def fill(template: Any, tensors: Iterator[Tensor]) -> Any:
    """The tensors back in the places they were taken from."""
    return _mapped(template, lambda _: next(tensors))


def batched(arguments: Arguments) -> list[bool]:
    """Which tensors of the arguments hold one entry for each example: those as long as the first that has a dimension.

    >>> batched(((torch.ones(4, 2), torch.ones(()), torch.ones(4)), {"x": torch.ones(2)}))
    [True, False, True, False]
    """
    tensors: list[Tensor] = []
    split(arguments, tensors)
    size = batch_of(arguments)
    return [bool(tensor.ndim) and len(tensor) == size for tensor in tensors]


def batch_of(arguments: Arguments) -> int:
    """How many examples a batch has: the first dimension of its first tensor that has one; 0: none has."""
    tensors: list[Tensor] = []
    split(arguments, tensors)
    return next((len(tensor) for tensor in tensors if tensor.ndim), 0)


def longer(arguments: Arguments) -> Arguments:
    """A batch twice as long: what is `batched`, and once more backwards.

    >>> longer(((torch.tensor([1, 2]), torch.ones(3)), {}))
    ((tensor([1, 2, 2, 1]), tensor([1., 1., 1.])), {})
    """
    which = iter(batched(arguments))
    doubled: Arguments = _mapped(
        arguments, lambda tensor: torch.cat([tensor, tensor.flip(0)]) if next(which) else tensor
    )
    return doubled


def size_of(model: nn.Module) -> int:
    """Numbers in its parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _mapped(entry: Any, change: Any) -> Any:
    if isinstance(entry, Tensor) or entry is _HOLE:
        return change(entry)
    if type(entry) is dict:
        return {name: _mapped(value, change) for name, value in entry.items()}
    if type(entry) in (list, tuple):
        return type(entry)(_mapped(value, change) for value in entry)
    return entry
