"""Whether two networks are the same function, by trying."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.shrinking.tracing import Arguments, tensors_in
from tombola.training.enforce import apply_mask

__all__ = ["as_arguments", "difference", "first_line", "like", "masked_copy", "require_runs", "run", "trials"]

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
"""dtype -> largest error, relative to 1 + the largest output; half precision and others: 2e-2."""


def as_arguments(example: object) -> Arguments:
    """A tensor, a tuple of arguments, or a mapping of arguments by name, as what a model is called with.

    >>> as_arguments({"ids": torch.ones(1)})
    ((), {'ids': tensor([1.])})
    """
    if isinstance(example, Tensor):
        arguments: Arguments = (example,), {}
    elif isinstance(example, Mapping):
        arguments = (), {str(name): value for name, value in example.items()}
    elif isinstance(example, Sequence) and not isinstance(example, str):
        arguments = tuple(example), {}
    else:
        raise UsageError(
            f"The example is a {type(example).__name__}; expected what the model is called with: a tensor, a tuple of "
            f"arguments, or a dict of arguments by name."
        )
    held = tensors_in(list(arguments))
    if not held:
        raise UsageError("The example holds no tensor; give a batch like those that the model is called with.")
    for tensor in held:
        if tensor.is_meta or not tensor.numel():
            what = "is on the meta device" if tensor.is_meta else f"has shape {tuple(tensor.shape)}"
            raise UsageError(f"A tensor of the example {what} and has no values; give a real batch.")
    return arguments


def run(model: nn.Module, arguments: Arguments) -> list[Tensor]:
    """The tensors that the model makes of these arguments."""
    args, kwargs = arguments
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tensors_in(model(*args, **kwargs))


def masked_copy(model: nn.Module, mask: Mask) -> nn.Module:
    """A copy of `model` in eval mode, with pruned weights at 0. Raises `UsageError` where the mask does not fit."""
    try:
        masked = copy.deepcopy(model)
    except Exception as error:
        raise UsageError(
            f"{type(model).__name__} cannot be copied ({first_line(error)}); shrinking works on a copy.deepcopy of it."
        ) from error
    apply_mask(masked, mask)
    return masked.eval()


def require_runs(model: nn.Module, arguments: Arguments) -> None:
    """Raises `UsageError` unless the model takes the arguments and gives tensors."""
    try:
        outputs = run(model, arguments)
    except Exception as error:
        shapes = [tuple(x.shape) if isinstance(x, Tensor) else x for x in (*arguments[0], *arguments[1].values())]
        raise UsageError(
            f"{type(model).__name__} does not take the example ({shapes}): {first_line(error)}. Give a batch like "
            f"those that the model is called with."
        ) from error
    if not outputs:
        raise UsageError(f"{type(model).__name__} returns no tensor for the example; there is nothing to keep equal.")


def first_line(error: Exception) -> str:
    """The first line of an error, cut to a length that fits in a message."""
    text = str(error).strip().split("\n")[0] or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."


def difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> str:
    """How two lists of outputs differ beyond rounding; empty: they do not.

    >>> difference([torch.ones(2)], [torch.ones(2) + 1e-7]), difference([torch.ones(2)], [torch.zeros(2)])
    ('', 'outputs differ by 1.0')
    """
    if [tensor.shape for tensor in one] != [tensor.shape for tensor in other]:
        return "outputs have other shapes"
    worst = 0.0
    for mine, theirs in zip(one, other, strict=True):
        if not mine.is_floating_point() or not mine.numel():
            if not torch.equal(mine, theirs):
                return "outputs that are whole numbers differ"
            continue
        wide, other_wide = mine.double(), theirs.double()
        odd = ~wide.isfinite()
        if not torch.equal(odd, ~other_wide.isfinite()):
            return "outputs are not finite at other places"
        wide, other_wide = wide.masked_fill(odd, 0), other_wide.masked_fill(odd, 0)
        error = float((wide - other_wide).abs().max())
        if error > TOLERANCES.get(mine.dtype, 2e-2) * (1 + float(wide.abs().max())):
            worst = max(worst, error)
    return f"outputs differ by {worst:.2}" if worst else ""


def trials(model: nn.Module, arguments: Arguments) -> Iterator[tuple[Arguments, list[Tensor]]]:
    """The example, two random inputs like it, and one twice as long, with the outputs that the model gives them.

    The longer one is left out where the model does not take it.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = [like(arguments, generator) for _ in range(2)]
    for tried in (arguments, *drawn):
        yield tried, run(model, tried)
    longer = _mapped(arguments, lambda tensor: torch.cat([tensor, tensor.flip(0)]) if tensor.ndim else tensor)
    try:
        outputs = run(model, longer)
    except Exception:
        return
    yield longer, outputs


def like(arguments: Arguments, generator: torch.Generator) -> Arguments:
    """Random floats of the same mean and spread; of other tensors the same values in another order."""

    def draw(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            values = tensor.double().cpu()
            noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
            spread = values.std() if values.numel() > 1 else torch.ones(())
            return (values.mean() + noise * (spread + 0.1)).to(tensor)
        order = torch.randint(tensor.numel(), (tensor.numel(),), generator=generator).to(tensor.device)
        return tensor.flatten()[order].view_as(tensor)

    drawn: Arguments = _mapped(arguments, draw)
    return drawn


def _mapped(entry: Any, change: Any) -> Any:
    if isinstance(entry, Tensor):
        return change(entry)
    if isinstance(entry, dict):
        return {name: _mapped(value, change) for name, value in entry.items()}
    if isinstance(entry, list | tuple) and type(entry) in (list, tuple):
        return type(entry)(_mapped(value, change) for value in entry)
    return entry
