"""The criterion of the page "Write your own criterion", from a file of one's own."""

from __future__ import annotations

import sys
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


def test_weights_on_a_path_are_not_counted_where_some_are_protected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dense training is the same with and without `protect`, so what it counts is of the whole network."""
    monkeypatch.chdir(tmp_path)
    good("run", "digits-lenet", *NET, *SMALL, "--protect", "output*", "--store", "st", "--json", "out.json", "--quiet")
    for row in document("out.json")["arms"]["ticket"]:
        assert row["effective"] is None if row["level"] == 0 else row["effective"] <= row["kept"]


NO_CRITERIA = """
from dataclasses import dataclass
from functools import partial

def two(model, mask): ...
bound = partial(two, mask=None)
number = 3
missing = None
class Plain:
    def __init__(self, power): ...
    def __call__(self, model, mask, probe): ...
@dataclass(frozen=True)
class Silent:
    power: float = 1.0
@dataclass(frozen=True)
class Options:
    listed: list = None
    power: "float | None" = None
    def __post_init__(self):
        if self.power is not None and self.power < 0:
            raise ValueError("negative")
    def __call__(self, model, mask, probe): ...
@dataclass(frozen=True)
class Undefined:
    power: "Power" = 1.0
    def __call__(self, model, mask, probe): ...
"""


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("two", "cannot be called as (model, mask, probe)"),
        ("bound", "is of type partial; expected a function, or a frozen dataclass with __call__"),
        ("number", "is of type int; expected a function"),
        ("missing", "is of type NoneType; expected a function"),
        ("Plain", "is a class without fields; expected a function"),
        ("Silent", "cannot be called as (model, mask, probe)"),
        ("Options:listed=1/2", "listed is of type list, which cannot be written here"),
        ("Options:power=-1", "cannot be made: ValueError: negative (no_criteria.py, line "),
        ("Options:power=high", "power is 'high'; expected a number"),
        ("Undefined", "options of Undefined cannot be read: NameError: name 'Power' is not defined"),
    ],
)
def test_what_is_no_criterion_is_refused_before_anything_is_trained(
    choice: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no_criteria.py").write_text(NO_CRITERIA)
    try:
        called = call("run", "digits-lenet", *NET, *SMALL, "--criterion", f"no_criteria:{choice}", "--store", "st")
    finally:
        sys.modules.pop("no_criteria", None)
    assert called.code == 2
    assert message in " ".join(called.err.split())
    assert not (tmp_path / "st").exists()
