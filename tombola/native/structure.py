"""Which networks the native trainer knows: convolutions, then Linear layers, read off the module itself."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from tombola.models.dropout import CounterDropout
from tombola.native.links import POOL, Link, Unknown, check_options, convolution, linear, place

__all__ = ["links_of"]

_MOST_LAYERS = 16
_LEAVES = (nn.Linear, nn.Conv2d, nn.MaxPool2d, nn.Flatten, CounterDropout, nn.ReLU, nn.Tanh, nn.Identity)
_ACTIVATIONS: dict[Any, str] = {
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu, "relu", "relu_"), "relu"),
    **dict.fromkeys((nn.Tanh, torch.tanh, F.tanh, "tanh", "tanh_"), "tanh"),
    nn.Identity: "identity",
}


_POOLS = (F.max_pool2d, torch.max_pool2d)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, CounterDropout) or super().is_leaf_module(m, module_qualified_name)


def links_of(model: nn.Module, shape: Sequence[int] | None = None) -> tuple[Link, ...]:
    """The network as a chain: convolutions, then Linear layers with ReLU, tanh or nothing between, and counter dropout.

    A convolution is 3 x 3 of stride 1 with padding 1, behind it stand ReLU or nothing and perhaps a 2 x 2 max-pool. The
    module may be an `nn.Sequential` or have a `forward` of its own: it is traced, in training and in evaluation mode;
    no tensor is computed.

    Args:
        shape: of one example: (channels, height, width), where there are convolutions; None: it is not known.

    Raises:
        Unknown: the part that is something else.

    >>> links = links_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    >>> [(link.weight, link.activation) for link in links]
    [('0.weight', 'relu'), ('2.weight', 'identity')]
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10))
    >>> links_of(model, (3, 8, 9))[0].behind
    (8, 4, 4)
    """
    _refuse_leaves(model)
    _check_modules(model)
    plain = all(type(module) in {*_LEAVES, nn.Sequential} for module in model.modules())
    mode = model.training
    try:
        chains = [_chain(model.train(training), shape) for training in ((False,) if plain else (True, False))]
    finally:
        model.train(mode)
    if chains[0] != chains[-1]:
        raise Unknown(f"{type(model).__name__} computes something else in training than in evaluation")
    read = {name for link in chains[0] for name in (link.weight, link.bias)}
    unread = [name for name, _ in model.named_parameters() if name not in read]
    if unread:
        raise Unknown(f"its forward does not read {unread[0]!r}")
    return chains[0]


def _check_modules(model: nn.Module) -> None:
    for name, module in model.named_modules():
        hooks = (
            module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks,
        )  # fmt: skip
        if any(hooks):
            raise Unknown(f"{place(name, module)} has hooks")
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise Unknown(f"{name!r} is {parameter.dtype}, not torch.float32")
        if not parameter.requires_grad:
            raise Unknown(f"{name!r} is frozen (requires_grad is False)")
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise Unknown(f"{name!r} has hooks")
    for name, _ in model.named_buffers():
        raise Unknown(f"it has a buffer, {name!r}")


def _chain(model: nn.Module, shape: Sequence[int] | None) -> tuple[Link, ...]:
    if type(model) is nn.Linear:
        return (linear("", model),)
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # whatever a user's forward raises on symbols
        raise Unknown(f"{type(model).__name__}.forward cannot be read ({type(error).__name__})") from error
    reader = _Reader(model, shape)
    for node in graph.nodes:
        reader.read(node)
    return reader.links()


def _refuse_leaves(model: nn.Module) -> None:
    """Names the first unknown layer, which says more than what tracing ends with."""
    for name, module in model.named_modules():
        if hasattr(module, "parametrizations"):
            raise Unknown(f"layer {name!r} is parametrized")
        if not list(module.children()) and name and type(module) not in _LEAVES:
            raise Unknown(f"layer {name!r} is a {type(module).__name__}")


class _Reader:
    """Follows the one path from the input to the output."""

    def __init__(self, model: nn.Module, shape: Sequence[int] | None) -> None:
        self._shape = None if shape is None else tuple(shape)  # of an example, here
        self._modules = dict(model.named_modules())
        drops = [m for m in model.modules() if isinstance(m, CounterDropout)]
        self._number = {id(m): i for i, m in enumerate(drops)}
        self._found: list[Link] = []
        self._owner: dict[int, str] = {}  # parameter -> the layer that has it
        self._at: fx.Node | None = None
        self._shapes: set[Any] = set()
        self._batches: set[Any] = set()
        self._input: fx.Node | None = None
        self._ended = False

    def links(self) -> tuple[Link, ...]:
        if not self._ended or not self._found or self._found[-1].image is not None:
            raise Unknown("it has no Linear layer between its input (and convolutions) and its output")
        last = self._found[-1]
        if last.activation != "identity" or last.rate:
            raise Unknown("something stands behind the last Linear layer")
        if len(self._found) > _MOST_LAYERS:
            raise Unknown(f"it has {len(self._found)} layers with weights, more than {_MOST_LAYERS}")
        for one, two in zip(self._found, self._found[1:], strict=False):
            if math.prod(one.behind) != two.inputs:
                raise Unknown(f"{two.weight!r} takes {two.inputs} inputs of {math.prod(one.behind)}")
        return tuple(self._found)

    def read(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            if self._input is not None:
                raise Unknown("its forward takes more than one argument")
            self._input = self._at = node
        elif node.op == "output":
            if node.args[0] is not self._at:
                raise Unknown("its output is not that of its last layer")
            self._ended = True
        elif not self._size(node):
            if not node.args or node.args[0] is not self._at:
                raise Unknown(f"{node.name!r} branches off the chain of layers")
            self._layer(node)
            self._at = node

    def _size(self, node: fx.Node) -> bool:
        """Whether the node only asks for the size of the batch, for a view; remembers it."""
        first, rest = (node.args[0] if node.args else None), node.args[1:]
        if node.op == "call_module":
            return False
        if first is self._input and (
            (node.target == "size" and not rest) or (node.target is getattr and rest[0] == "shape")
        ):
            self._shapes.add(node)
        elif (first is self._input and ((node.target == "size" and rest == (0,)) or node.target is len)) or (
            node.target is operator.getitem and first in self._shapes and rest == (0,)
        ):
            self._batches.add(node)
        return node in self._shapes or node in self._batches

    def _layer(self, node: fx.Node) -> None:
        module = self._modules[str(node.target)] if node.op == "call_module" else None
        kind: Any = type(module) if module is not None else node.target
        if isinstance(module, nn.Linear) and kind is nn.Linear:
            if self._images:
                raise Unknown(f"{place(str(node.target), module)} reads images that are not flattened")
            self._add(str(node.target), module, linear(str(node.target), module))
        elif isinstance(module, nn.Conv2d) and kind is nn.Conv2d:
            if self._found and not self._images:
                raise Unknown(f"{place(str(node.target), module)} does not read images")
            self._add(str(node.target), module, convolution(str(node.target), module, self._shape))
        elif kind is nn.MaxPool2d or kind in _POOLS:
            self._pool(node, module)
        elif isinstance(module, CounterDropout):
            if module.rate:
                self._dropout(module)
        elif self._flattens(node, module):
            if self._found and not self._images:
                raise Unknown(f"{node.name!r} changes the shape between layers")
            self._shape = None if self._shape is None else (math.prod(self._shape),)
        elif kind in _ACTIVATIONS:
            self._activation(node, _ACTIVATIONS[kind])
        elif module is not None:
            raise Unknown(f"layer {node.target!r} is a {type(module).__name__}")
        else:
            raise Unknown(f"its forward calls {getattr(node.target, '__name__', node.target)}")

    @property
    def _images(self) -> bool:
        """Whether what is read here are images that a convolution left."""
        shape = self._shape
        return bool(self._found) and self._found[-1].image is not None and shape is not None and len(shape) == 3

    def _add(self, name: str, module: nn.Module, link: Link) -> None:
        if any(link.weight == found.weight for found in self._found):
            raise Unknown(f"layer {name!r} is used twice")
        for parameter in module.parameters():
            if self._owner.setdefault(id(parameter), name) != name:
                raise Unknown(f"the layers {self._owner[id(parameter)]!r} and {name!r} share weights")
        self._found.append(link)
        self._shape = link.behind

    def _pool(self, node: fx.Node, module: nn.Module | None) -> None:
        at = f"{node.name!r}" if module is None else place(str(node.target), module)
        given = dict(zip(POOL, node.args[1:], strict=False)) | dict(node.kwargs)
        check_options(at, given if module is None else {name: getattr(module, name) for name in POOL}, POOL)
        image = self._found[-1].image if self._images else None
        if image is None or image.pool:
            raise Unknown(f"{at} does not stand behind a convolution")
        if image.height < 2 or image.width < 2:
            raise Unknown(f"{at} pools images of {image.height} x {image.width}")
        self._found[-1] = replace(self._found[-1], image=replace(image, pool=True))
        self._shape = self._found[-1].behind

    def _activation(self, node: fx.Node, name: str) -> None:
        if name == "identity":
            return
        if not self._found or self._found[-1].activation != "identity" or self._found[-1].rate:
            raise Unknown(f"{node.name!r} does not stand right behind a Linear layer")
        if len(node.args) > 1 or node.kwargs.keys() - {"inplace"}:
            raise Unknown(f"{node.name!r} has options")
        if self._found[-1].image is not None and (name != "relu" or not self._images or self._found[-1].image.pool):
            raise Unknown(f"{node.name!r} behind a convolution is not ReLU right behind it")
        self._found[-1] = replace(self._found[-1], activation=name)

    def _dropout(self, module: CounterDropout) -> None:
        if not self._found or self._found[-1].rate:
            raise Unknown("a dropout does not stand behind a hidden layer")
        if self._found[-1].image is not None:
            raise Unknown("a dropout stands behind a convolution")
        self._found[-1] = replace(self._found[-1], rate=module.rate, dropout=self._number[id(module)])

    def _flattens(self, node: fx.Node, module: nn.Module | None) -> bool:
        """Whether this keeps the batch and makes everything else one dimension."""
        if isinstance(module, nn.Flatten):
            return module.start_dim == 1 and module.end_dim in ({-1, 3} if self._images else {-1, 1})
        rest = node.args[1:]
        if node.target in {torch.flatten, "flatten"}:
            named = dict(zip(("start_dim", "end_dim"), rest, strict=False)) | node.kwargs
            return bool(named.get("start_dim") == 1 and named.get("end_dim", -1) == -1)
        if node.target in {"view", "reshape", torch.reshape}:
            shape = rest[0] if len(rest) == 1 and isinstance(rest[0], tuple | list) else rest
            if len(shape) != 2:
                return False
            batch, features = shape
            if batch in self._batches:
                return bool(features == -1)
            return bool(batch == -1) and isinstance(features, int) and features > 0
        return False
