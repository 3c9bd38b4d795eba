"""Several experiments in one table, the verdict on the command line, and the smaller dense network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_data, tiny_recipe
from torch import nn

from tombola.analysis.comparison import Compared, at_equal, labelled
from tombola.answers import Curve, Trained
from tombola.cli import main
from tombola.errors import UsageError
from tombola.experiment import prepare, run
from tombola.masks import Mask
from tombola.models.costs import uses_per_weight
from tombola.models.net import Net
from tombola.requests import Fit
from tombola.search.controls import small_dense
from tombola.search.plan import Cuts, Ground
from tombola.starts import Init


def rows(kept: dict[int, int], accuracy: float) -> list[dict[str, Any]]:
    return [
        {"replicate": r, "draw": 0, "level": level, "kept": n, "kept_per_layer": {"a": n // 2, "b": n // 2}}
        | {"diverged": False, "test_accuracy_at_early_stop": accuracy + 0.01 * r}
        for level, n in kept.items()
        for r in (0, 1)
    ]


def test_equal_budgets_are_the_nearest_levels_within_15_per_cent() -> None:
    one = Compared(label="one", digest="1", rows=rows({0: 1000, 1: 800, 2: 100}, 0.9), uses={})
    two = Compared(label="two", digest="2", rows=rows({0: 2000, 1: 900, 2: 820}, 0.8), uses={"a": 1, "b": 3})
    found = at_equal([one, two], Compared.weights)
    assert [b.budget for b in found] == [1000, 800, 100]
    near = [b.accuracy["two"] for b in found]
    assert [entry and entry[0] for entry in near] == [900, 820, None]
    assert near[0] is not None and near[0][1].mean == pytest.approx(0.805)
    assert [c.multiply_adds(c.rows[0]) for c in (one, two)] == [1000, 4000]


def test_labels_say_what_differs() -> None:
    def experiment(digest: str, search: str, lr: float) -> tuple[str, dict[str, Any], dict[str, Any]]:
        settings = f'search = "{search}"\nlevels = {len(digest)}\n[optimizer]\nlr = {lr}\n'
        return digest, {"settings": settings, "recipe": "r"}, {"arms": {"ticket": rows({0: 10}, 0.5)}}

    a, b, c = experiment("a1", "imp", 0.1), experiment("b22", "oneshot", 0.1), experiment("c3", "imp", 0.1)
    assert [x.label for x in labelled([a, b])] == ["r, search imp", "r, search oneshot"]
    assert [x.label for x in labelled([a, c])] == ["r", "r (c3)"]
    for bad, words in (([a], "two experiments"), ([a, a], "named twice")):
        with pytest.raises(UsageError, match=words):
            labelled(bad)
    with pytest.raises(UsageError, match="no arm 'reinit'; it has ticket"):
        labelled([a, b], arm="reinit")


def test_uses_of_linear_and_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, groups=2), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2), nn.LSTM(4, 2))
    assert uses_per_weight(model[:3], torch.zeros(1, 2, 9, 9)) == {"0.weight": 16, "2.weight": 25}
    assert uses_per_weight(nn.Linear(4, 2), torch.zeros(1, 5, 4)) == {"weight": 5}
    assert not any(layer._forward_hooks for layer in model.modules())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("compare") / "store"
    for search in ("imp", "oneshot"):
        recipe = tiny_recipe(search=search, replicates=3, controls=("reinit", "shuffled", "small-dense"))
        run(recipe, data=tiny_data(), store=place)
    return place


def digests(store: Path) -> list[str]:
    return sorted(path.stem for path in (store / "experiments").iterdir())


def test_compare_command(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "c.json", tmp_path / "c.html"
    names = digests(store)
    assert main(["compare", *names, "--store", str(store), "--json", str(out), "--out", str(page)]) == 0
    found = json.loads(out.read_text())
    assert {e["label"] for e in found["experiments"]} == {"tiny, search imp", "tiny, search oneshot"}
    assert len(found["equal_weights"]) == 3
    assert found["equal_weights"][0]["experiments"]["tiny, search imp"]["replicates"] == 3
    assert "search oneshot" in page.read_text()
    assert "equal weights" in capsys.readouterr().out


@pytest.mark.parametrize(("names", "words"), [([], "two experiments"), (["x"], "No experiment")])
def test_compare_says_what_is_wrong(
    store: Path, names: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = names or digests(store)[:1]
    assert main(["compare", *wanted, "--store", str(store)]) == 2
    assert words in capsys.readouterr().err


def test_verdict_command(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "v.json"
    assert main(["verdict", digests(store)[0], "--store", str(store), "--fallback", "--bca", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [level["level"] for level in found["levels"]] == [1, 2]
    assert found["margin"] == 0.01
    assert {level["verdict"] for level in found["levels"]} <= {"winning", "matching", "losing", "inconclusive"}
    assert set(found["levels"][0]["controls"]) == {"reinit", "shuffled"}
    assert found["fallback"]["examples"] == 20
    assert [(one["level"], one["replicates"], one["coverage"]) for one in found["bca"]] == [(1, 3, 0.72), (2, 3, 0.72)]
    assert all(one["low"] <= one["difference"] <= one["high"] for one in found["bca"])
    said = " ".join(capsys.readouterr().out.split())
    assert found["overall"]["sentence"] in said and "Margin 1 points" in said
    assert "a 95 % interval covers about 72 % of the time" in said


def test_the_smaller_dense_network_has_at_most_the_tickets_weights(store: Path) -> None:
    task = prepare(tiny_recipe(), data=tiny_data()).task
    sizes = {at_most: Mask.dense(task.build(0, at_most=at_most)).total for at_most in (11, 40, 141, 176, 10**6)}
    assert sizes == {11: 11, 40: 33, 141: 132, 176: 176, 10**6: 176}
    with pytest.raises(UsageError, match="No form of mlp has at most 10 weights"):
        task.build(0, at_most=10)
    a, b = (task.build(seed, at_most=40).state_dict()["fc1.weight"] for seed in (1, 2))
    assert a.shape == (3, 8) and not torch.equal(a, b)
    document = run(tiny_recipe(replicates=3, controls=("small-dense",)), data=tiny_data(), store=store).document
    small = document["arms"]["small-dense"]
    tickets = {(row["replicate"], row["level"]): row for row in document["arms"]["ticket"]}
    for row in small:
        ticket = tickets[row["replicate"], row["level"]]
        assert 0 < row["kept"] <= ticket["kept"] and row["prunable"] == ticket["prunable"] == 176
        assert row["density"] == row["kept"] / 176
    assert {row["level"] for row in small} == {1, 2}


def test_a_small_network_has_what_the_ticket_protects_too() -> None:
    whole = prepare(tiny_recipe(controls=("small-dense",)), data=tiny_data()).plans[0]
    kept = prepare(tiny_recipe(controls=("small-dense",), protect=("output.*",)), data=tiny_data()).plans[0]
    assert (whole.protected, whole.dense.total) == (0, 176)
    assert (kept.protected, kept.dense.total) == (48, 128)
    ticket, base = kept.fit(kept.init(), kept.dense), Ground(dense=Trained(request="x", first=0, last=1, curve=Curve()))
    (small,) = small_dense(kept, 1, ticket, base, Cuts(mask=kept.dense)).values()
    assert isinstance(small, Fit) and isinstance(small.start, Init) and small.start.at_most == 176


def test_a_factory_has_no_smaller_form() -> None:
    with pytest.raises(UsageError, match="small-dense needs a network whose width can be scaled"):
        prepare(tiny_recipe(controls=("small-dense",)), data=tiny_data(), model=lambda: nn.Linear(8, 3))


def test_width_scales_hidden_layers() -> None:
    narrow = prepare(tiny_recipe(net=Net(hidden=(16,), width=0.5)), data=tiny_data()).task.build(0)
    assert narrow.state_dict()["fc1.weight"].shape == (8, 8)
    with pytest.raises(UsageError, match=r"net.width is 0; expected a factor above 0"):
        Net(width=0)
