"""Whether masks, states and models fit each other, and which tensor does not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tombola.errors import TicketError
from tombola.masks import Mask
from tombola.tickets.plain import shown
from tombola.training.state import State

__all__ = ["form", "own_copy", "require_alike", "require_fit", "same_bits", "state_entries"]


_MASKED = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def own_copy(mask: Mask, state: Mapping[str, Tensor], what: str) -> State:
    """The state, detached, on the CPU and in one piece, with +0.0 where the mask prunes."""
    found: State = {}
    if not len(mask):
        raise TicketError("The mask names no tensor; take it from Mask.dense(model) or tombola.prune(...).")
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.is_meta or value.layout != torch.strided or value.is_quantized:
            kind = form(value) if isinstance(value, Tensor) else type(value).__name__
            raise TicketError(f"{what}[{shown(name)}] is {kind}; expected a dense tensor with values.")
        found[name] = value.detach().to("cpu", copy=True).contiguous()
    for name, shape in mask.shapes.items():
        if name not in found or tuple(found[name].shape) != shape:
            has = form(found[name]) if name in found else "no tensor of that name"
            raise TicketError(f"The mask has {shown(name)} with shape {shape}, but {what} has {has}.")
        if found[name].dtype not in _MASKED:
            raise TicketError(
                f"{what}[{shown(name)}] is {form(found[name])}; only real floating-point weights of 16 bits or more "
                f"can be masked."
            )
    for name, kept in mask.sparse().items():
        pruned = found[name][~kept]
        if bool((pruned != 0).any()):
            raise TicketError(
                f"{what}[{shown(name)}] is not 0 at {int((pruned != 0).sum()):,} places that the mask prunes; "
                f"set them to 0 first (tombola.apply_mask(model, mask))."
            )
        found[name].masked_fill_(~kept, 0)  # which also makes -0.0 plain
    return found


def form(value: Tensor) -> str:
    """Shape and dtype, for messages and for comparing.

    >>> form(torch.zeros(2, 3))
    'float32 (2, 3)'
    """
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def require_alike(state: State, other: State) -> None:
    """Check that two states have the same names, shapes and dtypes; `TicketError` names the first that differs."""
    for name in {**state, **other}:
        forms = [form(one[name]) if name in one else "no tensor" for one in (state, other)]
        if forms[0] != forms[1]:
            raise TicketError(f"For {shown(name)} the trained weights have {forms[0]}, the start weights {forms[1]}.")


def state_entries(model: nn.Module) -> dict[str, Tensor]:
    """What the model's `state_dict()` holds; refuses what has no values yet, or is no tensor."""
    found: dict[str, Tensor] = {}
    if not isinstance(model, nn.Module):
        raise TicketError(f"The model is a {type(model).__name__}; expected a torch.nn.Module.")
    for name, value in model.state_dict().items():
        if isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise TicketError(f"The model's {shown(name)} is not initialised (a lazy layer); run it once on an input.")
        if not isinstance(value, Tensor):
            raise TicketError(f"The model's state {shown(name)} is a {type(value).__name__}; only tensors can be kept.")
        if value.is_meta:
            raise TicketError(f"The model's {shown(name)} is on the meta device; model.to_empty(device='cpu') first.")
        found[name] = value
    return found


def require_fit(model: nn.Module, state: State) -> None:
    """Check that `state` can be written into `model` as it is.

    Raises:
        TicketError: names the first tensor that does not fit.
    """
    own = state_entries(model)
    for name in {**state, **own}:
        wanted = form(state[name]) if name in state else "nothing"
        got = form(own[name]) if name in own else "nothing"
        if wanted != got:
            same = name in state and name in own and state[name].shape == own[name].shape
            fix = f"convert it first (model.to({state[name].dtype}))" if same else "the ticket is of another model"
            raise TicketError(
                f"The ticket does not fit {type(model).__name__}: for {shown(name)} expected {wanted}, got {got}; "
                f"{fix}."
            )
    first: dict[tuple[object, ...], str] = {}
    for name, value in own.items():
        place = (value.device, value.data_ptr(), value.shape, value.stride()) if value.numel() else (name,)
        other = first.setdefault(place, name)
        if not same_bits(state[name], state[other]):
            raise TicketError(
                f"The model ties {shown(name)} to {shown(other)}, but the ticket has different values for them; "
                f"it is of a model that does not tie them."
            )


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one dtype and shape are equal bit for bit: NaN equals itself, 0.0 and -0.0 differ."""
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
