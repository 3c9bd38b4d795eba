"""Networks as ONNX files, run by ONNX Runtime beside torch."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cli_helpers import NET, SMALL, call, good, undrawn
from shrink_nets import masked_by_hand, network, random_mask
from torch import Tensor, nn

import tombola
from tombola import Mask, TombolaError
from tombola.errors import Hint, UsageError
from tombola.exporting import Exported, export_onnx, onnx_session, to_onnx
from tombola.exporting import onnx as exporter
from tombola.models.fully_connected import mlp
from tombola.shrinking.surgery import Gather


@torch.no_grad()
def by_hand(path: Path, model: nn.Module, *tensors: Tensor) -> float:
    """max |torch - ONNX Runtime|, by other code than the package uses."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    feed = {entry.name: x.numpy() for entry, x in zip(session.get_inputs(), tensors, strict=True)}
    expected = model(*tensors).numpy()
    got = session.run(None, feed)[0]
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max())


def weights_in(path: Path) -> dict[str, int]:
    return {one.name: int(np.prod(one.dims)) for one in onnx.load(path).graph.initializer}


def lenet() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = mlp((784, 300, 100, 10)).eval()
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.bias, 0.0, 0.1)  # the exporter leaves zeros out
        return model


def blocks(model: nn.Module) -> Mask:
    """A mask that leaves whole units without inputs or readers, and inputs that nothing reads."""
    kept = dict(random_mask(model, 0.1, 0))
    first, second, last = kept
    kept[first][50:] = False
    kept[first][:, 400:] = False
    kept[second][:, 100:150] = False
    kept[last][:, 20:] = False
    return Mask(kept)


@pytest.mark.parametrize("form", ["masked", "shrunk", "gathered"])
def test_lenet(form: str, tmp_path: Path) -> None:
    model, x = lenet(), torch.rand(3, 784)
    mask, before = blocks(model), copy.deepcopy(model.state_dict())
    how: dict[str, Any] = {"shrink": form != "masked", "inputs": "gather" if form == "gathered" else "keep"}
    done = tombola.export_model(model, tmp_path / "net.onnx", x, mask, **how)
    masked = masked_by_hand(model, mask)
    for batch in (x, torch.rand(1, 784), torch.rand(64, 784)):
        assert by_hand(done.path, masked, batch) < 1e-5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (done.form, done.batch, done.size) == ("onnx", None, done.path.stat().st_size)
    assert done.difference is not None and 0 <= done.difference < 1e-5 and done.opset
    whole = sum(p.numel() for p in model.parameters())
    if form == "masked":
        assert done.parameters == whole
        found = {name: size for name, size in weights_in(done.path).items() if "." in name}
        assert found == {name: p.numel() for name, p in model.named_parameters()}
    else:
        small = tombola.shrink(model, mask, x, inputs=how["inputs"]).model
        assert any(isinstance(layer, Gather) for layer in small.modules()) == (form == "gathered")
        assert done.parameters == sum(p.numel() for p in small.parameters()) < 0.15 * whole
        assert done.size < 4 * done.parameters + 8 * 784 + 4000


@pytest.mark.parametrize("shrunk", [False, True], ids=["masked", "shrunk"])
@pytest.mark.parametrize("kind", ["vgg", "resnet", "mobilenet", "transformer", "recurrent", "unet", "tied"])
def test_structures(kind: str, shrunk: bool, tmp_path: Path) -> None:
    """Batch norm, residuals, depthwise convolutions, attention, LSTM, skip connections, tied weights."""
    model = network(kind, 8, 0, torch.float32)
    mask, x = random_mask(model, 0.15, 1), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    done = tombola.export_model(model, tmp_path / "net.onnx", x, mask, shrink=shrunk)
    assert done.batch is None
    masked = masked_by_hand(model, mask)
    for batch in (x, torch.randn(5, 3, 8, 8)):
        assert by_hand(done.path, masked, batch) < 1e-4


class Two(nn.Module):
    """Tensors in a dict, a tensor that is no batch, a constant, results in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 4)
        self.layer = nn.Linear(4, 3)

    def forward(self, ids: Tensor, scale: Tensor, times: int = 1, *, parts: list[Tensor]) -> dict[str, Any]:
        return {"a": self.layer(self.table(ids)) * scale, "b": (parts[0] * times, parts[1].sum()), "c": "text"}


def test_inputs_and_outputs_of_every_kind(tmp_path: Path) -> None:
    model = Two().eval()
    example = {
        "ids": torch.randint(11, (2, 5)),
        "scale": torch.tensor([1.0, 2.0, 3.0]),
        "parts": [torch.ones(2, 2), torch.ones(4)],
        "times": 3,
    }
    done = export_onnx(model, example, tmp_path / "net.onnx")
    graph = onnx.load(done.path).graph
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input}
    assert shapes == {"ids": ["batch", 5], "scale": [3], "parts_0": ["batch", 2], "parts_1": [4]}
    assert [value.name for value in graph.output] == ["output_0", "output_1", "output_2"]
    got = onnx_session(done.path.read_bytes(), threads=2)(example)
    with torch.no_grad():
        expected = model(**example)
    assert torch.allclose(got[0], expected["a"], atol=1e-6)
    assert torch.equal(got[1], expected["b"][0]) and got[2] == 4


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).reshape(2, 3)


class Counting(Fixed):
    """Asks for the batch size in Python, so that torch.export makes it a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * (1.0 if len(x) == 2 else float(len(x)))


@pytest.mark.parametrize("kind", [Fixed, Counting])
def test_a_batch_size_that_cannot_be_open_is_fixed(kind: type[Fixed], tmp_path: Path) -> None:
    tombola.errors.hint.cache_clear()
    model, x = kind().eval(), torch.randn(2, 4)
    with pytest.warns(Hint, match=f"batch size of {kind.__name__} is fixed"):
        done = export_onnx(model, x, tmp_path / "net.onnx")
    assert done.batch == 2 and by_hand(done.path, model, x) < 1e-6 and "batch size 2" in str(done)
    assert onnx.load(done.path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_a_fixed_batch_by_wish(tmp_path: Path) -> None:
    model = nn.Linear(4, 3)
    done = export_onnx(model, torch.randn(1, 4), tmp_path / "net.onnx", dynamic_batch=False)
    assert done.batch == 1 and export_onnx(model, torch.randn(1, 4), done.path).batch is None


def test_what_stands_in_the_file(tmp_path: Path) -> None:
    """Names of the model's own, and nothing of the user's source or folders."""
    data = to_onnx(network("transformer", 8, 0, torch.float32), torch.randn(2, 3, 8, 8))
    assert b"shrink_nets" not in data and b"def " not in data and str(Path.home()).encode() not in data
    names = {one.name for one in onnx.load_from_string(data).graph.initializer}
    assert {"embed.bias", "pool.bias"} <= names and not any(name.startswith("model.") for name in names)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)


@pytest.mark.parametrize("batch", [True, False])
def test_a_difference_leaves_no_file(batch: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph whose weights are a little off is refused, whether the batch is open or not."""
    whole = exporter._tidy

    def off(proto: Any) -> None:
        whole(proto)
        weight = next(one for one in proto.graph.initializer if one.name == "weight")
        values = onnx.numpy_helper.to_array(weight).copy()
        values[0, 0] += 0.01
        weight.CopyFrom(onnx.numpy_helper.from_array(values, "weight"))

    monkeypatch.setattr(exporter, "_tidy", off)
    with pytest.raises(UsageError, match=r"ONNX Runtime and torch differ by .* expected 1e-04 at most\. No file"):
        export_onnx(nn.Linear(4, 3), torch.ones(2, 4), tmp_path / "net.onnx", dynamic_batch=batch)
    assert not list(tmp_path.iterdir())
    done = export_onnx(nn.Linear(4, 3), torch.ones(2, 4), tmp_path / "net.onnx", check=False)
    assert done.difference is None and "equal" not in str(done)


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x).real


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x)


@pytest.mark.parametrize(
    ("model", "example", "words"),
    [
        (Odd(), torch.randn(2, 3, 3), "Odd cannot be exported to ONNX: .*export_program"),
        (Noisy(), torch.ones(2, 30), "Noisy gives other outputs each time in eval mode"),
        (
            nn.Linear(3, 2).bfloat16(),
            torch.ones(2, 3).bfloat16(),
            "ONNX Runtime cannot run this graph: .*Could not find an implementation",
        ),
    ],
    ids=["operation", "noise", "dtype"],
)
def test_what_cannot_be_exported(model: nn.Module, example: Tensor, words: str, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    with warnings.catch_warnings(), pytest.raises(TombolaError, match=words):
        warnings.simplefilter("ignore", Hint)
        export_onnx(model, example, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir()) and torch.equal(torch.random.get_rng_state(), state)


def test_sessions_say_what_is_wrong() -> None:
    with pytest.raises(UsageError, match="ONNX Runtime cannot run this graph"):
        onnx_session(b"nothing")
    with pytest.raises(UsageError, match=r"The example holds 2 tensors; the graph takes 1: \['input'\]"):
        onnx_session(to_onnx(nn.Linear(3, 2), torch.ones(2, 3)))((torch.ones(2, 3), torch.ones(2, 3)))


def test_half_and_double_precision(tmp_path: Path) -> None:
    for dtype, limit in ((torch.float64, 1e-12), (torch.float16, 1e-2)):
        model, x = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype), torch.randn(3, 6).to(dtype)
        done: Exported = export_onnx(model, x, tmp_path / "net.onnx")
        assert done.difference is not None and done.difference < limit and by_hand(done.path, model, x) < limit


@pytest.mark.parametrize("form", ["masked", "shrunk"])
def test_the_command(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with undrawn():
        digest = good("run", "digits-lenet", *NET, *SMALL, "--rate", "0.7", "--quiet", "--json", "-").json["experiment"]
    good("ticket", "save", digest, "t", "--trained", "--level", "1")
    said = good("export-model", "t", "--out", "net.onnx", "--form", form, "--inputs", "gather")
    ticket = tombola.Ticket.load("t")
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)).eval()
    assert ticket.trained is not None
    plain.load_state_dict(dict(zip(plain.state_dict(), ticket.trained.values(), strict=True)))
    assert by_hand(Path("net.onnx"), plain, torch.randn(7, 1, 8, 8)) < 1e-5
    assert "equal to torch within" in said.out and "610 parameters before" in said.out
    gathered = ("--inputs", "gather", "--batch", "4")
    asked = good("export-model", "t", "--out", "two.onnx", "--form", form, *gathered, "--json", "-").json
    assert (asked["batch"], asked["parameters_before"], asked["weights"]) == (4, 610, "trained")
    assert (asked["parameters"] < 610) == (form == "shrunk") and asked["difference"] < 1e-5
    assert call("export-model", "t", "--out", "net.onnx", "--input-shape", "63").code == 2
