"""The forms in which a masked network is run, each as a function without arguments, or why there is none."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tombola.native.inference import compile as compile_network
from tombola.shrinking.checking import first_line, run
from tombola.shrinking.tracing import Arguments, tensors_in

__all__ = ["Form", "in_onnx", "in_torch", "missing_packages", "native"]

Form = Callable[[], object] | str
"""What is timed, or why nothing is."""

_CLOSE = 1e-3  # relative to 1 + the largest output: another order of sums, not another network


def missing_packages() -> str:
    """What ONNX Runtime lacks here; empty: nothing."""
    absent = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed: pip install 'tombola[onnx]'" if absent else ""


def in_torch(model: nn.Module, arguments: Arguments) -> Form:
    """The model called with these arguments, until its device is done."""
    args, kwargs = arguments
    on_gpu = any(tensor.is_cuda for tensor in tensors_in(list(arguments)))

    def call() -> object:
        outputs = model(*args, **kwargs)
        if on_gpu:
            torch.cuda.synchronize()
        return outputs

    return call


def native(masked: nn.Module, arguments: Arguments) -> Form:
    """The native sparse runner on the example, or why it does not apply."""
    args, kwargs = arguments
    if kwargs or len(args) != 1 or not isinstance(args[0], Tensor):
        return "it takes one tensor of inputs, and this network is called with something else"
    try:
        runner = compile_network(masked, shape=args[0].shape[1:])
        if runner.reason is not None:
            return runner.reason
        outputs = [runner(args[0])]
    except Exception as error:
        return first_line(error)
    return _unless_other(lambda: runner(args[0]), run(masked, arguments), outputs)


def in_onnx(masked: nn.Module, arguments: Arguments, threads: int) -> Form:
    """ONNX Runtime on the example, or why not."""
    if missing := missing_packages():
        return missing
    from tombola.exporting.onnx import onnx_session, to_onnx

    args, kwargs = arguments
    if any(tensor.is_cuda for tensor in tensors_in(list(arguments))):
        return "it is timed on the CPU only, and this network is on a GPU"
    given = args[0] if len(args) == 1 and isinstance(args[0], Tensor) else args or kwargs
    try:
        session = onnx_session(to_onnx(masked, given, dynamic_batch=False), threads)
        outputs = session(given)
    except Exception as error:
        return first_line(error)
    return _unless_other(lambda: session(given), run(masked, arguments), outputs)


def _unless_other(call: Callable[[], object], expected: Sequence[Tensor], outputs: Sequence[Tensor]) -> Form:
    """The call, if it computes the same."""
    if [tuple(one.shape) for one in expected] != [tuple(one.shape) for one in outputs]:
        return "its outputs have other shapes"
    for one, other in zip(expected, outputs, strict=True):
        wide = one if one.is_complex() else one.double()
        error = float((wide - other).abs().max()) if one.numel() else 0.0
        if not error <= _CLOSE * (1 + float(wide.abs().max() if one.numel() else 0)):
            return f"its outputs differ from torch's by {error:.1e}"
    return call
