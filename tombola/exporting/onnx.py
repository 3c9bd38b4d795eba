"""ONNX: a network as a graph that ONNX Runtime and others run, as bytes, and a callable that runs it."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tombola.errors import UsageError, hint
from tombola.exporting.still import Example, batched, fill, longer, split, still
from tombola.shrinking.checking import as_arguments, first_line
from tombola.shrinking.tracing import Arguments, tensors_in

__all__ = ["Session", "dynamic", "onnx_session", "opset", "package", "to_onnx"]

Session = Callable[[Example], list[Tensor]]
"""An example, as the model is called with it -> the tensors that the graph puts out."""

_PREFIX = "model."
_BATCH = "batch"


class _Flat(nn.Module):
    """A model that takes and returns nothing but tensors, in the order in which they stand in its arguments."""

    def __init__(self, model: nn.Module, template: Any) -> None:
        super().__init__()
        self.model = model
        self.template = template

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        args, kwargs = fill(self.template, iter(tensors))
        return tuple(tensors_in(self.model(*args, **kwargs)))


def to_onnx(model: nn.Module, example: Example, dynamic_batch: bool = True) -> bytes:
    """An ONNX model that computes what `model` does in eval mode, zeros included; nothing is written or compared.

    Inputs are named as the arguments of `forward`, weights as in the model; no line of the user's source is kept.

    Args:
        model: stays as it is; a masked one, or `shrink(...).model`.
        example: what it is called with: a tensor, a tuple of arguments, or a dict of arguments by name. What is no
            tensor in it becomes a constant.
        dynamic_batch: leave the first dimension open, of every tensor of the example in which it is as long as in the
            first one. A model that does not allow it gets the example's, with a `Hint`.

    Returns:
        The serialized model, weights included.

    Raises:
        UsageError: the extra `onnx` is missing, the example does not fit, or an operation has no counterpart.
    """
    for name in ("onnx", "onnxscript"):
        package(name)
    own, arguments = still(model, example)
    names = _input_names(own, arguments)
    if dynamic_batch:
        try:
            return _exported(own, arguments, names, open_batch=True)
        except Exception as error:  # whatever torch.export meets in a user's model
            hint(f"The batch size of {type(own).__name__} is fixed in the graph: {first_line(error)}")
    try:
        return _exported(own, arguments, names, open_batch=False)
    except Exception as error:
        raise UsageError(
            f"{type(own).__name__} cannot be exported to ONNX: {first_line(error)}. tombola.exporting.export_program "
            f"or export_weights may do instead."
        ) from error


def _exported(model: nn.Module, arguments: Arguments, names: list[str], *, open_batch: bool) -> bytes:
    tensors: list[Tensor] = []
    template = split(longer(arguments) if open_batch else arguments, tensors)
    dims = tuple({0: torch.export.Dim.DYNAMIC} if one else None for one in batched(arguments))
    with _quiet(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs = [f"output_{n}" for n in range(len(_Flat(model, template)(*tensors)))]
        program = torch.onnx.export(
            _Flat(model, template).eval(),
            tuple(tensors),
            dynamo=True,
            dynamic_shapes=(dims,) if open_batch else None,
            input_names=names,
            output_names=["output"] if len(outputs) == 1 else outputs,
            verbose=False,
        )
        proto = program.model_proto  # type: ignore[union-attr]
    _tidy(proto)
    data: bytes = proto.SerializeToString()
    return data


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter says of its own insides (deprecations, a torchvision that is not there) helps nobody."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def _input_names(model: nn.Module, arguments: Arguments) -> list[str]:
    """A name for each tensor of the arguments: of the argument of `forward`, numbered where it holds several."""
    args, kwargs = arguments
    try:
        known = [p.name for p in inspect.signature(model.forward).parameters.values() if p.kind < p.VAR_POSITIONAL]
    except (TypeError, ValueError):  # a forward written in C
        known = []
    places = [(known[n] if n < len(known) else f"input_{n}", value) for n, value in enumerate(args)]
    names = []
    for name, value in [*places, *kwargs.items()]:
        held: list[Tensor] = []
        split(value, held)
        names += [name] if len(held) == 1 else [f"{name}_{n}" for n in range(len(held))]
    return names


def _tidy(proto: Any) -> None:
    """Weights by their names in the model, the open dimension as `batch`, and no notes about the user's source."""
    graph = proto.graph
    firsts = [value.type.tensor_type.shape.dim[0].dim_param for value in graph.input if _dims(value)]
    symbols = dict.fromkeys(name for name in firsts if name)
    taken = {value.name for value in graph.input}
    renamed = {w.name: w.name.removeprefix(_PREFIX) for w in graph.initializer if w.name.startswith(_PREFIX)}
    renamed = {old: new for old, new in renamed.items() if new not in taken}
    for one in (proto, *proto.functions):
        del one.metadata_props[:]
    for part in _graphs(graph):
        del part.metadata_props[:]
        for weight in part.initializer:
            weight.name = renamed.get(weight.name, weight.name)
            weight.doc_string = ""
            del weight.metadata_props[:]
        for node in part.node:
            node.doc_string = ""
            del node.metadata_props[:]
            node.input[:] = [renamed.get(name, name) for name in node.input]
        for value in (*part.input, *part.output, *part.value_info):
            value.name = renamed.get(value.name, value.name)
            del value.metadata_props[:]
            for dim in _dims(value):
                for symbol in symbols:
                    if dim.dim_param:
                        dim.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", _BATCH, dim.dim_param)


def _dims(value: Any) -> Sequence[Any]:
    dims: Sequence[Any] = value.type.tensor_type.shape.dim
    return dims


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its nodes: the bodies of loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(inner)


def onnx_session(data: bytes, threads: int = 1) -> Session:
    """ONNX Runtime on the CPU with every graph optimisation, as a function of an example.

    Args:
        data: what `to_onnx` gave.
        threads: that one call may use.

    Returns:
        A callable that takes what the model takes (tensors on the CPU, in the same order) and gives its output tensors.

    Raises:
        UsageError: the extra `onnx` is missing, or ONNX Runtime cannot run the graph.
    """
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UsageError(f"ONNX Runtime cannot run this graph: {first_line(error)}") from error
    names = [entry.name for entry in session.get_inputs()]

    def call(example: Example) -> list[Tensor]:
        tensors = [example] if isinstance(example, Tensor) else _tensors(example)
        if len(tensors) != len(names):
            raise UsageError(f"The example holds {len(tensors)} tensors; the graph takes {len(names)}: {names}.")
        feed = {name: tensor.detach().numpy() for name, tensor in zip(names, tensors, strict=True)}
        return [torch.as_tensor(out) for out in session.run(None, feed)]

    return call


def _tensors(example: Sequence[object] | Mapping[str, object]) -> list[Tensor]:
    found: list[Tensor] = []
    split(as_arguments(example), found)
    return found


def dynamic(data: bytes) -> bool:
    """Whether the graph takes every batch size."""
    graph = package("onnx").load_from_string(data).graph
    return any(dim.dim_param for value in graph.input for dim in _dims(value)[:1])


def opset(data: bytes) -> int:
    """The version of the ONNX operators that the graph is written in."""
    imports = package("onnx").load_from_string(data).opset_import
    return max(int(entry.version) for entry in imports if entry.domain == "")


def package(name: str) -> Any:
    """A package of the extra `onnx`.

    >>> package("onnx_that_is_not_there")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tombola.errors.UsageError: ONNX needs the package onnx_that_is_not_there...: pip install 'tombola[onnx]'.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"ONNX needs the package {name}, which is not installed: pip install 'tombola[onnx]'."
        ) from error
