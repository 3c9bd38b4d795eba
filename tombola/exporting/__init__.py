"""Exports: a masked or a smaller network as ONNX, as a torch.export program, and as plain weights."""

from __future__ import annotations

from tombola.exporting.checked import export_onnx
from tombola.exporting.entry import export_model
from tombola.exporting.onnx import onnx_session, to_onnx
from tombola.exporting.program import export_program
from tombola.exporting.report import Exported
from tombola.exporting.weights import export_weights

__all__ = ["Exported", "export_model", "export_onnx", "export_program", "export_weights", "onnx_session", "to_onnx"]
