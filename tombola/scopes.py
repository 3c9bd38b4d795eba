"""Scopes: which tensors of a module may be pruned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parameter import is_lazy

from tombola.errors import UsageError, suggest

__all__ = ["Scope", "prunable"]

_WEIGHT = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Which tensors may be pruned: the default kinds, less those that match a pattern of `protect`.

    Default kinds: weights with two or more dimensions of Linear, Bilinear, Conv*, RNN/LSTM/GRU, attention projections
    and Transformers' `Conv1D`. Never embeddings (nor what is tied to one), norms and biases; a tied tensor once, under
    its first name; a layer under a parametrization (weight norm, LoRA) has no such parameter and stays dense.

    Args:
        protect: shell patterns (`"*head*"`) over the names of `named_parameters()`; each must match something.
    """

    protect: tuple[str, ...] = ()


def _own_weights(module: nn.Module) -> Iterator[str]:
    kind = type(module)
    if isinstance(module, _WEIGHT):
        yield "weight"
    elif isinstance(module, nn.RNNBase):
        yield from (n for n, _ in module.named_parameters(recurse=False) if n.startswith("weight_"))
    elif isinstance(module, nn.RNNCellBase):
        yield from ("weight_ih", "weight_hh")
    elif isinstance(module, nn.MultiheadAttention):
        yield from ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    elif kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers."):
        yield "weight"


def prunable(model: nn.Module, scope: Scope) -> dict[str, nn.Parameter]:
    """name -> parameter for every tensor of `model` that `scope` allows to prune, in module order.

    Raises:
        UsageError: nothing is prunable, or a `protect` pattern matches no parameter.

    >>> list(prunable(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(4, 2)), Scope(protect=("2.*",))))
    ['0.weight']
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"The model is a {type(model).__name__}; expected a torch.nn.Module.")
    names = dict(model.named_parameters())  # a tied parameter appears once, under its first name
    embedded = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    for pattern in scope.protect:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(f"protect={pattern!r} matches no parameter. {suggest(pattern, names)}")
    found = {}
    for prefix, module in model.named_modules():
        for own in _own_weights(module):
            name = f"{prefix}.{own}" if prefix else own
            weight = names.get(name)
            if weight is not None and is_lazy(weight):
                raise UsageError(f"{name!r} is lazy and has no shape yet; run one batch through the model first.")
            if weight is None or weight.ndim < 2 or id(weight) in embedded:
                continue
            if any(fnmatchcase(name, pattern) for pattern in scope.protect):
                continue
            if not weight.is_floating_point():
                raise UsageError(f"{name!r} has dtype {weight.dtype}; only real floating-point weights can be pruned.")
            found[name] = weight
    if not found:
        raise UsageError(
            f"{type(model).__name__} has no prunable weight: expected a Linear, convolution, recurrent or attention "
            f"layer outside protect={list(scope.protect)}. Its parameters: {', '.join(list(names)[:5]) or 'none'}."
        )
    return found
