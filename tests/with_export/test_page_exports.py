"""The pages that export: from `pip install` to a smaller ONNX file, as they stand there."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from pages import ROOT, blocks, run_page

import tombola


def test_newcomers_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = "examples/README.md"
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "\npip install " in text.partition("```python")[0]
    ((_, code),) = blocks(page)
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    monkeypatch.chdir(tmp_path)
    found = run_page(page, tmp_path)
    assert "100.0% of the weights" in capsys.readouterr().out
    model, mask, x = found["model"], found["ticket"].mask, found["x"][:7]
    with torch.no_grad():
        expected = model.eval()(x)
    session = onnxruntime.InferenceSession(str(tmp_path / "digits.onnx"))
    (outputs,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert torch.allclose(torch.as_tensor(outputs), expected, atol=1e-4 * float(expected.abs().max()))
    whole = tombola.export_model(model, tmp_path / "whole.onnx", x)
    assert mask.density <= 0.25 and (tmp_path / "digits.onnx").stat().st_size < 0.9 * whole.size


def test_shipping_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    run_page("docs/ship.md", tmp_path, "with_export", first=2)
    assert (tmp_path / "digits.onnx").exists()
