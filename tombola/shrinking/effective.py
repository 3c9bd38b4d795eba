"""Effective weights: those that lie on some path from an input of the network to an output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tombola.masks import Mask
from tombola.shrinking.checking import as_arguments, first_line, masked_copy, require_runs
from tombola.shrinking.flow import Staying, solve
from tombola.shrinking.tracing import Trace, trace
from tombola.shrinking.values import Book
from tombola.shrinking.walking import walk
from tombola.training.places import bare

__all__ = ["Effective", "effective", "follow"]


@dataclass(frozen=True, kw_only=True)
class Effective:
    """Which of the kept weights matter.

    Args:
        mask: the kept weights that lie on a path from an input to an output; None: the network cannot be followed.
        reason: why it is None, else empty.
        whole: weight -> what stood in the way of following it; of these `mask` may keep too many, never too few.
    """

    mask: Mask | None
    reason: str = ""
    whole: Mapping[str, str] = field(default_factory=dict)


def effective(model: nn.Module, mask: Mask, example: Tensor | Sequence[object] | dict[str, object]) -> Effective:
    """The kept weights that lie on some path of kept weights from an input of the network to an output.

    A kept weight counts if what it reads depends on the input and if what it adds to reaches an output. Biases start no
    path. Only mask and architecture matter, no values: a weight that happens to be 0 is kept, and ReLUs let pass.
    Channels are followed, so that places of one picture are not told apart, by the rules of `shrink`; through what they
    do not know (attention, recurrence, normalisation over channels) everything is taken to reach everything.

    Args:
        model: stays as it is. It is traced by `torch.export` in eval mode.
        mask: its tensors are named as by `model.named_parameters()`.
        example: what the model is called with, as for `shrink`.

    Returns:
        The mask of these weights, which is within `mask`; or why there is none.

    Raises:
        UsageError: the mask or the example does not fit the model.

    Source: effective sparsity, Vysogorets and Kempe 2023 (JMLR 24, arXiv:2107.02306), there for chains of layers.

    >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> mask = Mask({"0.weight": torch.ones(2, 3) > 0, "2.weight": torch.tensor([[True, False]])})
    >>> effective(net, mask, torch.ones(4, 3)).mask.kept  # nobody reads the second unit
    {'0.weight': 3, '2.weight': 1}
    """
    return follow(model, mask, example)(mask)


def follow(
    model: nn.Module, mask: Mask, example: Tensor | Sequence[object] | dict[str, object]
) -> Callable[[Mask], Effective]:
    """`effective` for many masks of one network, which is traced once.

    Args:
        model, example: as for `effective`.
        mask: any mask of the network, for its names and shapes.

    Raises:
        UsageError: as `effective`; the function that is returned: another mask does not fit the model.
    """
    arguments = as_arguments(example)
    ours = masked_copy(bare(model), mask)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        require_runs(ours, arguments)
        try:
            _as_mask(ours, mask)
            found = trace(ours, arguments)
        except Exception as error:  # torch.export raises anything
            reason = f"torch.export cannot follow it ({first_line(error)})"
            return lambda mask: Effective(mask=None, reason=reason)

    def reached(mask: Mask) -> Effective:
        mask.require(dict(ours.named_parameters()))
        _as_mask(ours, mask)  # the trace reads the weights of this copy
        try:
            book = walk(found, follow=True, gather=False, paths=True)
        except Exception as error:
            return Effective(mask=None, reason=f"it cannot be followed ({first_line(error)})")
        return _reached(found, book, mask)

    return reached


def _reached(found: Trace, book: Book, mask: Mask) -> Effective:
    book.tensors.clear()  # what stays for a shape only is on no path
    staying = solve(book)
    whole = _unfollowed(found, book, mask)
    reached = {name: kept if name in whole else torch.zeros_like(kept) for name, kept in mask.items()}
    for use in book.readings:
        if use.weight in mask and use.weight not in whole:
            on_path = staying.of(use.outputs) & use.alive
            kept = mask[use.weight]
            reached[use.weight] |= kept & on_path.view(*on_path.shape, *[1] * (kept.ndim - 2))
    return Effective(mask=Mask(reached), whole=whole | _held(book, staying, mask, whole))


@torch.no_grad()
def _as_mask(model: nn.Module, mask: Mask) -> None:
    """Every weight becomes 1, pruned ones 0: so that no value is taken for a place."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            parameter.copy_(mask[name]) if name in mask else parameter.fill_(1)


def _unfollowed(found: Trace, book: Book, mask: Mask) -> dict[str, str]:
    """Masked weights that are used otherwise than by a layer that is followed."""
    uses: Counter[str] = Counter()
    for node in found.graph.nodes:
        if node.name in found.weights:
            uses[found.weights[node.name].name] += len(node.users)
    followed = Counter(use.weight for use in book.readings)
    known = {weight.name for weight in found.weights.values()}
    whole = {}
    for name in mask:
        if name not in known:
            whole[name] = "not met in the network's operations under this name"
        elif uses[name] > followed[name]:
            whole[name] = book.whole.get(name, "used otherwise than as the weight of a layer")
    return whole


def _held(book: Book, staying: Staying, mask: Mask, whole: Mapping[str, str]) -> dict[str, str]:
    """Masked weights whose outputs something reads that is not followed."""
    held = {}
    for name in mask:
        if name in book.made and name not in whole:
            why = staying.why(book.made[name][0])
            if why and why != "an output of the model":
                held[name] = why
    return held
