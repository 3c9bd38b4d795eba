"""ONNX Runtime's row of `tombola.cost`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cli_helpers import good
from shrink_nets import Lambda, network, random_mask
from ticket_helpers import SMALL, seeded_ticket
from torch import Tensor, nn

from tombola import Mask, cost
from tombola.costing import forms


@pytest.mark.parametrize("kind", ["mlp", "resnet", "transformer"])
def test_networks_are_timed_in_onnx_runtime(kind: str) -> None:
    net = network(kind, 16, 0, torch.float32)
    found = cost(net, random_mask(net, 0.2, 0), torch.rand(2, 3, 8, 8), rounds=5, threads=1)
    timing = found.timings["onnx"]
    assert timing.seconds is not None and timing.gain is not None and not timing.why
    assert timing.parameters == found.parameters
    assert "ONNX Runtime" in found.sentence


def test_several_arguments_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.a(x) + y

    mask, example = Mask({"a.weight": torch.eye(3) > 0}), {"y": torch.rand(2, 3), "x": torch.rand(2, 3)}
    assert cost(Two(), mask, example, rounds=5, onnx=True).timings["onnx"].seconds is not None


def test_what_it_cannot_run_is_said() -> None:
    net = Lambda(lambda m, x: m.a(x) if float(x.sum()) > 0 else m.a(-x), a=nn.Linear(2, 2))
    timing = cost(net, Mask({"a.weight": torch.eye(2) > 0}), torch.ones(1, 2), rounds=5).timings["onnx"]
    assert timing.seconds is None and timing.parameters is None and "cannot be exported to ONNX" in timing.why


def test_other_outputs_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(data: bytes, threads: int) -> Any:
        return lambda example: [torch.full((1, 2), 1e6)]

    monkeypatch.setattr("tombola.exporting.onnx.onnx_session", wrong)
    net = nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    timing = cost(net, Mask({"1.weight": torch.eye(2) > 0}), torch.ones(1, 2), rounds=5).timings["onnx"]
    assert timing.why.startswith("its outputs differ from torch's by ")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    net, mask = nn.Linear(2, 2), Mask({"weight": torch.eye(2) > 0})
    missing = r"onnx, onnxruntime, onnxscript not installed: pip install 'tombola\[onnx\]'"
    with pytest.raises(ValueError, match=rf"onnx=True, but {missing}\.$"):
        cost(net, mask, torch.ones(1, 2), rounds=5, onnx=True)
    assert "not installed" in cost(net, mask, torch.ones(1, 2), rounds=5).timings["onnx"].why


def test_the_command(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seeded_ticket(SMALL, seed=1).save("t", seed=1, build=SMALL)
    told = good("cost", "t", "--rounds", "5", "--onnx", "yes", "--json", "-").json
    assert told["timings"]["onnx"]["seconds"] > 0
