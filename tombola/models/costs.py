"""What one weight costs: how often it is multiplied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tombola.streams import seeded

__all__ = ["uses_per_weight"]


@torch.no_grad()
def uses_per_weight(model: nn.Module, *args: Any, **kwargs: Any) -> dict[str, int]:
    """name of a weight tensor -> multiply-adds with each one of its weights in one call.

    For one example: 1 for a linear layer on flat inputs, the number of output places for a convolution, the number of
    steps for a recurrent layer, the number of tokens for an attention projection. A weight in another kind of layer, or
    used without its layer being called, is left out. The model's mode is put back.

    Args:
        args, kwargs: what the model is called with; a batch of one for the uses of one example.

    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 8 * 8, 10))
    >>> uses_per_weight(model, torch.zeros(1, 1, 8, 8))
    {'0.weight': 64, '2.weight': 1}
    """
    uses: dict[str, int] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def note(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: object) -> None:
        for weight, count in _uses(module, inputs, keywords, output):
            if isinstance(weight, Tensor) and id(weight) in names:
                name = names[id(weight)]
                uses[name] = uses.get(name, 0) + count

    layers = [m for m in model.modules() if isinstance(m, _KINDS) or _is_conv1d(m)]
    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    mode = model.training
    try:
        with seeded(0):
            model.eval()(*args, **kwargs)
    finally:
        model.train(mode)
        for hook in hooks:
            hook.remove()
    return uses


_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_KINDS = (
    *(nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd),
    *(nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention),
)


def _is_conv1d(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers.")


def _uses(
    module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: object
) -> Iterator[tuple[object, int]]:
    """Each weight of a layer, and how often one call uses it."""
    first = inputs[0] if inputs else next(iter(keywords.values()), None)
    if isinstance(module, nn.RNNBase):
        data = getattr(first, "data", first)  # of a packed sequence its data
        for name, weight in module.named_parameters(recurse=False):
            if name.startswith("weight_") and isinstance(data, Tensor):
                yield weight, data.numel() // module.input_size
    elif isinstance(module, nn.RNNCellBase):
        for name in ("weight_ih", "weight_hh"):
            if isinstance(first, Tensor):
                yield getattr(module, name), first.numel() // module.input_size
    elif isinstance(module, nn.MultiheadAttention):
        yield from _attention(module, inputs, keywords)
    elif isinstance(output, Tensor):
        matrix: Tensor = module.weight  # type: ignore[assignment]
        channels = matrix.shape[0]
        if isinstance(module, _TRANSPOSED):
            channels = matrix.shape[1] * module.groups
        elif _is_conv1d(module):
            channels = matrix.shape[1]
        yield matrix, output.numel() // max(1, channels)


def _attention(
    module: nn.MultiheadAttention, inputs: tuple[Any, ...], keywords: dict[str, Any]
) -> Iterator[tuple[object, int]]:
    """The projections; one weight for queries, keys and values only where there are as many of each."""
    given = [*inputs[:3], *(keywords[name] for name in ("query", "key", "value") if name in keywords)]
    if len(given) != 3 or not all(isinstance(tensor, Tensor) for tensor in given):
        return
    tokens = [tensor.numel() // max(1, tensor.shape[-1]) for tensor in given]
    if len(set(tokens)) == 1:
        yield module.in_proj_weight, tokens[0]
    yield from zip((module.q_proj_weight, module.k_proj_weight, module.v_proj_weight), tokens, strict=True)
    yield module.out_proj.weight, tokens[0]
