"""What an export gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Exported"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A file that was written, and what is known about it.

    Args:
        path: of the file.
        form: what it holds.
        size: of the file, in bytes.
        parameters: numbers in the network's parameters, zeros included; tied ones once.
        difference: between its outputs and torch's, at most, relative to the largest output; None: not compared.
        batch: examples that it takes at once; None: any number.
        opset: version of the ONNX operators; None: it is no ONNX.
    """

    path: Path
    form: Literal["onnx", "torch.export", "safetensors"]
    size: int
    parameters: int
    difference: float | None = None
    batch: int | None = None
    opset: int | None = None

    def __str__(self) -> str:
        """One line.

        >>> print(Exported(path=Path("net.onnx"), form="onnx", size=4200, parameters=1000, difference=3e-7, opset=20))
        net.onnx: 4,200 bytes, 1,000 parameters, onnx (opset 20), any batch size; equal to torch within 3.0e-07.
        """
        words = [f"{self.size:,} bytes", f"{self.parameters:,} parameters"]
        words.append(self.form + (f" (opset {self.opset})" if self.opset else ""))
        if self.form != "safetensors":
            words.append(f"batch size {self.batch}" if self.batch else "any batch size")
        checked = "" if self.difference is None else f"; equal to torch within {self.difference:.1e}"
        return f"{self.path}: {', '.join(words)}{checked}."
