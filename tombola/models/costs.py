"""What one weight costs: how often it is multiplied for one example."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tombola.streams import seeded

__all__ = ["uses_per_weight"]


@torch.no_grad()
def uses_per_weight(model: nn.Module, example: Tensor) -> dict[str, int]:
    """name of a weight tensor -> multiply-adds for one example and one of its weights.

    1 for a linear layer on flat inputs, the number of output places for a convolution. A weight in another kind of
    layer is left out. The model's mode is put back.

    Args:
        example: a batch of one input that the model takes.

    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 8 * 8, 10))
    >>> uses_per_weight(model, torch.zeros(1, 1, 8, 8))
    {'0.weight': 64, '2.weight': 1}
    """
    uses: dict[str, int] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def note(module: nn.Module, inputs: object, output: object) -> None:
        weight = module.weight
        if isinstance(output, Tensor) and isinstance(weight, Tensor) and id(weight) in names:
            channels = weight.shape[1] * module.groups if isinstance(module, _TRANSPOSED) else weight.shape[0]
            name = names[id(weight)]
            uses[name] = uses.get(name, 0) + output.numel() // int(channels)

    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    mode = model.training
    try:
        with seeded(0):
            model.eval()(example)
    finally:
        model.train(mode)
        for hook in hooks:
            hook.remove()
    return uses


_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
