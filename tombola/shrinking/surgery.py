"""Cutting: the parameters and buffers of the user's own modules get smaller, constants go into biases behind them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tombola.shrinking.flow import Staying
from tombola.shrinking.values import Book, Layer

__all__ = ["Gather", "cut"]


class Gather(nn.Module):
    """Takes some places of one dimension of its input.

    >>> Gather(torch.tensor([0, 2]), dim=-1)(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 3.]])
    """

    index: Tensor

    def __init__(self, index: Tensor, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        """Pick the places."""
        return x.index_select(self.dim, self.index)

    def extra_repr(self) -> str:
        """For printing."""
        return f"{len(self.index)} places, dim={self.dim}"


@torch.no_grad()
def cut(model: nn.Module, book: Book, staying: Staying) -> tuple[nn.Module, dict[str, dict[int, Tensor]]]:
    """Cut in place what does not stay; returns the model, and name -> dimension -> indices that stayed of what was cut.

    Another module is returned only where the model itself is the layer that a `Gather` comes before.
    """
    folded = {layer.bias: shift for layer in book.layers if (shift := _shift(layer, staying)) is not None}
    kept: dict[str, dict[int, Tensor]] = {}
    for entry in book.cuts:
        stays = staying.of(entry.units)
        if not bool(stays.all()):
            kept.setdefault(entry.name, {})[entry.dim] = stays.nonzero().flatten()
    for layer in book.layers:
        if layer.bias in folded:
            _fold(model, layer, folded[layer.bias], staying.of(layer.outputs))
    for name, dims in kept.items():
        _slice(model, name, dims)
    gathers = {layer.weight: layer.gather for layer in book.layers if layer.gather}
    for owner in {name.rpartition(".")[0] for name in kept}:
        _resize(model.get_submodule(owner), owner, kept)
    for weight, dim in gathers.items():
        columns = kept.get(weight, {}).get(1)
        if columns is not None:
            model = _prepend(model, weight.rpartition(".")[0], columns, dim)
    return model, kept


def _shift(layer: Layer, staying: Staying) -> Tensor | None:
    """What the constants of the columns that go add to each row: W c, in float64; None where nothing."""
    gone = ~staying.of(layer.inputs) & ~layer.constants.isnan()
    shift = layer.total[:, gone] @ layer.constants[gone]
    return shift if bool((shift[staying.of(layer.outputs)] != 0).any()) else None


def _fold(model: nn.Module, layer: Layer, shift: Tensor, rows: Tensor) -> None:
    """b' = b + W c; a layer without a bias gets one, which is never more than the column that goes."""
    owner = model.get_submodule(layer.weight.rpartition(".")[0])
    weight: Tensor = owner.get_parameter("weight")
    bias: Tensor | None = owner.bias  # type: ignore[assignment]
    before = torch.zeros_like(shift) if bias is None else bias.double().cpu()
    after = torch.where(rows, before + shift, before).to(weight)
    owner.bias = nn.Parameter(after, requires_grad=weight.requires_grad if bias is None else bias.requires_grad)
    if bias is None:
        _slice(model, layer.bias, {0: rows.nonzero().flatten()})


def _slice(model: nn.Module, name: str, dims: dict[int, Tensor]) -> None:
    path, _, own = name.rpartition(".")
    owner = model.get_submodule(path)
    old: Tensor = getattr(owner, own)
    new = old.detach()
    for dim, index in dims.items():
        new = new.index_select(dim, index.to(new.device))
    new = new.clone(memory_format=torch.contiguous_format)
    setattr(owner, own, nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new)


def _resize(module: nn.Module, path: str, kept: dict[str, dict[int, Tensor]]) -> None:
    """The sizes that a module remembers."""
    prefix = f"{path}." if path else ""
    dims = kept.get(f"{prefix}weight", {})
    sizes = {dim: len(index) for dim, index in dims.items()}
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.conv._ConvNd):
        _resize_convolution(module, sizes)
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        held = module.running_mean if module.running_mean is not None else module.weight
        module.num_features = len(held)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif type(module).__name__ == "Conv1D":
        vars(module).update(zip(("nx", "nf"), module.get_parameter("weight").shape, strict=True))


def _resize_convolution(module: nn.modules.conv._ConvNd, sizes: dict[int, int]) -> None:
    rows, columns = module.weight.shape[:2]
    if module.groups == 1:
        module.out_channels, module.in_channels = (columns, rows) if module.transposed else (rows, columns)
        return
    if 0 not in sizes:
        return
    before = module.in_channels if module.transposed else module.out_channels
    module.groups = module.groups * sizes[0] // before
    one, other = sizes[0], columns * module.groups
    module.in_channels, module.out_channels = (one, other) if module.transposed else (other, one)


def _prepend(model: nn.Module, path: str, index: Tensor, dim: int) -> nn.Module:
    """Put a `Gather` before the module at `path`."""
    module = model.get_submodule(path)
    parent, _, name = path.rpartition(".")
    device = next(module.parameters()).device
    both = nn.Sequential(Gather(index.to(device), dim), module).train(module.training)
    if not path:
        return both
    setattr(model.get_submodule(parent), name, both)
    return model
