"""Tensors of several trainings as one tensor of one more dimension: modules, masks, and norms clipped by themselves."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tombola.masks import Mask
from tombola.training.state import State

__all__ = ["clip_lanes", "stacked_masks", "stacked_module"]


def stacked_module(model: nn.Module, states: Sequence[State]) -> nn.Module:
    """A copy of `model` whose parameters and buffers hold one value behind the other; not to be called itself.

    It carries the names, so that masks, optimizers and `state_dict` meet it as they meet any module.

    >>> layer = nn.Linear(3, 2)
    >>> stacked_module(layer, [layer.state_dict()] * 4).weight.shape
    torch.Size([4, 2, 3])
    """
    made, new = copy.deepcopy(model), dict[int, Tensor]()

    def stacked(name: str, value: Tensor) -> Tensor:
        rows = [state.get(name, value).to(value) for state in states]  # a buffer may be in no state
        return torch.stack(rows).detach()

    for name, weight in model.named_parameters():
        new[id(weight)] = nn.Parameter(stacked(name, weight), requires_grad=weight.requires_grad)
    for name, buffer in model.named_buffers():
        new[id(buffer)] = stacked(name, buffer)
    for path, inner in model.named_modules(remove_duplicate=False):
        for leaf, value in [*inner.named_parameters(recurse=False), *inner.named_buffers(recurse=False)]:
            setattr(made.get_submodule(path), leaf, new[id(value)])  # tied tensors stay tied
    return made


def stacked_masks(masks: Sequence[Mask | None], shapes: Mapping[str, tuple[int, ...]]) -> Mask | None:
    """One mask of stacked tensors; None where nothing is pruned. A network without a mask, or a tensor that its mask
    does not name, is whole.

    >>> mask = Mask({"weight": torch.tensor([True, False])})
    >>> stacked_masks([mask, None], {"weight": (2,)})["weight"].tolist()
    [[True, False], [True, True]]
    """
    names = dict.fromkeys(name for mask in masks if mask is not None for name in mask)
    if not names:
        return None
    whole = {name: torch.ones(shapes[name], dtype=torch.bool) for name in names}
    return Mask({n: torch.stack([(mask or whole).get(n, kept) for mask in masks]) for n, kept in whole.items()})


def clip_lanes(gradients: Sequence[Tensor], largest: float) -> None:
    """As `nn.utils.clip_grad_norm_`, with a norm for each lane: g = g * min(1, largest / (norm + 1e-6))."""
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factors = (largest / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
