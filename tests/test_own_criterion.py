"""The criterion of the page "Write your own criterion", from a file of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import NET, SMALL, call, document, good, undrawn
from pages import blocks, run_page

from tombola.masks import Mask

PAGE = "docs/own-criterion.md"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`mine.py`: what the page shows before it is used."""
    monkeypatch.chdir(tmp_path)
    name = f"mine_{tmp_path.name}".replace("-", "_")  # no test finds the module of another in memory
    path = tmp_path / f"{name}.py"
    path.write_text("\n\n".join(code for _, code in blocks(PAGE)[:3]))
    return path


def test_the_page_prunes_as_it_says(tmp_path: Path) -> None:
    found = run_page(PAGE, tmp_path)
    half, fifth = found["half"], found["fifth"]
    assert isinstance(half, Mask) and isinstance(fifth, Mask)
    assert (half.alive, fifth.alive) == (88, 35)
    assert fifth.within(half)
    grown = found["grown"](found["network"], half, found["probe"])
    for name, weight in found["network"].named_parameters():
        if name in half:
            assert grown[name].shape == weight.shape
    felt, twice = (found["Felt"](power=power)(found["network"], half, found["probe"]) for power in (1.0, 2.0))
    assert all(bool((twice[n] != felt[n]).any()) for n in half)


def test_a_recipe_names_it_by_its_path(mine: Path) -> None:
    digests = set()
    for choice in (f"{mine.stem}:grown", f"{mine.stem}:Felt:power=2", f"{mine.stem}:Felt"):
        with undrawn():
            good(
                "run",
                "digits-lenet",
                *NET,
                *SMALL,
                "--criterion",
                choice,
                "--store",
                "st",
                "--json",
                "out.json",
                "--quiet",
            )
        found = document("out.json")
        assert {row["level"] for row in found["arms"]["ticket"]} == {0, 1}
        digests.add(found["experiment"])
    assert len(digests) == 3
    shown = good("list", "criteria", f"{mine.stem}:Felt").out
    assert "option: power=FLOAT (default 1.0)" in shown
    assert "needs: examples" in shown
    assert "|gradient|" in shown


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (":Felt:powr=2", "has no option 'powr'. Did you mean 'power'?"),
        (":Felt:power=high", "power is 'high'; expected a number"),
        (":Fellt", "has no 'Fellt'. Did you mean 'Felt'?"),
        (":grown:power=2", "has no options, so power= cannot be set"),
    ],
)
def test_what_is_wrong_with_a_path_is_said(mine: Path, choice: str, message: str) -> None:
    called = call("run", "digits-lenet", *NET, *SMALL, "--criterion", mine.stem + choice, "--store", "st", "--quiet")
    assert called.code == 2
    assert message in " ".join(called.err.split())
