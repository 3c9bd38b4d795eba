"""The graph of operations that a model runs for an example, by `torch.export`."""

from __future__ import annotations

import operator
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from tombola.shrinking.values import Weight

__all__ = ["Arguments", "Trace", "floating", "is_getitem", "shapes", "tensors_in", "trace", "where"]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""What the model is called with: by position, and by name."""

_DEPTH = 12
_ALONE = (
    "linear addmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d batch_norm add sub mul div "
    "relu relu6 leaky_relu elu silu hardtanh hardswish"
)
_FRESH = frozenset(_ALONE.split())
"""Operations whose result shares its memory with nothing."""
_CUTTABLE = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.PReLU)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """A graph without in-place operations, and the parameters and buffers among its placeholders."""

    graph: Graph
    weights: dict[str, Weight]


def tensors_in(result: object, depth: int = 0) -> list[Tensor]:
    """All tensors in whatever a model returns: nested containers, dataclasses, caches.

    >>> tensors_in({"a": torch.ones(1), "b": [(torch.zeros(2), None)]})
    [tensor([1.]), tensor([0., 0.])]
    """
    if isinstance(result, Tensor):
        return [result]
    if depth > _DEPTH or isinstance(result, str | bytes | nn.Module | type) or callable(result):
        return []
    if isinstance(result, Mapping):
        entries = list(result.values())
    elif isinstance(result, list | tuple):
        entries = list(result)
    else:
        entries = list(getattr(result, "__dict__", {}).values())
    return [tensor for entry in entries for tensor in tensors_in(entry, depth + 1)]


class _Flat(nn.Module):
    """A model whose results are a plain tuple of tensors: `torch.export` knows few other containers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        return tuple(tensors_in(self.model(*args, **kwargs)))


def trace(model: nn.Module, arguments: Arguments) -> Trace:
    """Export `model`, which must be in eval mode; raises whatever `torch.export` does."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(_Flat(model), *arguments, strict=False)
        if not all(_made_functional(node) for node in program.graph.nodes):
            program = program.run_decompositions({})
    named: dict[str, Tensor] = {**dict(model.named_buffers(remove_duplicate=False))}
    named |= dict(model.named_parameters(remove_duplicate=False))
    sources = {
        spec.arg.name: str(spec.target).removeprefix("model.")
        for spec in program.graph_signature.input_specs
        if spec.target is not None
    }
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    uses: Counter[int] = Counter()
    for place, name in sources.items():
        if name in named:
            uses[id(named[name])] += len(placeholders[place].users)
    lock = _locks(model, named)
    first: dict[int, str] = {}  # a tied tensor goes by its first name, as in a mask
    for name, tensor in named.items():
        first.setdefault(id(tensor), name)
    weights = {}
    for place, any_name in sources.items():
        if any_name in named:
            tensor = named[any_name]
            name = first[id(tensor)]
            weights[place] = Weight(name=name, tensor=tensor.detach(), lock=lock(name, uses[id(tensor)]))
    return Trace(graph=program.graph, weights=weights)


def _made_functional(node: Node) -> bool:
    """Put the plain operation in place of an in-place one whose operand nobody else sees; false where somebody might.

    `run_decompositions` does this for every graph, and takes longer than everything else together.
    """
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return True
    name, _, overload = str(node.target).removeprefix("aten.").partition(".")
    plain = getattr(getattr(torch.ops.aten, name.removesuffix("_"), None), overload, None)
    operand = node.args[0] if node.args else None
    if plain is None or not name.endswith("_") or not isinstance(operand, Node) or len(operand.users) > 1:
        return False
    if str(operand.target).removeprefix("aten.").partition(".")[0] not in _FRESH:
        return False
    node.target = plain
    return True


def _locks(model: nn.Module, named: dict[str, Tensor]) -> Callable[[str, int], str]:
    """A function that says why a parameter cannot be cut, from its name and the number of its uses."""
    modules = dict(model.named_modules(remove_duplicate=False))
    names: dict[int, list[str]] = {}
    for name, tensor in named.items():
        names.setdefault(tensor.untyped_storage().data_ptr() if tensor.numel() else id(tensor), []).append(name)
    others = {name: [other for other in group if other != name] for group in names.values() for name in group}

    def lock(name: str, uses: int) -> str:
        owner = modules[name.rpartition(".")[0]]
        if not _may_be_cut(owner):
            return f"a weight of a {type(owner).__name__}"
        if others[name]:
            return f"shared with {others[name][0]}"
        if uses > 1:
            return f"used {uses} times"
        if owner.__dict__.get("parametrizations") or named[name].is_complex():
            return "parametrized or complex"
        return ""

    return lock


def _may_be_cut(owner: nn.Module) -> bool:
    if isinstance(owner, NonDynamicallyQuantizableLinear):  # the output of MultiheadAttention, used without its forward
        return False
    theirs = type(owner).__name__ == "Conv1D" and type(owner).__module__.startswith("transformers.")
    return isinstance(owner, _CUTTABLE) or theirs


def where(node: Node) -> str:
    """Path of the module that called an operation."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path = str(stack[-1][0]) if stack else ""
    return path.removeprefix("model").removeprefix(".")


def shapes(node: Node) -> Iterator[tuple[int, ...] | None]:
    """Of the results of an operation; None for what is no tensor of real floating-point numbers or cannot be seen."""
    value = node.meta.get("val")
    for entry in value if isinstance(value, list | tuple) else [value]:
        yield tuple(int(size) for size in entry.shape) if isinstance(entry, Tensor) else None


def floating(node: Node) -> bool:
    """Whether the first result is a tensor of real floating-point numbers."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, Tensor) and first.is_floating_point()


def is_getitem(node: Node) -> bool:
    """Whether it takes one of several results."""
    return node.target is operator.getitem
