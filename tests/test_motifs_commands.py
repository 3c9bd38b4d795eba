"""`tombola motif`: tables, pictures, files, and what is said to those who ask wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_helpers import call, document, good

from tombola.motifs import MOTIFS, rewards
from tombola.motifs.network import read_network


def test_score_of_all_seven(tmp_path: Path) -> None:
    called = good("motif", "score", "--json", tmp_path / "all.json")
    lines = called.out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:8]] == [motif.title for motif in MOTIFS.values()]
    assert "23.945  20.114       7 9 9  0.9914     0.953   0.043" in lines[1]
    found = document(tmp_path / "all.json")["motifs"]
    assert [one["name"] for one in found] == list(MOTIFS)
    assert found[0]["plain"] == pytest.approx(23.945039, abs=1e-5)
    assert found[5]["dynamics"]["offset"] == 2 and found[5]["strict"] >= 24
    assert found[0]["weights"][0][1] == 12 and found[0]["silent"] is None


def test_score_of_a_file_of_the_same_motif() -> None:
    for name, motif in (("22", MOTIFS["22"]), ("2b", MOTIFS["2b"])):
        path = Path(f"{name}.json")
        path.write_text(json.dumps(motif.network.document()))
    both = good("motif", "score", "22", "22.json", "--json", "-").json["motifs"]
    assert both[0]["plain"] == both[1]["plain"] and both[1]["title"] == "22"


def test_score_says_what_to_beware_of() -> None:
    out = good("motif", "score", "22", "--substeps", 1).out
    assert "Motif 22: the solver is too coarse: traces change by" in out
    assert "too coarse" in good("motif", "prune", "22", "--substeps", 1, "--method", "magnitude").out
    assert "too coarse" in good("motif", "plot", "22", "--substeps", 1, "--out", "coarse.svg").out
    Path("deaf.json").write_text('{"weights": [[50, 0], [10, 50]], "morphogen": [0, 9]}')
    out = good("motif", "score", "deaf.json").out
    assert "deaf: reward 0: gene 1 is the same in every cell, since no gene that reads the morphogen has a path" in out


def test_prune_and_what_is_left() -> None:
    called = good("motif", "prune", "22", "--save", "small.json", "--json", "down.json")
    assert "4 of 12 edges keep 98.8 % (asked: 86.8 %); 90 networks" in called.out
    small, down = read_network(Path("small.json")), document("down.json")
    assert len(small.edges) == down["smallest"] == 4
    assert [step["edges"] for step in down["steps"]] == list(range(12, -1, -1))
    assert rewards([small]).item() == down["steps"][8]["reward"]
    every = good("motif", "prune", "2b", "--method", "exhaustive", "--json", "-")
    assert every.json["method"] == "exhaustive" and every.json["smallest"] == 4
    assert good("motif", "prune", "2b", "--method", "magnitude", "--strict", "--share", "0.5", "--quiet").err == ""


def test_plot(tmp_path: Path) -> None:
    good("motif", "plot", "2b", "22", "--out", tmp_path / "both.png")
    around = good("motif", "plot", "2b", "--landscape", "--out", tmp_path / "around.svg", "--json", "-")
    assert around.json["motifs"][0]["name"] == "2b" and around.json["landscape"]
    head = (tmp_path / "both.png").read_bytes()
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) > 20_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("motif",), "Name one of score, prune, diverse, ticket, plot."),
        (("motif", "scroe"), "Unknown action 'scroe'. Did you mean 'score'?"),
        (("motif", "score", "10"), "there is no motif '10'. Did you mean '1'? Or name a JSON file."),
        (("motif", "score", "none.json"), "none.json cannot be read: No such file"),
        (
            ("motif", "score", "wide.json"),
            "wide.json: row 1 of weights has 3 numbers for 2 rows; expected a square matrix",
        ),
        (("motif", "score", "nan.json"), "nan.json: number 2 of row 1 of weights is nan; expected a finite number"),
        (("motif", "score", "long.json"), "long.json: morphogen has 3 numbers for 2 genes"),
        (("motif", "score", "large.json"), "number 1 of row 1 of weights is 101; expected one within -100 to 100"),
        (("motif", "score", "9", "--substeps", "0"), "substeps is 0; expected a whole number, 1 or more"),
        (("motif", "score", "9", "--substeps", "9" * 20), "substeps are 1,989,999,"),
        (("motif", "ticket", "--success", "nan"), "success is nan; expected a reward, 0 or more"),
        (("motif", "score", "9", "--offset", "nan"), "offset is nan; expected a finite number"),
        (("motif", "prune"), "MOTIF is missing: tombola motif prune MOTIF"),
        (
            ("motif", "prune", "9", "--method", "exhaustive"),
            "46 edges and 70,368,744,177,664 such sub-networks; at most 65,536",
        ),
        (("motif", "prune", "9", "--method", "gredy"), "Did you mean 'greedy'?"),
        (
            ("motif", "prune", "9", "--method", "snip"),
            "The criterion snip looks at examples, which",
        ),
        (("motif", "prune", "9", "--share", "2"), "share is 2.0; expected a fraction above 0"),
        (("motif", "prune", "deaf.json"), "deaf has reward 0, so there is nothing to keep: gene 1 is the same"),
        (
            ("motif", "prune", "4", "--strict", "--method", "magnitude"),
            "Motif 4 has strict reward 0, so there is nothing",
        ),
        (("motif", "plot", "9"), "--out is ''; expected a file that ends in .png, .svg, .pdf"),
        (("motif", "plot", "--out", "a.png"), "MOTIF is missing"),
        (("motif", "plot", "9", "--out", "none/a.png"), "The folder of none/a.png does not exist"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(arguments: tuple[str, ...], said: str) -> None:
    for name, text in {
        "wide": '{"weights": [[1, 2, 0], [3, 4, 0]], "morphogen": [1, 1]}',
        "nan": '{"weights": [[1, NaN], [3, 4]], "morphogen": [1, 1]}',
        "long": '{"weights": [[1, 2], [3, 4]], "morphogen": [1, 1, 0]}',
        "large": '{"weights": [[101, 2], [3, 4]], "morphogen": [1, 1]}',
        "deaf": '{"weights": [[50, 0], [10, 50]], "morphogen": [0, 9]}',
    }.items():
        Path(f"{name}.json").write_text(text)
    called = call(*arguments)
    assert called.code == 2 and called.out == ""
    assert said in called.err
    assert len(called.lines) <= 4


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a folder of its own."""
    monkeypatch.chdir(tmp_path)
