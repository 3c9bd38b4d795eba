"""Which networks the native trainer knows: chains of Linear layers, read off the module itself."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from tombola.models.dropout import CounterDropout

__all__ = ["WIDEST", "Link", "Unknown", "links_of"]

WIDEST = 65_535
"""Most inputs of a layer: columns are kept as 16-bit numbers."""

_MOST_LAYERS = 16
_LEAVES = (nn.Linear, nn.Flatten, CounterDropout, nn.ReLU, nn.Tanh, nn.Identity)
_ACTIVATIONS: dict[Any, str] = {
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu, "relu", "relu_"), "relu"),
    **dict.fromkeys((nn.Tanh, torch.tanh, F.tanh, "tanh", "tanh_"), "tanh"),
    nn.Identity: "identity",
}


class Unknown(Exception):
    """The network has a part that the native trainer does not know; says which, as a clause."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One Linear layer with what stands behind it.

    Args:
        weight, bias: names in the network's state; bias None: there is none.
        rows, columns: outputs and inputs.
        activation: relu, tanh or identity, behind the layer.
        rate: of the dropout behind the activation; 0: none.
        dropout: number of that dropout among the network's, in module order: it names its stream of noise.
    """

    weight: str
    bias: str | None
    rows: int
    columns: int
    activation: str = "identity"
    rate: float = 0.0
    dropout: int = 0


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, CounterDropout) or super().is_leaf_module(m, module_qualified_name)


def links_of(model: nn.Module) -> tuple[Link, ...]:
    """The network as a chain of Linear layers with ReLU, tanh or nothing between, and counter dropout behind them.

    The module may be an `nn.Sequential` or have a `forward` of its own: it is traced, in training and in evaluation
    mode; no tensor is computed.

    Raises:
        Unknown: the part that is something else.

    >>> links = links_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    >>> [(link.weight, link.activation) for link in links]
    [('0.weight', 'relu'), ('2.weight', 'identity')]
    """
    _refuse_leaves(model)
    _check_modules(model)
    plain = all(type(module) in {*_LEAVES, nn.Sequential} for module in model.modules())
    mode = model.training
    try:
        chains = [_chain(model.train(training)) for training in ((False,) if plain else (True, False))]
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
            raise Unknown(f"{_at(name, module)} has hooks")
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise Unknown(f"{name!r} is {parameter.dtype}, not torch.float32")
        if not parameter.requires_grad:
            raise Unknown(f"{name!r} is frozen (requires_grad is False)")
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise Unknown(f"{name!r} has hooks")
    for name, _ in model.named_buffers():
        raise Unknown(f"it has a buffer, {name!r}")


def _at(name: str, module: nn.Module) -> str:
    return f"layer {name!r} ({type(module).__name__})" if name else type(module).__name__


def _chain(model: nn.Module) -> tuple[Link, ...]:
    if type(model) is nn.Linear:
        return (_link("", model),)
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # whatever a user's forward raises on symbols
        raise Unknown(f"{type(model).__name__}.forward cannot be read ({type(error).__name__})") from error
    reader = _Reader(model)
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


def _link(name: str, module: nn.Linear) -> Link:
    rows, columns = module.out_features, module.in_features
    if columns > WIDEST:
        raise Unknown(f"{_at(name, module)} has {columns} inputs, more than {WIDEST}")
    if not columns or not rows:
        raise Unknown(f"{_at(name, module)} is empty")
    prefix = f"{name}." if name else ""
    bias = f"{prefix}bias" if module.bias is not None else None
    return Link(weight=f"{prefix}weight", bias=bias, rows=rows, columns=columns)


class _Reader:
    """Follows the one path from the input to the output."""

    def __init__(self, model: nn.Module) -> None:
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
        if not self._ended or not self._found:
            raise Unknown("it has no Linear layer between input and output")
        last = self._found[-1]
        if last.activation != "identity" or last.rate:
            raise Unknown("something stands behind the last Linear layer")
        if len(self._found) > _MOST_LAYERS:
            raise Unknown(f"it has {len(self._found)} Linear layers, more than {_MOST_LAYERS}")
        for one, two in zip(self._found, self._found[1:], strict=False):
            if one.rows != two.columns:
                raise Unknown(f"{two.weight!r} takes {two.columns} inputs of {one.rows}")
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
            self._linear(str(node.target), module)
        elif isinstance(module, CounterDropout):
            if module.rate:
                self._dropout(module)
        elif self._flattens(node, module):
            if self._found:
                raise Unknown(f"{node.name!r} changes the shape between layers")
        elif kind in _ACTIVATIONS:
            self._activation(node, _ACTIVATIONS[kind])
        elif module is not None:
            raise Unknown(f"layer {node.target!r} is a {type(module).__name__}")
        else:
            raise Unknown(f"its forward calls {getattr(node.target, '__name__', node.target)}")

    def _linear(self, name: str, module: nn.Linear) -> None:
        link = _link(name, module)
        if any(link.weight == found.weight for found in self._found):
            raise Unknown(f"layer {name!r} is used twice")
        for parameter in module.parameters():
            if self._owner.setdefault(id(parameter), name) != name:
                raise Unknown(f"the layers {self._owner[id(parameter)]!r} and {name!r} share weights")
        self._found.append(link)

    def _activation(self, node: fx.Node, name: str) -> None:
        if name == "identity":
            return
        if not self._found or self._found[-1].activation != "identity" or self._found[-1].rate:
            raise Unknown(f"{node.name!r} does not stand right behind a Linear layer")
        if len(node.args) > 1 or node.kwargs.keys() - {"inplace"}:
            raise Unknown(f"{node.name!r} has options")
        self._found[-1] = replace(self._found[-1], activation=name)

    def _dropout(self, module: CounterDropout) -> None:
        if not self._found or self._found[-1].rate:
            raise Unknown("a dropout does not stand behind a hidden layer")
        self._found[-1] = replace(self._found[-1], rate=module.rate, dropout=self._number[id(module)])

    def _flattens(self, node: fx.Node, module: nn.Module | None) -> bool:
        """Whether this keeps the batch and makes everything else one dimension."""
        if isinstance(module, nn.Flatten):
            return module.start_dim == 1 and module.end_dim in {-1, 1}
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
