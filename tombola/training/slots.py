"""The state that optimizers keep for masked weights."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import Optimizer

from tombola.errors import hint
from tombola.training.places import Places

__all__ = ["Held", "clear_slots"]

Held = list[tuple[nn.Parameter, Places]]
"""The masked weights of one optimizer."""


def clear_slots(optimizer: Optimizer, held: Held) -> None:
    """Set what an optimizer has stored for pruned weights (momentum, moments) to exactly 0, in place.

    LBFGS keeps directions over all parameters in one vector, which no mask of a tensor fits: it starts anew, and a hint
    says so. Made under the mask, that vector has zeros by itself.
    """
    for weight, places in held:
        for value in optimizer.state.get(weight, {}).values():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.is_floating_point():
                places.clear(value)
    whole = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
    if held and any(_flat(slots, whole) for p, slots in optimizer.state.items() if p.shape != (whole,)):
        optimizer.state.clear()
        hint(f"{type(optimizer).__name__} has state from before the mask, which fits no single tensor; it was cleared.")


def _flat(slots: dict[str, object], whole: int) -> bool:
    return any(isinstance(value, Tensor) and value.shape == (whole,) for value in slots.values())
