"""`tombola.cost`: numbers against hand counts, sentences against numbers, and the command. No test looks at a time."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cli_helpers import MODELS, call, document, good
from shrink_nets import Lambda, network, random_mask
from ticket_helpers import LENET, random_places, seeded_ticket
from torch import Tensor, nn

import tombola
from tombola import Cost, Mask, TombolaError, cost
from tombola.costing import Timing
from tombola.costing.sizes import sizes
from tombola.models.costs import uses_per_weight


def weighed(model: nn.Module, mask: Mask, example: Any, **options: Any) -> Cost:
    return cost(model, mask, example, rounds=5, onnx=False, **options)


def lenet_ticket() -> tuple[nn.Module, Mask]:
    """LeNet-300-100 whose first layer reads no border, as magnitudes of a network trained on digits do, at 3.5 %."""
    model = LENET(0)
    border = F.pad(torch.zeros(20, 20, dtype=torch.bool), (4, 4, 4, 4), value=True).flatten()
    places = {}
    for (name, weight), keep in zip(Mask.dense(model).items(), (6_600, 2_200, 517), strict=True):
        scores = model.get_parameter(name).detach().abs()
        scores = scores.masked_fill(border, 0) if name == "fc1.weight" else scores
        places[name] = torch.zeros(weight.numel(), dtype=torch.bool)
        places[name][scores.flatten().topk(keep).indices] = True
        places[name] = places[name].view(weight.shape)
    return model, Mask(places)


def test_a_lenet_ticket_hardly_shrinks_and_the_sentence_says_so() -> None:
    model, mask = lenet_ticket()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    threads, mode = torch.get_num_threads(), model.training
    found = weighed(model, mask, torch.rand(3, 1, 28, 28), threads=1)
    assert (found.batch, found.threads, found.rounds, found.model) == (3, 1, 5, "Sequential")
    assert (found.parameters, found.prunable, found.kept) == (266_610, 266_200, 9_317)
    assert found.density == pytest.approx(0.035)
    assert (found.multiply_adds, found.kept_multiply_adds) == (266_200, 9_317)
    assert found.effective is not None and 9_000 < found.effective <= 9_317 and not found.effective_note
    shrunk, gathered = found.timings["shrunk"].parameters, found.timings["gathered"].parameters
    assert shrunk is not None and gathered is not None
    assert shrunk > 0.98 * found.parameters and gathered < 0.6 * found.parameters
    assert found.sentence.startswith("This ticket keeps 3.5 % of the weights")
    assert "an unstructured mask hardly shrinks the network" in found.sentence or shrunk == found.parameters
    assert " with unread inputs gathered)" in found.sentence and " times smaller" in found.sentence
    assert " ".join(str(found).split()).endswith(found.sentence)
    assert found.sizes["packed_zlib"] < found.sizes["packed"] < found.sizes["dense"] / 10
    assert found.uncounted == ()
    for name in ("dense", "masked", "shrunk", "gathered"):
        timing = found.timings[name]
        assert timing.seconds is not None and timing.low is not None and timing.high is not None
        assert 0 < timing.low <= timing.seconds <= timing.high
    assert found.timings["dense"].gain == 1
    # nothing of the user's is touched
    assert (torch.get_num_threads(), model.training) == (threads, mode)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_documents_are_json_and_tables_name_every_form() -> None:
    net = network("vgg", 16, 0, torch.float32)
    found = weighed(net, random_mask(net, 0.05, 0), torch.rand(2, 3, 8, 8))
    told = json.loads(json.dumps(found.document(), allow_nan=False))
    assert told["schema"] == 1 and told["sentence"] == found.sentence and told["batch"] == 2
    assert list(told["timings"]) == ["dense", "masked", "shrunk", "gathered", "native", "onnx"]
    assert told["timings"]["onnx"] == dataclasses.asdict(Timing(why="it was not asked for"))
    assert "the kernels do not know this network" in told["timings"]["native"]["why"]
    shown = str(found)
    for part in ("parameters", "multiply-adds", "bytes", "dense", "masked", "shrunk", "native sparse", "ONNX Runtime"):
        assert part in shown
    assert max(map(len, shown.splitlines())) < 200 and shown.isascii()


def test_multiply_adds_of_layers_counted_by_hand() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 4, 3)
            self.back = nn.ConvTranspose1d(4, 6, 2, groups=2)
            self.cell = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True)
            self.step = nn.GRUCell(10, 3)
            self.attention = nn.MultiheadAttention(10, 2, batch_first=True)
            self.cross = nn.MultiheadAttention(10, 2, kdim=4, vdim=4, batch_first=True)
            self.pair = nn.Bilinear(3, 3, 2)
            self.free = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:  # (B, 2, 8)
            four = self.conv(x)  # (B, 4, 6)
            x = self.cell(self.back(four).transpose(1, 2))[0]  # (B, 7, 10)
            x = self.attention(x, x, x, need_weights=False)[0]
            x = self.cross(x, key=four.transpose(1, 2), value=four.transpose(1, 2))[0]
            state = self.step(x[:, 0])
            return F.linear(self.pair(state, state), self.free.weight)

    uses = uses_per_weight(Several(), torch.rand(1, 2, 8))
    cells = {f"cell.weight_{kind}_l{n}{way}": 7 for n in (0, 1) for way in ("", "_reverse") for kind in ("ih", "hh")}
    assert uses == {
        "conv.weight": 6,
        "back.weight": 7,
        **cells,
        "step.weight_ih": 1,
        "step.weight_hh": 1,
        "attention.in_proj_weight": 7,
        "attention.out_proj.weight": 7,
        "cross.q_proj_weight": 7,
        "cross.k_proj_weight": 6,
        "cross.v_proj_weight": 6,
        "cross.out_proj.weight": 7,
        "pair.weight": 1,
    }
    net = Several()
    places = {name: torch.arange(kept.numel()).view(kept.shape) % 2 == 0 for name, kept in Mask.dense(net).items()}
    found = weighed(net, Mask(places), torch.rand(3, 2, 8))
    whole = sum(count * net.get_parameter(name).numel() for name, count in uses.items())
    assert found.multiply_adds == whole
    assert found.kept_multiply_adds == sum(count * int(places[name].sum()) for name, count in uses.items())
    assert found.uncounted == ("free.weight",) and "free.weight are not counted" in str(found)


def test_a_transformer_is_counted_in_full() -> None:
    net = network("transformer", 16, 0, torch.float32)
    found = weighed(net, random_mask(net, 0.2, 0), torch.rand(2, 3, 8, 8))
    assert found.uncounted == ()
    tokens = sum(p.numel() for n, p in net.named_parameters() if n.startswith("e") and p.ndim == 2 and "norm" not in n)
    assert found.multiply_adds == 64 * tokens + 16 * 16 + 16 * 5
    assert "not all is followed in " in found.effective_note


def test_sizes_are_those_of_files() -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 64))
    net[2].weight = net[0].weight  # kept once
    mask = Mask({"0.weight": torch.eye(64) > 0})
    tombola.apply_mask(net, mask)
    found = sizes(net, mask)
    raw = 4 * (64 * 64 + 2 * 64 + 4 * 64) + 8
    assert raw < found["dense"] < raw + 1200
    assert found["packed"] < 4 * (64 + 2 * 64 + 4 * 64) + 8 + 64 * 64 // 8 + 1500
    assert found["packed_zlib"] < found["packed"] and found["dense_zlib"] < found["dense"]


@pytest.mark.parametrize("form", ["tuple", "dict", "nested outputs"])
def test_every_kind_of_example_and_output(form: str) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, y: Tensor, scale: float = 2.0) -> Any:
            out = self.b(torch.relu(self.a(x))) * scale + y
            return {"out": [out, None], "count": 3} if form == "nested outputs" else out

    net = Two()
    x, y = torch.rand(5, 3), torch.rand(5, 2)
    example: Any = {"x": x, "y": y, "scale": 3.0} if form == "dict" else (x, y)
    mask = Mask({**dict(Mask.dense(net)), "b.weight": torch.tensor([[True, False, False, False]] * 2)})
    found = weighed(net, mask, example)
    assert (found.batch, found.kept, found.effective) == (5, 14, 5)
    assert found.multiply_adds == 20 and found.timings["shrunk"].parameters == 3 + 1 + 2 + 2
    assert "takes one tensor" in found.timings["native"].why
    assert found.sentence.startswith(
        "This ticket keeps 70.0 % of the weights (35.7 % of them on a path from input to output), and 30.8 % of the "
        "parameters stay when the network is shrunk: it is "
    )


def test_a_network_that_cannot_be_followed_is_weighed_all_the_same() -> None:
    net = Lambda(lambda m, x: m.a(x) if float(x.sum()) > 0 else m.a(-x), a=nn.Linear(4, 4))
    found = weighed(net, Mask({"a.weight": torch.eye(4) > 0}), torch.ones(2, 4))
    assert found.effective is None and found.effective_density is None
    assert found.effective_note.startswith("unknown: torch.export cannot follow it")
    assert "but Tombola cannot shrink this network (torch.export cannot follow it" in found.sentence
    assert found.timings["shrunk"].parameters == 20 and found.timings["shrunk"].seconds is not None


def test_complex_outputs() -> None:
    net = Lambda(lambda m, x: torch.fft.fft(m.a(x)), a=nn.Linear(4, 4))
    found = weighed(net, Mask({"a.weight": torch.eye(4) > 0}), torch.ones(2, 4))
    assert found.kept == 4 and found.timings["masked"].seconds is not None


def test_a_severed_network_and_a_dense_one() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    mask = Mask({"0.weight": torch.eye(4) > 1, "2.weight": torch.ones(2, 4) > 0})
    said = weighed(net, mask, torch.ones(2, 4)).sentence
    assert "(none of them on a path from an input to an output: what it puts out is constant)" in said
    assert weighed(net, Mask.dense(net), torch.ones(2, 4)).sentence.startswith("Nothing is pruned here")


def made(density: float = 0.035, left: float = 0.99, more: float = 0.715, **gains: tuple[float, float, float]) -> Cost:
    """A cost with these gains: form=(5th percentile, median, 95th)."""

    def timing(name: str, parameters: int | None) -> Timing:
        if name not in gains:
            return Timing(parameters=parameters, why="it is made up")
        low, gain, high = gains[name]
        timed = {"seconds": 1e-5 / gain, "low": 9e-6 / gain, "high": 2e-5 / gain}
        return Timing(parameters=parameters, gain=gain, gain_low=low, gain_high=high, **timed)

    counts = {"dense": 1000, "masked": 1000, "shrunk": round(1000 * left), "gathered": round(1000 * more)}
    return Cost(
        model="Net", batch=1, threads=1, rounds=9, machine="m", parameters=1000, prunable=1000,
        kept=round(1000 * density), effective=round(1000 * density), effective_note="", multiply_adds=1000,
        kept_multiply_adds=round(1000 * density), uncounted=(),
        sizes={"dense": 4000, "dense_zlib": 500, "packed": 400, "packed_zlib": 200},
        timings={name: timing(name, counts.get(name)) for name in (*counts, "native", "onnx")},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            made(shrunk=(0.8, 1.02, 1.1), native=(7, 8.1, 9), onnx=(1.5, 2.1, 3)),
            "This ticket keeps 3.5 % of the weights, but an unstructured mask hardly shrinks the network: 99.0 % of "
            "its parameters stay (71.5 % with unread inputs gathered), and run densely it is not measurably faster or "
            "slower. The file is 20 times smaller; the native sparse runner is 8.1 times as fast as torch on the dense "
            "network at batch 1 (ONNX Runtime, which skips no zeros: 2.1).",
        ),
        (
            made(left=0.4, more=0.4, shrunk=(1.6, 1.8, 2.0)),
            "This ticket keeps 3.5 % of the weights, and 40.0 % of the parameters stay when the network is shrunk: it "
            "is 1.80 times as fast as before. The file is 20 times smaller; the native sparse runner does not apply: "
            "it is made up.",
        ),
        (
            made(left=1, more=1, shrunk=(0.7, 0.8, 0.9), native=(0.5, 0.6, 0.8)),
            "This ticket keeps 3.5 % of the weights, but Tombola cannot shrink this network (it is made up); run "
            "densely it is slower than before (0.80 times as fast). The file is 20 times smaller; the native sparse "
            "runner is slower than torch (0.60 times as fast) at batch 1.",
        ),
    ],
    ids=["hardly", "half", "slower"],
)
def test_sentences(found: Cost, sentence: str) -> None:
    if found.timings["shrunk"].parameters == 1000:
        timings = {**found.timings, "shrunk": dataclasses.replace(found.timings["shrunk"], why="it is made up")}
        found = dataclasses.replace(found, timings=timings)
    assert found.sentence == sentence


WHOLE = Mask.dense(nn.Linear(3, 3))
SILENT = Lambda(lambda m, x: "nothing", a=nn.Linear(3, 3))  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("model", "mask", "example", "options", "message"),
    [
        (nn.Linear(3, 3), Mask({"other": torch.ones(3, 3) > 0}), torch.ones(1, 3), {}, "other"),
        (nn.Linear(3, 3), Mask({"weight": torch.ones(2, 3) > 0}), torch.ones(1, 3), {}, "shape"),
        (nn.Linear(3, 3), Mask({}), torch.ones(1, 3), {}, "names no weights"),
        (nn.Linear(3, 3), {"weight": 1}, torch.ones(1, 3), {}, "The mask is a dict"),
        ("net", WHOLE, torch.ones(1, 3), {}, "The model is a str"),
        (nn.ReLU(), WHOLE, torch.ones(1, 3), {}, "weight"),
        (nn.Linear(3, 3), WHOLE, torch.ones(1, 4), {}, "does not take the example"),
        (nn.Linear(3, 3), WHOLE, torch.ones(0, 3), {}, "has no values"),
        (nn.Linear(3, 3), WHOLE, [], {}, "holds no tensor"),
        (SILENT, Mask({"a.weight": WHOLE["weight"]}), torch.ones(1, 3), {}, "no tensor"),
        (nn.Linear(3, 3), WHOLE, torch.ones(1, 3), {"rounds": 4}, "rounds=4"),
        (nn.Linear(3, 3), WHOLE, torch.ones(1, 3), {"rounds": 5.0}, "rounds=5.0"),
        (nn.Linear(3, 3), WHOLE, torch.ones(1, 3), {"threads": 100_000}, "threads is 100000; expected a whole number"),
        (nn.Linear(3, 3), WHOLE, torch.ones(1, 3), {"threads": 0}, "threads is 0; expected a whole number from 1 to"),
    ],
)  # fmt: skip
def test_what_does_not_fit(model: Any, mask: Any, example: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TombolaError, match=message):
        cost(model, mask, example, **{"onnx": False, **options})


# ------------------------------------------------------------------------------------------------ the command

FAST = ("--rounds", "5", "--threads", "1", "--onnx", "no")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_on_a_ticket_that_names_its_network(here: Path) -> None:
    ticket = seeded_ticket(LENET, seed=3, mask=random_places(LENET(0), 6_600, 2_200, 517))
    ticket.save("t", seed=3, build=LENET)
    shown = good("cost", "t", *FAST, "--batch", "4", "--json", "t.json").out
    told = document("t.json")
    assert (told["file"], told["batch"], told["kept"], told["prunable"]) == ("t", 4, 9_317, 266_200)
    assert told["sentence"] in " ".join(shown.split()) and "batch 4, 1 thread" in shown
    assert good("cost", "t", *FAST, "--json", "-").json["batch"] == 1


def test_the_command_on_a_network_of_ones_own(here: Path) -> None:
    Path("ours.py").write_text(MODELS)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    mask = random_mask(net, 0.5, 0)
    tombola.apply_mask(net, mask)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    tombola.Ticket(mask=mask, weights=state).save("t")
    told = good("cost", "t", *FAST, "--model", "ours:good", "--input-shape", "6", "--json", "-").json
    assert (told["parameters"], told["kept"]) == (83, 36)
    for arguments, message in [
        ((), "does not say what its network is given"),
        (("--input-shape", "6"), "does not say how its network is built"),
        (("--input-shape", "6", "--model", "ours:narrow"), "2.weight"),
        (("--input-shape", "6", "--model", "ours:nobody"), "has no 'nobody'"),
        (("--input-shape", "7", "--model", "ours:good"), "does not take the example"),
        (("--input-shape", "six", "--model", "ours:good"), "--input-shape is 'six'"),
        (("--input-shape", "6", "--model", "ours:good", "--batch", "0"), "--batch is 0"),
        (("--input-shape", "6", "--model", "ours:good", "--batch", str(10**14)), "No memory for 100,000,000,000,000"),
        (("--input-shape", "6", "--model", "ours:good", "--rounds", "1"), "rounds=1"),
    ]:
        called = call("cost", "t", *FAST, *arguments)
        assert called.code == 2 and message in called.err and not called.out and len(called.lines) < 13, called.err
    Path("t").write_bytes(Path("t").read_bytes()[:-9])
    assert call("cost", "t", *FAST).code == 2 and call("cost", "nowhere").code == 2
