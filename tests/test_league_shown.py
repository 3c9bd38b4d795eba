"""The league as a page, tables, a screen and a command."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import arrays, call, good
from helpers import tiny_recipe
from league_helpers import CRITERIA_DIVISION, SANITY_DIVISION, TERMS, competitor, made, played
from rich.console import Console

from tombola.league.divisions import DIVISIONS
from tombola.league.page import league_page
from tombola.league.screen import render
from tombola.league.standings import league_document
from tombola.league.tables import markdown
from tombola.recipes import to_toml
from tombola.store import Store


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    divisions = (SANITY_DIVISION, replace(CRITERIA_DIVISION, title="Criteria <of> | all"))
    found, _ = played(made(*divisions), Store(tmp_path_factory.mktemp("league") / "s"))
    return league_document(TERMS, divisions, found)


class TestShown:
    def test_the_page_is_one_file_with_every_number(self, document: dict[str, Any]) -> None:
        text = league_page(document, details={"Run again": "tombola league"})
        assert text == league_page(json.loads(json.dumps(document)), details={"Run again": "tombola league"})
        assert not re.search(r"https?://|src=|@import|<link|<script", text)
        assert "prefers-color-scheme: dark" in text
        assert text.count("<svg") == len(document["divisions"])
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids))
        assert "Criteria &lt;of&gt;" in text
        for division in document["divisions"]:
            for one in division["competitors"]:
                assert one["name"] in text
                for score in one["scores"]:
                    assert score["accuracy"] is None or f"{100 * score['accuracy']['mean']:.2f}" in text

    def test_markdown_tables_are_whole(self, document: dict[str, Any]) -> None:
        lines = markdown(document).splitlines()
        tables = [line for line in lines if line.startswith("|")]
        rows_ = sum(len(division["competitors"]) for division in document["divisions"])
        assert len(tables) > rows_
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in tables}
        assert widths == {5, 6}  # controls, standings
        assert any("spiteful (layerwise): in place of spiteful" in line for line in lines)

    @pytest.mark.parametrize("width", [60, 120])
    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_the_terminal_shows_whole_tables(self, document: dict[str, Any], width: int, encoding: str) -> None:
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        render(document, Console(file=out, width=width))
        out.flush()
        text = out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
        text = text[text.index("Criteria <of>") :]
        for one in document["divisions"][1]["competitors"]:
            line = next(line for line in text.splitlines() if re.match(rf"\d +{one['name']} ", line))
            for score in one["scores"]:
                assert f"{100 * score['accuracy']['mean']:.2f}" in line
        assert ("+-" if encoding == "ascii" else "±") in text


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A recipe on a file, and a league of two criteria."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DIVISIONS, "criteria", lambda: CRITERIA_DIVISION)
    np.savez("flat.npz", **arrays())  # type: ignore[arg-type]
    Path("mine.toml").write_text(to_toml(tiny_recipe(name="mine", data="flat.npz", steps=10, eval_every=5)))
    given = "--recipe mine.toml --divisions criteria --densities 0.5 0.2 --replicates 2 --workers 1 --store s"
    return ["league", *given.split()]


class TestCommand:
    def test_a_league_from_the_first_look_to_the_second_run(self, small: list[str]) -> None:
        foretold = json.loads(good(*small, "--dry-run", "--json", "-").out)
        assert (foretold["competitors"], foretold["fits"], foretold["stored"], foretold["cuts"]) == (2, 10, 0, 8)
        assert foretold["steps"] == 100
        assert not Path("s").exists()
        first = good(*small, "--json", "one.json", "--page", "one.html")
        assert "2 competitors in 1 division, 10 fits, of which 0 are stored" in first.out
        assert "18 requests computed now. Page: one.html" in first.out
        assert re.search(r"^criteria random: .*%", first.err, re.MULTILINE)
        assert re.search(r"^1 +(random|magnitude) +\d+\.\d\d", first.out, re.MULTILINE)
        again = good(*small, "--json", "two.json", "--page", "two.html")
        assert "0 requests computed now" in again.out
        assert Path("one.json").read_bytes() == Path("two.json").read_bytes()
        found = json.loads(Path("one.json").read_text())
        assert (found["schema"], found["recipe"], found["densities"]) == (1, "mine", [0.5, 0.2])
        digest = found["divisions"][0]["competitors"][0]["experiments"][0]
        listed = json.loads(good("ls", "--store", "s", "--json", "-").out)
        assert digest in json.dumps(listed)
        assert "league" in good("show", digest, "--store", "s").out

    def test_steps_and_replicates_are_those_asked_for(self, small: list[str]) -> None:
        foretold = json.loads(good(*small, "--steps", "7", "--replicates", "1", "--dry-run", "--json", "-").out)
        assert (foretold["fits"], foretold["steps"]) == (5, 35)

    def test_nobody_with_a_number_is_a_failure(self, small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        lost = replace(CRITERIA_DIVISION, competitors=(competitor("x", criterion="magnitude:a=1"),), rivals=())
        monkeypatch.setitem(DIVISIONS, "criteria", lambda: lost)
        called = call(*small, "--quiet")
        assert called.code == 1
