"""The one place where masks meet a training loop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tombola.errors import hint
from tombola.masks import Mask
from tombola.training.places import Places, masked_parameters
from tombola.training.slots import Held, clear_slots

__all__ = ["apply_mask", "enforce"]


@torch.no_grad()
def apply_mask(model: nn.Module, mask: Mask) -> None:
    """Set the pruned weights of `model` to exactly 0, in place.

    Raises:
        UsageError: the mask names a tensor that the model does not have, or has in another shape.

    >>> layer = nn.Linear(2, 1)
    >>> apply_mask(layer, Mask({"weight": torch.tensor([[True, False]])}))
    >>> layer.weight[0, 1].item()
    0.0
    """
    for weight, places in masked_parameters(model, mask).items():
        places.clear(weight)


@contextmanager
def enforce(model: nn.Module, optimizer: Optimizer | None, mask: Mask, *, remask: bool = True) -> Iterator[None]:
    """Inside this context a pruned weight does not exist: w = m * w, g = m * g, optimizer state = m * state, always.

    Weights and existing optimizer state are masked once on entry, gradients as they are accumulated (so that a norm
    never sees a pruned one) and, where they came or were changed by another way, before the step; weights again after
    each step, and on leaving. It adds no wrapper, no parametrization and no buffer: `state_dict()` stays the user's
    own, and hooks are gone afterwards whatever happened. The training loop needs no change. What code other than an
    optimizer writes into pruned weights is cleared by the next step. A norm that is clipped from gradients of
    `torch.autograd.grad` has seen the pruned ones: such gradients are masked only before the step.

    Args:
        model: holds the masked tensors under the names of the mask.
        optimizer: the one that steps on the model's parameters; None: every optimizer that does, also those that the
            loop makes later. On a CPU prefer `fused=True`: default Adam is slow on the exact zeros of masked gradients.
        mask: which weights exist.
        remask: mask weights after each step too. False where nothing but SGD, Adam or AdamW writes them: from a zero
            weight, gradient and state they make exactly 0, and the pass over all weights is saved.

    Raises:
        UsageError: the mask does not fit the model, or a parameter cannot carry one.

    >>> model = nn.Linear(4, 2)
    >>> mask = Mask({"weight": torch.tensor([[True, False, True, False]] * 2)})
    >>> with enforce(model, None, mask):
    ...     optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    ...     for _ in range(3):
    ...         optimizer.zero_grad()
    ...         model(torch.ones(1, 4)).sum().backward()
    ...         optimizer.step()
    >>> model.weight[:, 1].tolist()
    [0.0, 0.0]
    """
    masked = masked_parameters(model, mask)
    arrived: dict[nn.Parameter, tuple[Tensor, int]] = {}  # gradients as the hook left them, with their versions
    known: WeakKeyDictionary[Optimizer, tuple[int, Held]] = WeakKeyDictionary()

    def on_gradient(weight: Tensor) -> None:
        _clear_gradient(weight, masked[weight])  # type: ignore[index]
        if weight.grad is not None:
            arrived[weight] = weight.grad, weight.grad._version  # type: ignore[index]

    def held_by(stepping: Optimizer) -> Held:
        """The masked weights of an optimizer; when it is first seen, or has grown, its state is masked too."""
        count, held = known.get(stepping, (-1, []))
        now = sum(len(group["params"]) for group in stepping.param_groups)
        if count != now:
            first = not held
            held = [(w, masked[w]) for group in stepping.param_groups for w in group["params"] if w in masked]
            known[stepping] = now, held
            if held and first:
                hooks.callback(stepping.register_load_state_dict_post_hook(clear_state).remove)
                _advise(stepping)
            clear_state(stepping)
        return held

    def clear_state(stepping: Optimizer) -> None:
        clear_slots(stepping, held_by(stepping))

    def clear_gradients(held: Held) -> None:
        for weight, places in held:
            gradient, version = arrived.pop(weight, (None, 0))
            # autograd.grad and hand-written gradients fire no hook; noise may have been added since
            if gradient is None or gradient is not weight.grad or gradient._version != version:
                _clear_gradient(weight, places)

    @torch.no_grad()
    def before_step(stepping: Optimizer, *_: object) -> None:
        clear_gradients(held_by(stepping))

    @torch.no_grad()
    def after_step(stepping: Optimizer, *_: object) -> None:
        for weight, places in held_by(stepping):
            places.clear(weight)

    @torch.no_grad()
    def clear_weights() -> None:
        for weight, places in masked.items():
            places.clear(weight)

    with ExitStack() as hooks:
        for weight in masked:
            hooks.callback(_first_hook(weight, on_gradient).remove)
        before = register_optimizer_step_pre_hook if optimizer is None else optimizer.register_step_pre_hook
        after = register_optimizer_step_post_hook if optimizer is None else optimizer.register_step_post_hook
        hooks.callback(before(before_step).remove)
        if remask:
            hooks.callback(after(after_step).remove)
        with torch.no_grad():
            clear_gradients(list(masked.items()))
        clear_weights()
        if optimizer is not None:
            held_by(optimizer)
        try:
            yield
        finally:
            clear_weights()


def _clear_gradient(weight: Tensor, places: Places) -> None:
    gradient = weight.grad
    if gradient is None:
        return
    if gradient.layout is torch.strided:
        places.clear(gradient)
    else:
        places.clear_sparse(gradient)


def _advise(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        on_cpu = any(parameter.device.type == "cpu" for parameter in group["params"])
        if isinstance(optimizer, torch.optim.Adam) and on_cpu and not group.get("fused"):
            hint("Adam is slow on the exact zeros of a masked network unless it is made with fused=True.")


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
