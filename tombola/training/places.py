"""Where a mask acts: its integer images, and the parameters that can carry one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tombola.errors import UsageError
from tombola.masks import Mask, a_mask

__all__ = ["Places", "bare", "check_model", "masked_parameters"]

_INTEGER = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Places:
    """Integer images of a mask (-1 kept, 0 pruned), one for each device and width, made when first needed."""

    def __init__(self, kept: Tensor) -> None:
        self._kept = kept
        self._images: dict[tuple[torch.device, int, tuple[int, ...]], Tensor] = {}

    def _image(self, values: Tensor) -> Tensor:
        """In the memory format of the values: two formats in one operation cost several times as much."""
        width = values.element_size()
        at = (values.device, width, values.stride())
        if at not in self._images:
            image = torch.empty_like(values, dtype=_INTEGER[width])
            self._images[at] = image.copy_(self._kept).neg_()
        return self._images[at]

    def clear(self, values: Tensor) -> None:
        """Set the pruned places of `values` to exactly 0, in place.

        A bitwise AND, as fast as a float multiply, and right for inf and NaN (0 x inf is NaN).
        """
        image = self._image(values)
        values.view(image.dtype).bitwise_and_(image)

    def clear_sparse(self, values: Tensor) -> None:
        """The same for the stored values of a sparse tensor, as `nn.Embedding(sparse=True)` has for a gradient."""
        if values.layout is not torch.sparse_coo:
            raise UsageError(f"A masked weight has a gradient of layout {values.layout}; expected strided or COO.")
        stored = values._values()
        image = self._kept.to(stored.device)[tuple(values._indices())].to(_INTEGER[stored.element_size()]).neg_()
        stored.view(image.dtype).bitwise_and_(image)

    def hides(self, values: Tensor) -> bool:
        """Whether every pruned place of `values` is 0 (or -0.0, which is equal to it)."""
        return not bool(values[~self._kept.to(values.device)].any())


def bare(model: nn.Module) -> nn.Module:
    """The user's own module within `torch.compile` and data-parallel wrappers, which put a prefix before its names.

    >>> layer = nn.Linear(2, 1)
    >>> bare(nn.DataParallel(layer)) is layer, bare(layer) is layer
    (True, True)
    """
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        compiled = type(model).__name__ == "OptimizedModule"  # of torch._dynamo, whose import takes seconds
        inner = model.module if isinstance(model, wrappers) else getattr(model, "_orig_mod", None) if compiled else None
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def check_model(model: nn.Module) -> None:
    """Refuse what is no module, and tensors without values of their own: lazy, meta, sharded and expanded ones.

    Raises:
        UsageError: names the first one, and what to do.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"The model is a {type(model).__name__}; expected a torch.nn.Module.")
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(value):
            raise UsageError(f"{name!r} is lazy and has no shape yet; run one batch through the model first.")
        if value.is_meta:
            raise UsageError(f"{name!r} is on the meta device and has no values; give it some with model.to_empty().")
        if hasattr(value, "placements"):
            raise UsageError(
                f"{name!r} is a DTensor (FSDP2, tensor parallelism), of which a process has a part only; "
                f"use DistributedDataParallel."
            )
    for name, weight in model.named_parameters():
        if any(step == 0 < size - 1 for size, step in zip(weight.shape, weight.stride(), strict=True)):
            raise UsageError(
                f"{name!r} is expanded: several of its places are one number, and no mask can tell them apart; give it "
                f"numbers of its own (.clone()), or expand in forward()."
            )


def masked_parameters(model: nn.Module, mask: Mask) -> dict[nn.Parameter, Places]:
    """Every parameter of `model` in which `mask` prunes something, with the places.

    Raises:
        UsageError: the mask does not fit, or a parameter cannot carry one.
    """
    check_model(model)
    named = dict(model.named_parameters())
    a_mask(mask).require(named)
    for name in mask:
        dtype = named[name].dtype
        if not dtype.is_floating_point or dtype.itemsize not in _INTEGER:
            raise UsageError(f"{name!r} has dtype {dtype}; only real floating-point weights can be masked.")
    found = {name: named[name] for name in mask.sparse()}
    _refuse_overlaps(named, found)
    return {weight: Places(mask[name]) for name, weight in found.items()}


def _refuse_overlaps(named: dict[str, nn.Parameter], masked: dict[str, nn.Parameter]) -> None:
    """Two parameters over one storage (one is a view of the other): their masks would fight."""

    def span(weight: Tensor) -> tuple[int, int]:
        reach = sum((size - 1) * step for size, step in zip(weight.shape, weight.stride(), strict=True))
        return weight.data_ptr(), weight.data_ptr() + (reach + 1) * weight.element_size() * bool(weight.numel())

    spans = sorted((*span(weight), name) for name, weight in named.items())
    before, end = "", 0
    for first, last, name in spans:
        if first < end and (name in masked or before in masked):
            raise UsageError(
                f"{before!r} and {name!r} are two parameters over the same numbers; tie them as one parameter "
                f"(a.weight = b.weight), or transpose in forward()."
            )
        if last > end:
            before, end = name, last
