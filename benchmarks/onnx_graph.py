"""Fully connected networks in ONNX Runtime: the yardstick for inference.

    python benchmarks/onnx_graph.py          times LeNet-300-100 in torch and in ONNX Runtime, both dense

Needs the extra `bench`. Gemm with either layout and MatMul + Add take the same time there, so the graph is plain.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
from torch import nn

from benchmarks.common import interleaved, machine, medians, one_thread, row
from tombola.models.fully_connected import mlp

__all__ = ["Session", "dense_session"]

Session = Callable[[np.ndarray], np.ndarray]
"""(batch, inputs) float32, C-contiguous -> (batch, outputs) float32."""

TOLERANCE = 1e-4
WIDTHS = (784, 300, 100, 10)

_OPSET, _IR = 13, 8  # old enough for every ONNX Runtime since 1.10
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "Relu", nn.Tanh: "Tanh"}
_LEFT_OUT = (nn.Flatten, nn.Identity, nn.Dropout)  # do nothing to flat inputs when a network is used


def dense_session(model: nn.Sequential, batch: int) -> Session:
    """A network of Linear layers with ReLU or tanh between, all weights and zeros included, in ONNX Runtime.

    One thread, every graph optimisation, batch size fixed. The call into the session counts as part of it, as a user
    would pay it: about 5 us.

    Args:
        model: its weights are copied; float32.
        batch: rows of every input.

    Raises:
        ImportError: onnx or onnxruntime is not installed.
        ValueError: another kind of layer, or outputs that differ from torch's by more than `TOLERANCE`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(_graph(model, batch), options, providers=["CPUExecutionProvider"])

    def run(x: np.ndarray) -> np.ndarray:
        out: np.ndarray = session.run(None, {"x": x})[0]
        return out

    _check(run, model, batch)
    return run


def _inputs(model: nn.Sequential) -> int:
    return next(layer.in_features for layer in model if isinstance(layer, nn.Linear))


def _graph(model: nn.Sequential, batch: int) -> bytes:
    """The serialized graph: a Gemm for each Linear, with its bias."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    weights: list[Any] = []
    last, width = "x", _inputs(model)
    for number, layer in enumerate(model):
        out = f"h{number}"
        if isinstance(layer, nn.Linear):
            names = [f"{part}{number}" for part, _ in layer.named_parameters()]
            for name, tensor in zip(names, layer.parameters(), strict=True):
                weights.append(numpy_helper.from_array(tensor.detach().float().cpu().numpy().copy(), name))
            nodes.append(helper.make_node("Gemm", [last, *names], [out], transB=1))
            width = layer.out_features
        elif type(layer) in _ACTIVATIONS:
            nodes.append(helper.make_node(_ACTIVATIONS[type(layer)], [last], [out]))
        elif isinstance(layer, _LEFT_OUT):
            continue
        else:
            raise ValueError(f"{type(layer).__name__} is no layer of a plain fully connected network.")
        last = out
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, _inputs(model)])]
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, [batch, width])]
    graph = helper.make_graph(nodes, "mlp", inputs, outputs, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    serialized: bytes = made.SerializeToString()
    return serialized


def _check(session: Session, model: nn.Sequential, batch: int) -> None:
    x = torch.rand(batch, _inputs(model), generator=torch.Generator().manual_seed(0))
    training = model.training
    model.eval()
    with torch.inference_mode():
        expected = model(x)
    model.train(training)
    off = float((torch.from_numpy(session(x.numpy())) - expected).abs().max())
    if not off <= TOLERANCE:
        raise ValueError(f"ONNX Runtime and torch differ by {off:.1e}, more than {TOLERANCE:.0e}.")


def main() -> None:
    """Times the dense network in both, at batch 1 and 256."""
    one_thread()
    model = mlp(WIDTHS).eval()
    print(machine())
    for batch, calls in ((1, 2000), (256, 100)):
        x = torch.rand(batch, WIDTHS[0])
        array = x.numpy()
        try:
            session = dense_session(model, batch)
        except ImportError as missing:
            print(f"{missing.name} is not installed: pip install -c constraints.txt -e '.[bench]'")
            return

        def in_torch(x: torch.Tensor = x, calls: int = calls) -> None:
            with torch.inference_mode():
                for _ in range(calls):
                    model(x)

        def in_onnx(array: np.ndarray = array, calls: int = calls, session: Session = session) -> None:
            for _ in range(calls):
                session(array)

        for name, seconds in medians(interleaved({"torch": in_torch, "ONNX Runtime": in_onnx}, rounds=5)).items():
            row(f"dense LeNet-300-100, batch {batch}, {name}", seconds / calls * 1e6, unit=" us")


if __name__ == "__main__":
    main()
