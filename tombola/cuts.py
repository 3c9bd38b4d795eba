"""What is wrong with a cut whatever the weights will be, said before anything is trained."""

from __future__ import annotations

from torch import nn

from tombola.allocation.lamp import lamp
from tombola.criteria import needs_of
from tombola.criteria.base import label_of, work_of
from tombola.criteria.looking import layers_of
from tombola.criteria.work import Size
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import ProbeSpec

__all__ = ["check_cut", "check_layers", "size_of"]


def size_of(mask: Mask, keep: int, spec: ProbeSpec) -> Size:
    """The size of a cut to `keep` weights in all, scored on such a probe."""
    return Size.of(mask, keep, batches=spec.batches, examples=spec.batches * spec.size)


def check_cut(pruner: Pruner, size: Size) -> None:
    """Refuse a cut that is too much for its criterion, and scores that the allocation cannot take.

    Raises:
        UsageError: as said.
    """
    if pruner.allocation is lamp and needs_of(pruner.criterion).signed:
        raise UsageError(
            f"The lamp allocation squares scores, so none may be below 0, and those of {label_of(pruner.criterion)} "
            f"can be; use scores such as magnitude, or the global allocation."
        )
    work_of(pruner.criterion, size)


def check_layers(pruner: Pruner, model: nn.Module, mask: Mask) -> None:
    """Refuse a network that the criterion cannot look into.

    Raises:
        UsageError: a masked weight belongs to another layer than a Linear or a convolution.
    """
    if needs_of(pruner.criterion).inside:
        layers_of(model, mask, label_of(pruner.criterion), transposed=True)
