"""`tombola motif diverse`: what it says, and the page that it writes."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from cli_helpers import call, document, good

from tombola.motifs import MOTIFS, Found, GeneNetwork, rewards
from tombola.motifs.dynamics import Dynamics
from tombola.motifs.gallery import page, unlike


def found(name: str, reward: float, boundaries: int = 6) -> Found:
    return Found(network=MOTIFS[name].network, reward=reward, boundaries=boundaries)


def test_those_least_alike_are_shown() -> None:
    best, twin, same = found("22", 30.0), found("22", 29.0), found("22", 28.0, boundaries=5)
    other = found("2", 5.0)
    assert unlike([same, twin, other, best], 3) == [best, other, same]
    assert unlike([twin, best], 5) == [best, twin]
    assert unlike([best], 0) == [] == unlike([], 3)


def test_a_page_holds_its_pictures() -> None:
    text = page([found("2b", 16.8), found("2b", 3.0)], Dynamics(), title="A < B", headline="Two.")
    assert "A &lt; B" in text and "Reward 16.8, 4 edges, 6 boundaries" in text
    pictures = re.findall(r'src="data:image/png;base64,([^"]*)"', text)
    assert len(pictures) == 2 and pictures[0] == pictures[1]
    assert base64.b64decode(pictures[0])[:8] == b"\x89PNG\r\n\x1a\n"
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "No network was found" in page([], Dynamics(), title="None", headline="")


def test_elites_on_a_page(tmp_path: Path) -> None:
    options = ("--genes", 4, "--evaluations", 1280, "--at-least", 2, "--most", 3)
    called = good("motif", "diverse", *options, "--out", tmp_path / "page.html", "--json", tmp_path / "all.json")
    said = document(tmp_path / "all.json")
    assert said["evaluations"] == 1280 and not said["capped"] and said["genes"] == 4
    assert said["good"] == len(said["networks"]) > 3 and said["found"] > said["good"]
    networks = [GeneNetwork(weights=one["weights"], morphogen=one["morphogen"]) for one in said["networks"]]
    assert rewards(networks).tolist() == [one["reward"] for one in said["networks"]]
    assert f"{said['good']} networks with a plain reward of 2 or more" in called.out
    assert (tmp_path / "page.html").read_text().count("<img ") == 3
    again = good("motif", "diverse", *options, "--json", "-").json
    assert again["networks"] == said["networks"]


def test_a_flow_is_held_against_the_exact_law() -> None:
    called = good(
        "motif", "diverse", "--method", "flow", "--genes", 1, "--levels", 3, "--evaluations", 12_800, "--quiet"
    )
    assert called.err == "" and "0 networks with a plain reward of 20 or more, 0 sign topologies" in called.out
    shares = re.search(r"total variation to the exact law +(0\.\d+)", called.out)
    assert shares and float(shares[1]) < 0.1
    assert "different ones among them" in called.out


def test_novelty_and_a_clock() -> None:
    options = ("--method", "novelty", "--genes", 2, "--evaluations", 10_000, "--seconds", 0.001, "--strict")
    called = good("motif", "diverse", *options)
    assert "The clock ended the search; another machine gets another result." in called.out
    assert "least distance of two profiles in the archive" in called.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "random"), "--method is 'random'; expected one of elites, novelty, flow"),
        (("--genes", "0"), "genes is 0; expected a whole number within 1 to 64"),
        (("--evaluations", "0"), "evaluations is 0; expected a whole number, 1 or more"),
        (("--seconds", "0"), "seconds is 0.0; expected a number above 0"),
        (("--most", "0"), "most is 0; expected a whole number, 1 or more"),
        (("--at-least", "nan"), "at-least is nan; expected a reward above 0"),
        (("--method", "flow", "--levels", "1"), "levels is 1; expected a whole number within 2 to 201"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(arguments: tuple[str, ...], said: str) -> None:
    called = call("motif", "diverse", *arguments)
    assert called.code == 2 and called.out == "" and said in called.err and len(called.lines) <= 4
