"""Whether what was exported computes what the model computes, by trying."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from tombola.errors import UsageError
from tombola.exporting.still import longer
from tombola.shrinking.checking import difference, first_line, like, run
from tombola.shrinking.tracing import Arguments

__all__ = ["TOLERANCES", "apart", "compared"]

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
"""dtype of an output -> largest difference, relative to its largest number; half precision and others: 2e-2."""

_LEAST = 1e-3  # numbers smaller than this are no scale


def compared(
    model: nn.Module, arguments: Arguments, call: Callable[[Arguments], list[Tensor]], what: str, *, twice: bool
) -> float:
    """The largest difference between `model` and `call`, on the example and on two random inputs like it.

    Args:
        model: in eval mode.
        call: the exported network, as a function of the arguments.
        what: runs it, for messages.
        twice: try a batch twice as long too.

    Returns:
        max |a - b| / max |a| over all outputs, where max |a| counts as 0.001 at least.

    Raises:
        UsageError: it is beyond `TOLERANCES`, shapes differ, `call` fails, or the model is not the same function twice.
    """
    name = type(model).__name__
    with torch.random.fork_rng(devices=[]):
        if why := difference(run(model, arguments), run(model, arguments)):
            raise UsageError(f"{name} gives other outputs each time in eval mode ({why}); what it does cannot be kept.")
        worst = 0.0
        for tried, expected in _tried(model, arguments, twice=twice):
            try:
                got = call(tried)
            except Exception as error:
                shapes = [tuple(tensor.shape) for tensor in expected]
                raise UsageError(f"{what} fails where {name} gives outputs {shapes}: {first_line(error)}") from error
            worst = max(worst, _checked(expected, got, what, name))
    return worst


def _tried(model: nn.Module, arguments: Arguments, *, twice: bool) -> Iterator[tuple[Arguments, list[Tensor]]]:
    """Inputs and the model's outputs; of what is not the user's own, only what the model takes."""
    yield arguments, run(model, arguments)
    generator = torch.Generator().manual_seed(0)
    for tried in (like(arguments, generator), like(arguments, generator), *([longer(arguments)] if twice else [])):
        with contextlib.suppress(Exception):
            yield tried, run(model, tried)


def _checked(expected: list[Tensor], got: list[Tensor], what: str, name: str) -> float:
    if [tensor.shape for tensor in expected] != [tensor.shape for tensor in got]:
        shapes = [[tuple(tensor.shape) for tensor in one] for one in (expected, got)]
        raise UsageError(f"{name} gives outputs of the shapes {shapes[0]}, {what} of {shapes[1]}; no file was written.")
    worst = 0.0
    for number, (mine, theirs) in enumerate(zip(expected, got, strict=True)):
        found, allowed = apart(mine, theirs), TOLERANCES.get(mine.dtype, 2e-2)
        if not found <= allowed:
            raise UsageError(
                f"{what} and torch differ by {found:.1e} of the largest number in output {number} of {name}; expected "
                f"{allowed:.0e} at most. No file was written; leave the operation behind it out of the exported part, "
                f"or write it all the same with check=False."
            )
        worst = max(worst, found)
    return worst


def apart(one: Tensor, other: Tensor) -> float:
    """max |one - other| / max(|one|, 0.001); infinite where only one of them is not a finite number.

    >>> apart(torch.tensor([2.0, 4.0]), torch.tensor([2.0, 3.0]))
    0.25
    """
    if not one.numel():
        return 0.0
    mine, theirs = one.double(), other.double()
    odd = ~mine.isfinite()
    if not torch.equal(mine[odd].nan_to_num(), theirs[odd].nan_to_num()) or not bool(theirs[~odd].isfinite().all()):
        return float("inf")
    mine, theirs = mine.masked_fill(odd, 0), theirs.masked_fill(odd, 0)
    return float((mine - theirs).abs().max()) / max(float(mine.abs().max()), _LEAST)
