"""The one place where masks meet a training loop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from tombola.errors import UsageError
from tombola.masks import Mask

__all__ = ["apply_mask", "enforce"]

_INTEGER = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Places:
    """Integer images of a mask (-1 kept, 0 pruned), one for each device and width, made when first needed."""

    def __init__(self, kept: Tensor) -> None:
        self._kept = kept
        self._images: dict[tuple[torch.device, int], Tensor] = {}

    def clear(self, values: Tensor) -> None:
        """Set the pruned places of `values` to exactly 0, in place.

        A bitwise AND, as fast as a float multiply, and right for inf and NaN (0 x inf is NaN).
        """
        width = values.element_size()
        at = (values.device, width)
        if at not in self._images:
            self._images[at] = self._kept.to(values.device).to(_INTEGER[width]).neg_()
        values.view(_INTEGER[width]).bitwise_and_(self._images[at])


def _masked(model: nn.Module, mask: Mask) -> dict[nn.Parameter, _Places]:
    named = dict(model.named_parameters())
    mask.require(named)
    for name in mask:
        if not named[name].is_floating_point():
            raise UsageError(f"{name!r} has dtype {named[name].dtype}; only real floating-point weights can be masked.")
    return {named[name]: _Places(kept) for name, kept in mask.sparse().items()}


@torch.no_grad()
def apply_mask(model: nn.Module, mask: Mask) -> None:
    """Set the pruned weights of `model` to exactly 0, in place.

    Raises:
        UsageError: the mask names a tensor that the model does not have, or has in another shape.
    """
    for weight, places in _masked(model, mask).items():
        places.clear(weight)


@contextmanager
def enforce(model: nn.Module, optimizer: torch.optim.Optimizer, mask: Mask, *, remask: bool = True) -> Iterator[None]:
    """Inside this context a pruned weight does not exist: w = m * w, g = m * g, optimizer state = m * state, always.

    Weights and existing optimizer state are masked once on entry, gradients as they are accumulated (so that a norm
    never sees a pruned one) and, where they came or were changed by another way, before the step; weights again after
    each step. It adds no wrapper, no parametrization and no buffer: `state_dict()` stays the user's own, and hooks are
    gone afterwards whatever happened. The training loop needs no change.

    Args:
        model: holds the masked tensors under the names of the mask.
        optimizer: any that steps on the model's parameters. On a CPU prefer `fused=True`: default Adam is slow on the
            exact zeros of masked gradients.
        mask: which weights exist.
        remask: mask weights after each step too. False where nothing but SGD, Adam or AdamW writes them: from a zero
            weight, gradient and state they make exactly 0, and the pass over all weights is saved.

    Raises:
        UsageError: the mask does not fit the model, or a masked weight has sparse gradients.

    >>> model = nn.Linear(4, 2)
    >>> mask = Mask({"weight": torch.tensor([[True, False, True, False]] * 2)})
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> with enforce(model, optimizer, mask):
    ...     for _ in range(3):
    ...         optimizer.zero_grad()
    ...         model(torch.ones(1, 4)).sum().backward()
    ...         optimizer.step()
    >>> model.weight[:, 1].tolist()
    [0.0, 0.0]
    """
    masked = _masked(model, mask)
    arrived: dict[nn.Parameter, tuple[Tensor, int]] = {}  # gradients as the hook left them, with their versions

    def on_gradient(weight: Tensor) -> None:
        _clear_gradient(weight, masked[weight])  # type: ignore[index]
        if weight.grad is not None:
            arrived[weight] = weight.grad, weight.grad._version  # type: ignore[index]

    @torch.no_grad()
    def before_step(*_: object) -> None:
        for weight, places in masked.items():
            gradient, version = arrived.get(weight, (None, 0))
            # autograd.grad and hand-written gradients fire no hook; noise may have been added since
            if gradient is None or gradient is not weight.grad or gradient._version != version:
                _clear_gradient(weight, places)
        arrived.clear()

    @torch.no_grad()
    def after_step(*_: object) -> None:
        for weight, places in masked.items():
            places.clear(weight)

    def clear_state(*_: object) -> None:
        for weight, places in masked.items():
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape and value.is_floating_point():
                    places.clear(value)

    with ExitStack() as hooks:
        for weight in masked:
            hooks.callback(_first_hook(weight, on_gradient).remove)
        hooks.callback(optimizer.register_step_pre_hook(before_step).remove)
        if remask:
            hooks.callback(optimizer.register_step_post_hook(after_step).remove)
        hooks.callback(optimizer.register_load_state_dict_post_hook(clear_state).remove)
        before_step()
        after_step()
        clear_state()
        try:
            yield
        finally:
            after_step()


def _clear_gradient(weight: Tensor, places: _Places) -> None:
    gradient = weight.grad
    if gradient is None:
        return
    if gradient.layout is not torch.strided:
        raise UsageError("A masked weight has a sparse gradient; build its layer with sparse=False.")
    places.clear(gradient)


def _first_hook(weight: nn.Parameter, hook: object) -> torch.utils.hooks.RemovableHandle:
    """Register a post-accumulate hook in front of those that are there: optimizer-in-backward users have one."""
    wanted = weight.requires_grad
    weight.requires_grad_(True)  # a frozen weight may be unfrozen later; its hook then works
    handle: torch.utils.hooks.RemovableHandle = weight.register_post_accumulate_grad_hook(hook)
    weight.requires_grad_(wanted)
    hooks: OrderedDict[int, object] = weight._post_accumulate_grad_hooks  # type: ignore[assignment]
    others = [(key, other) for key, other in hooks.items() if key != handle.id]
    for key, other in others:  # torch goes by the order of insertion; move_to_end does not change that
        del hooks[key]
        hooks[key] = other
    return handle
