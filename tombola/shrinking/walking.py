"""One walk through the graph: every operation's rule in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.fx import Node

from tombola.shrinking import elementwise, layers, shapes
from tombola.shrinking import tracing as t
from tombola.shrinking.values import Book, Call, Outcome, Value, Weight

__all__ = ["walk"]

Rule = Callable[[Call], Outcome]

_UNARY = (
    "relu relu6 leaky_relu elu celu selu gelu silu mish softplus softsign logsigmoid log_sigmoid sigmoid hardsigmoid "
    "hardswish hardtanh tanh exp expm1 log log1p sqrt rsqrt abs neg square pow reciprocal clamp clamp_min clamp_max "
    "sin cos erf atan tanhshrink softshrink"
)
_SAME = "contiguous clone detach alias to _to_copy lift_fresh_copy dropout feature_dropout alpha_dropout"
_POOL = (
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d_with_indices max_pool2d_with_indices "
    "max_pool3d_with_indices adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d "
    "upsample_bicubic2d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d"
)
_PAD = "pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d"

_GENTLE: dict[str, Rule] = {
    **dict.fromkeys(_UNARY.split(), elementwise.unary),
    **dict.fromkeys(["add", "sub", "mul", "div", "maximum", "minimum", "rsub"], elementwise.binary),
    "prelu": elementwise.prelu,
    **dict.fromkeys(_SAME.split(), shapes.same),
    **dict.fromkeys(
        ["view", "reshape", "_unsafe_view", "unflatten", "flatten", "squeeze", "unsqueeze"], shapes.reshape
    ),
    **dict.fromkeys(["permute", "transpose", "t"], shapes.permute),
    **dict.fromkeys(["mean", "sum", "amax", "amin"], shapes.reduce),
    **dict.fromkeys(_POOL.split(), shapes.pool),
    **dict.fromkeys(_PAD.split(), shapes.pad),
    **dict.fromkeys(["select", "slice", "narrow"], shapes.part),
    **dict.fromkeys(["chunk", "split", "split_with_sizes", "unbind"], shapes.parts),
    **dict.fromkeys(["cat", "stack"], shapes.join),
    "expand": shapes.spread,
    **dict.fromkeys(("batch_norm", "_native_batch_norm_legit_no_training"), layers.batch_norm),
}
"""Operations that work within channels: from whole tensors they make whole tensors."""

_LAYERS: dict[str, Rule] = {
    "linear": layers.linear,
    "addmm": layers.addmm,
    **dict.fromkeys(
        ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], layers.convolution
    ),
}
_SILENT = ("_assert_tensor_metadata", "_assert_async", "sym_size", "numel")


def walk(found: t.Trace, *, follow: bool, gather: bool, paths: bool = False) -> Book:
    """Everything that can be said of the units of a network without knowing its input.

    Args:
        found: the traced network.
        follow: follow reshapes; otherwise they keep their sizes.
        gather: let the first layers choose among the network's inputs.
        paths: see `Book`.
    """
    book = Book(paths=paths)
    values: dict[Node, Any] = {}
    for node in found.graph.nodes:
        if node.op == "placeholder":
            shape = next(iter(t.shapes(node)))
            user = Value(shape=shape, raw=True) if shape is not None else None
            values[node] = found.weights.get(node.name, user)
        elif node.op == "output":
            for value in Call(**_plain(node, values), book=book, follow=follow, gather=gather).operands():
                if isinstance(value, Value):
                    book.pin(value, "an output of the model")
        elif t.is_getitem(node):
            entries = values[node.args[0]]
            values[node] = entries[node.args[1]] if isinstance(entries, tuple) else entries
        elif node.op == "call_function":
            call = Call(**_bound(node, values), book=book, follow=follow, gather=gather)
            values[node] = _evaluate(call, node)
            made = values[node] if isinstance(values[node], tuple) else (values[node],)
            book.tensors.extend(v.units for v in made if v is not None and not v.whole)
        else:  # get_attr, and the guards that torch.export writes as a module
            values[node] = None
    return book


def _evaluate(call: Call, node: Node) -> Outcome:
    operands = call.operands()
    if call.op in _SILENT:
        return None
    gentle = call.op in _GENTLE
    if gentle and all(isinstance(o, Weight) or o.whole for o in operands):
        inner = [o for o in operands if isinstance(o, Value)]
        return call.whole(raw=bool(inner) and all(o.raw for o in inner))
    rule = _GENTLE.get(call.op) or _LAYERS.get(call.op)
    outcome: Outcome = f"{call.place} is not followed"
    first = call.arguments.get("mat1", call.first)
    joins = call.op in ("cat", "stack", "add", "sub", "mul", "maximum", "minimum", "div", "rsub")
    if rule is not None and t.floating(node) and (joins or _fits(first, call.op)):
        outcome = rule(call)
    if not isinstance(outcome, str):
        return _zeroed(outcome) if call.book.paths else outcome
    for operand in operands:
        if isinstance(operand, Weight):
            call.book.whole.setdefault(operand.name, outcome)
        else:
            call.book.pin(operand, f"read by {call.place}" if outcome == "" else outcome)
    return call.whole()


def _zeroed(outcome: Outcome) -> Outcome:
    """With every constant written as 0, which is finite in all that follows."""
    if isinstance(outcome, tuple):
        return tuple(None if value is None else replace(value, constants=value.constants * 0) for value in outcome)
    return replace(outcome, constants=outcome.constants * 0) if isinstance(outcome, Value) else outcome


def _fits(first: object, op: str) -> bool:
    """Whether the tensor worked on is an activation, and for what works within channels, one with channels."""
    return isinstance(first, Value) and (op in _LAYERS or not first.whole)


def _bound(node: Node, values: dict[Node, Any]) -> dict[str, Any]:
    """The fields of a `Call`: arguments by the names of the schema, defaults filled in."""
    fields = _plain(node, values)
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return fields
    arguments, given = {}, list(fields["arguments"].values())[: len(node.args)]
    for at, argument in enumerate(schema.arguments):
        if at < len(given):
            arguments[argument.name] = given[at]
        elif argument.name in node.kwargs:
            arguments[argument.name] = fields["arguments"][argument.name]
        else:
            arguments[argument.name] = argument.default_value if argument.has_default_value() else None
    keywords = frozenset(argument.name for argument in schema.arguments if argument.kwarg_only)
    return fields | {"arguments": arguments, "keywords": keywords}


def _plain(node: Node, values: dict[Node, Any]) -> dict[str, Any]:
    def put(entry: Any) -> Any:
        if isinstance(entry, Node):
            return values.get(entry)
        if isinstance(entry, list | tuple):
            return [put(inner) for inner in entry]
        return list(map(put, entry.values())) if isinstance(entry, dict) else entry

    overloaded = isinstance(node.target, torch._ops.OpOverload)
    name = str(node.target).split(".")[1] if overloaded else getattr(node.target, "__name__", str(node.target))
    arguments = {str(at): put(entry) for at, entry in enumerate(node.args)}
    return {
        "op": name,
        "target": node.target,
        "where": t.where(node),
        "arguments": arguments | {key: put(entry) for key, entry in node.kwargs.items()},
        "shapes": tuple(t.shapes(node)),
    }
