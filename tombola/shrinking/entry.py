"""`tombola.shrink`: a mask's superfluous units cut out of a copy of the user's model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.shrinking.checking import as_arguments, difference, first_line, masked_copy, require_runs, run, trials
from tombola.shrinking.flow import Staying, solve
from tombola.shrinking.report import Shrunk
from tombola.shrinking.surgery import cut
from tombola.shrinking.tracing import Arguments, Trace, trace
from tombola.shrinking.values import Book
from tombola.shrinking.walking import walk
from tombola.training.places import bare

__all__ = ["shrink"]


def shrink(
    model: nn.Module,
    mask: Mask,
    example: Tensor | Sequence[object] | dict[str, object],
    inputs: Literal["keep", "gather"] = "keep",
    strict: bool = False,
) -> Shrunk:
    """Cut out of a copy of `model` what cannot matter under `mask`; the outputs stay the same, to rounding.

    A unit that nothing reads goes. A unit that reads nothing is a constant: its value goes into the biases behind it,
    b' = b + W c, and the unit goes too. Both are followed through batch norm, pooling, padding, flatten, sums,
    products, concatenation and grouped convolutions; what is not understood, or is used twice, stays whole and is
    named. Exact in eval mode and for finite activations. Constants depend on biases, which training would move: a
    smaller network trains otherwise.

    The coupling of channels is that of `DependencyGraph` (Fang et al. 2023, arXiv:2301.12900), which removes what it is
    told to; which units are superfluous, and what their constants add, is found here by abstract interpretation.

    Args:
        model: stays as it is. It is traced by `torch.export` in eval mode.
        mask: its tensors are named as by `model.named_parameters()`.
        example: what the model is called with: a tensor, a tuple of arguments, or a dict of arguments by name. The
            smaller network is compared on it and on random inputs like it, and takes the batch sizes that the model
            does.
        inputs: "gather": where a first layer reads only some of the network's inputs, put a `Gather` (`index_select`)
            before it; the layer `fc1` becomes `Sequential(Gather, fc1)`.
        strict: raise where less is cut than the mask allows because a model cannot be followed or cannot be cut so.

    Returns:
        The smaller network, in eval mode, and the map of what went.

    Raises:
        UsageError: the mask or the example does not fit the model; with `strict` also a fallback.

    >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> mask = Mask({"0.weight": torch.tensor([[True, True, False], [False] * 3]), "2.weight": torch.ones(1, 2) > 0})
    >>> small = shrink(net, mask, torch.ones(4, 3))
    >>> small.model[0], small.gone
    (Linear(in_features=3, out_features=1, bias=True), {'0.weight': {1: 'constant'}})
    """
    if inputs not in ("keep", "gather"):
        raise UsageError(f"inputs={inputs!r}; expected 'keep' or 'gather'.")
    if not isinstance(model, nn.Module):
        raise UsageError(f"The model is a {type(model).__name__}; expected a torch.nn.Module.")
    arguments = as_arguments(example)
    masked = masked_copy(bare(model), mask)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        require_runs(masked, arguments)
        result = _shrunk(masked, mask, arguments, gather=inputs == "gather")
    if strict and result.fallback:
        raise UsageError(
            f"{type(masked).__name__} was not shrunk as far as its mask allows: {result.fallback}. "
            f"With strict=False what can be had is returned."
        )
    return result


def _shrunk(masked: nn.Module, mask: Mask, arguments: Arguments, *, gather: bool) -> Shrunk:
    """Follow everything; if that fails, let reshapes keep their sizes; if that fails, give the model back whole."""
    before = _size(masked)
    if why := difference(run(masked, arguments), run(masked, arguments)):
        return _whole(masked, mask, f"the model gives other outputs each time in eval mode ({why})")
    try:
        found = trace(masked, arguments)
    except Exception as error:
        return _whole(masked, mask, f"torch.export cannot follow it ({first_line(error)})")
    causes: list[str] = []
    for follow, choose in [(True, True), (True, False), (False, True), (False, False)]:
        if choose and not gather:
            continue
        book = walk(found, follow=follow, gather=choose)
        staying = solve(book)
        try:
            small, kept = cut(copy.deepcopy(masked), book, staying)
            why = _check(masked, small, arguments) or ("it would be larger" if _size(small) > before else "")
        except Exception as error:
            why = first_line(error)
        if why:
            causes.append(why)
            continue
        left = ["reshapes keep their sizes"] * (not follow) + ["the inputs are not gathered"] * (gather and not choose)
        return Shrunk(
            model=small,
            kept=kept,
            gone={name: units for name in book.made if (units := _gone(book, staying, name))},
            whole=_held(found, book, staying, mask),
            fallback=f"{' and '.join(left)}, for otherwise: {causes[0]}" if causes else "",
            before=before,
            after=_size(small),
        )
    return _whole(masked, mask, f"a smaller network is not the same: {causes[-1]}")


def _check(masked: nn.Module, small: nn.Module, arguments: Arguments) -> str:
    for tried, expected in trials(masked, arguments):
        if why := difference(expected, run(small, tried)):
            return why
    return ""


def _gone(book: Book, staying: Staying, name: str) -> dict[int, str]:
    units, constant = book.made[name]
    gone = (~staying.of(units)).nonzero().flatten().tolist()
    return {at: "constant" if bool(constant[at]) else "no outputs" for at in gone}


def _held(found: Trace, book: Book, staying: Staying, mask: Mask) -> dict[str, str]:
    """Masked weights that structure holds, with the reason; what is an output of the model is no such reason."""
    held = {}
    names = {weight.name: weight for weight in found.weights.values()}
    for name in mask:
        if name not in names:
            held[name] = "not met in the network's operations under this name"
        elif name in book.whole:
            held[name] = book.whole[name]
        elif name in book.made:
            why = staying.why(book.made[name][0])
            if why and why != "an output of the model":
                held[name] = why
    return held


def _whole(masked: nn.Module, mask: Mask, why: str) -> Shrunk:
    size = _size(masked)
    return Shrunk(model=masked, kept={}, gone={}, whole=dict.fromkeys(mask, why), fallback=why, before=size, after=size)


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
