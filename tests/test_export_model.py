"""Networks as dense weights and as torch.export programs, and what the command refuses."""

from __future__ import annotations

import copy
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_helpers import MODELS, call, good
from helpers import same_state
from safetensors.torch import load_file
from shrink_nets import masked_by_hand, network, random_mask, same
from ticket_helpers import SMALL, rich_ticket, seeded_ticket
from torch import Tensor, nn

import tombola
from tombola import Mask, Ticket, TombolaError
from tombola.errors import Hint, StoreError, UsageError
from tombola.exporting import comparing, export_program, export_weights, program, writing
from tombola.exporting.comparing import apart

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def loaded(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: nn.Module = torch.export.load(path).module()
    return module


@pytest.mark.parametrize("kind", ["resnet", "tied", "shared", "recurrent"])
def test_weights_for_a_plain_model(kind: str, tmp_path: Path) -> None:
    model = network(kind, 8, 0, torch.float32)
    mask, before = random_mask(model, 0.2, 0), copy.deepcopy(model.state_dict())
    done = tombola.export_model(model, tmp_path / "net.safetensors", mask=mask)
    plain = network(kind, 8, 2, torch.float32)
    plain.load_state_dict(load_file(done.path))
    masked = masked_by_hand(model, mask)
    assert same_state(plain.state_dict(), masked.state_dict()) and same(masked, plain, X)
    assert same_state(model.state_dict(), before)
    assert done.parameters == sum(p.numel() for p in model.parameters()) and done.size == done.path.stat().st_size
    assert (done.form, done.difference, done.opset) == ("safetensors", None, None)


def test_weights_of_tied_wrapped_and_training_models(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(7, 4)
            self.out = nn.Linear(4, 7, bias=False)
            self.out.weight = self.table.weight

    model, other = Tied().train(), Tied()
    done = export_weights(model, tmp_path / "net.safetensors")
    assert model.training and done.parameters == 28
    state = load_file(done.path)
    assert list(state) == ["out.weight", "table.weight"] and torch.equal(*state.values())
    other.load_state_dict(state)
    assert torch.equal(other.out.weight, model.table.weight) and other.out.weight is other.table.weight
    layer = nn.Linear(3, 2)
    export_weights(nn.DataParallel(layer), done.path)
    assert same_state(load_file(done.path), layer.state_dict())


def test_a_shrunk_network_as_weights(tmp_path: Path) -> None:
    model = network("resnet", 8, 0, torch.float32)
    mask = random_mask(model, 0.03, 0)
    done = tombola.export_model(model, tmp_path / "net.safetensors", X, mask, shrink=True)
    small = tombola.shrink(model, mask, X)
    assert same_state(load_file(done.path), small.model.state_dict()) and done.parameters == small.after < small.before


@pytest.mark.parametrize("shrunk", [False, True], ids=["masked", "shrunk"])
@pytest.mark.parametrize("kind", ["mlp", "resnet", "transformer", "recurrent"])
def test_programs(kind: str, shrunk: bool, tmp_path: Path) -> None:
    model = network(kind, 8, 0, torch.float32)
    mask = random_mask(model, 0.15, 0)
    done = tombola.export_model(model, tmp_path / "net.pt2", X, mask, shrink=shrunk)
    masked, again = masked_by_hand(model, mask), loaded(done.path)
    assert same(masked, again, X, torch.randn(5, 3, 8, 8)) and done.batch is None
    assert done.difference is not None and done.difference < 1e-5
    with zipfile.ZipFile(done.path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert not any(data.startswith((b"PK", b"\x80\x02")) for data in held.values())  # no pickle
    assert not any(b"shrink_nets.py" in data or b"def " in data for data in held.values())


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor, *, scale: Tensor, parts: list[Tensor]) -> dict[str, Tensor]:
        return {"a": self.layer(x) * scale, "b": parts[0] + 1}


class Fixed(Named):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.layer(x).reshape(2, 3)


class Noisy(Named):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return nn.functional.dropout(self.layer(x))


class Branching(Named):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.layer(x) if x.sum() > 0 else -self.layer(x)


class Stateful(Named):
    def get_extra_state(self) -> str:
        return "more"

    def set_extra_state(self, state: str) -> None: ...


def test_a_program_with_named_arguments(tmp_path: Path) -> None:
    model = Named()
    example = {"x": torch.ones(2, 4), "scale": torch.tensor(2.0), "parts": [torch.ones(2)]}
    done = export_program(model, example, tmp_path / "net.pt2")
    further = {"x": torch.randn(5, 4), "scale": torch.tensor(3.0), "parts": [torch.zeros(5)]}
    found, expected = loaded(done.path)(**further), model(**further)
    assert done.batch is None and list(found) == ["a", "b"]
    assert all(torch.allclose(found[name], expected[name]) for name in expected)


def test_a_program_with_a_fixed_batch(tmp_path: Path) -> None:
    tombola.errors.hint.cache_clear()
    with pytest.warns(Hint, match="batch size of Fixed is fixed in the program"):
        done = export_program(Fixed(), torch.ones(2, 4), tmp_path / "net.pt2")
    assert done.batch == 2
    assert export_program(Named().layer, torch.ones(3, 4), done.path, dynamic_batch=False).batch == 3
    with pytest.raises(Exception, match=r"size|shape|Guard"):
        loaded(done.path)(torch.ones(2, 4))


def test_a_program_that_differs_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = program._saved

    def off(model: nn.Module, *further: Any, **options: Any) -> bytes:
        other = copy.deepcopy(model)
        with torch.no_grad():
            next(other.parameters()).add_(0.01)
        return whole(other, *further, **options)

    monkeypatch.setattr(program, "_saved", off)
    with warnings.catch_warnings(), pytest.raises(UsageError, match=r"torch\.export and torch differ by"):
        warnings.simplefilter("ignore", Hint)
        export_program(nn.Linear(4, 3), torch.ones(2, 4), tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


LAYER, MASK, ONE = nn.Linear(3, 2), Mask({"weight": torch.eye(2, 3) > 0}), torch.ones(2, 3)
WRONG: dict[str, tuple[nn.Module, dict[str, Any], str]] = {
    "suffix": (LAYER, {"path": "net.onx", "example": ONE}, r"suffix '.onx'; expected one of .*Did you mean '.onnx'\?"),
    "no suffix": (LAYER, {"path": "net", "example": ONE}, "net has no suffix; expected one of"),
    "no example": (LAYER, {"path": "net.pt2"}, "holds a graph, which needs an example"),
    "shrink without a mask": (LAYER, {"path": "net.pt2", "example": ONE, "shrink": True}, "shrink=True needs the mask"),
    "shrink without an example": (LAYER, {"path": "n.safetensors", "mask": MASK, "shrink": True}, "and an example"),
    "example": (LAYER, {"path": "net.pt2", "example": torch.ones(2, 4)}, r"does not take the example .*\(2, 4\)"),
    "no tensor": (LAYER, {"path": "net.pt2", "example": ("x",)}, "The example holds no tensor"),
    "mask": (LAYER, {"path": "net.pt2", "example": ONE, "mask": Mask({"w": torch.ones(1, 1) > 0})}, "'w'"),
    "no folder": (LAYER, {"path": "none/net.pt2", "example": ONE}, "folder of .* does not exist"),
    "no file": (LAYER, {"path": "dir.pt2", "example": ONE}, "is no file and cannot become one"),
    "noise": (Noisy(), {"path": "net.pt2", "example": torch.ones(20, 4)}, "gives other outputs each time in eval mode"),
    "branches": (Branching(), {"path": "net.pt2", "example": torch.ones(2, 4)}, "cannot be exported by torch.export"),
    "state": (Stateful(), {"path": "net.safetensors"}, "state '_extra_state' is a str"),
    "lazy": (nn.LazyLinear(3), {"path": "net.safetensors"}, "'weight' is of a lazy layer"),
    "meta": (nn.Linear(3, 2, device="meta"), {"path": "net.safetensors"}, "'weight' is on the meta device"),
    "no model": (len, {"path": "net.safetensors"}, "a builtin_function_or_method; expected a torch.nn.Module"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.filterwarnings("ignore:The batch size")
def test_what_is_refused(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dir.pt2").mkdir()
    model, options, words = WRONG[wrong]
    state = torch.random.get_rng_state()
    with pytest.raises(TombolaError, match=words):
        tombola.export_model(model, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["dir.pt2"]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    place = tmp_path / "net.safetensors"
    place.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(writing, "replace", full)
        with pytest.raises(StoreError, match="cannot be written: No space left on device"):
            export_weights(LAYER, place)
        patch.setattr(writing.os, "access", lambda *_: False)
        with pytest.raises(UsageError, match="its folder is read-only"):
            export_weights(LAYER, place)
    assert place.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(UsageError, match=r"is not installed: pip install 'tombola\[onnx\]'"):
        tombola.export_model(LAYER, tmp_path / "net.onnx", ONE)
    assert not list(tmp_path.iterdir())


def test_differences() -> None:
    one, inf, nan = torch.ones(1), torch.tensor([float("inf"), 1.0]), torch.tensor([float("nan"), 1.0])
    assert apart(one, one) == apart(inf, inf) == apart(nan, nan) == apart(one[:0], one[:0]) == 0
    assert apart(inf, -inf) == apart(inf, one.expand(2)) == apart(one.expand(2), nan) == float("inf")
    assert apart(torch.zeros(1), one * 1e-6) == pytest.approx(1e-3)
    assert apart(torch.tensor([3, 4]), torch.tensor([3, 5])) == 0.25
    for shape, words in (((2, 3), "of the shapes"), ((2, 2), None)):
        tensors = [torch.ones(shape)]
        if words:
            with pytest.raises(UsageError, match=words):
                comparing.compared(LAYER, ((ONE,), {}), lambda _, t=tensors: t, "It", twice=False)  # type: ignore[misc]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected_of(ticket: Ticket, state: Any) -> nn.Module:
    model = SMALL(0).eval()
    model.load_state_dict(state)
    return masked_by_hand(model, ticket.mask)


@pytest.mark.parametrize("form", ["masked", "shrunk"])
@pytest.mark.parametrize("weights", ["trained", "start"])
@pytest.mark.parametrize("seeded", [False, True], ids=["weights", "seed"])
def test_the_command(form: str, weights: str, seeded: bool, here: Path) -> None:
    ticket = rich_ticket()
    ticket.save("t", **({"seed": 3, "build": SMALL} if seeded else {}))
    Path("export_nets.py").write_text("from ticket_helpers import SMALL\ndef make():\n    return SMALL(3)\n")
    own = () if seeded else ("--model", "export_nets:make", "--input-shape", "6")
    said = good("export-model", "t", "--out", "net.pt2", "--form", form, "--weights", weights, *own)
    model = expected_of(ticket, ticket.trained if weights == "trained" else ticket.weights)
    assert same(model, loaded(Path("net.pt2")), torch.randn(3, 6))
    lines = said.out.splitlines()
    assert lines[0].startswith(f"net.pt2: {Path('net.pt2').stat().st_size:,} bytes, ")
    assert "any batch size; equal to torch within" in lines[0]
    assert lines[1].startswith(f"{weights} weights under a mask that keeps {ticket.mask.alive:,} of 45 weights")
    assert lines[1].endswith("53 parameters before.") and (len(lines) == 3) == (form == "shrunk")
    asked = good("export-model", "t", "--out", "w.safetensors", "--weights", weights, *own[:2], "--json", "-").json
    assert same_state(load_file("w.safetensors"), model.state_dict())
    assert asked == {
        "schema": 1,
        "file": "w.safetensors",
        "bytes": Path("w.safetensors").stat().st_size,
        "form": "safetensors",
        "weights": weights,
        "parameters_before": 53,
        "parameters": 53,
        "shrunk": False,
        "difference": None,
        "batch": None,
        "opset": None,
        "notes": [],
    }


REFUSED = {
    "out": ((), "--out is missing; name a file: --out net.onnx"),
    "standard output": (("--out", "-"), "this file is no text"),
    "itself": (("--out", "t"), "--out t is the ticket file itself"),
    "suffix": (("--out", "net.txt"), "suffix '.txt'; expected one of"),
    "folder": (("--out", "none/net.pt2"), "folder of none/net.pt2 does not exist"),
    "batch": (("--out", "net.pt2", "--batch", "0"), "--batch is 0; expected 1 or more"),
    "shape": (("--out", "net.pt2", "--input-shape", "6x"), "--input-shape is '6x'; expected the sizes"),
    "other shape": (("--out", "net.pt2", "--input-shape", "5", "--weights", "start"), "does not take the example"),
    "untrained": (("--out", "net.pt2"), "holds only the start weights, which are not trained"),
    "form": (("--out", "net.pt2", "--form", "small"), "--form is 'small'; expected one of masked, shrunk"),
    "factory": (("--out", "net.pt2", "--model", "nets:nothing", "--weights", "start"), "expected a torch.nn.Module"),
    "model": (("--out", "net.pt2", "--model", "nets:good", "--weights", "start"), "build(3) makes another model"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_the_command_refuses(wrong: str, here: Path) -> None:
    Path("nets.py").write_text(MODELS)
    seeded_ticket().save("t", seed=3, build=SMALL)
    flags, words = REFUSED[wrong]
    called = call("export-model", "t", *flags)
    assert called.code == 2 and words in called.err and called.out == ""
    assert sorted(path.name for path in here.iterdir() if path.name != "__pycache__") == ["nets.py", "t"]


def test_a_file_that_does_not_say_what_it_is_of(here: Path) -> None:
    """Nothing is imported because a file says so."""
    Path("evil.py").write_text("raise SystemExit('run')")
    ticket = seeded_ticket(metadata={"recipe": {"model": "evil:net"}, "input_shape": [1 << 40]})
    ticket.save("t")
    flags = ("export-model", "t", "--out", "net.pt2", "--weights", "start")
    called = call(*flags)
    assert called.code == 2 and "name what builds it: --model" in called.err and "evil:net" in called.err
    Path("export_nets.py").write_text("from ticket_helpers import SMALL\ndef make():\n    return SMALL(3)\n")
    called = call(*flags, "--model", "export_nets:make")
    assert called.code == 2 and "name the shape of one example: --input-shape" in called.err
    for note in ({"name": "mlp"}, {**SMALL.note(), "net": {"hidden": [1 << 30]}}, {**SMALL.note(), "outputs": 4}):
        Ticket(mask=ticket.mask, weights=ticket.weights, metadata={"network": note}).save("t")
        called = call(*flags)
        assert called.code == 2 and ("cannot be built" in called.err or "does not fit" in called.err)
