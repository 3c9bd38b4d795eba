"""The league: who takes part, what is computed (each thing once), and what the standings say of it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import arrays, call, good
from helpers import Counting, tiny_data, tiny_recipe
from rich.console import Console
from scipy import stats
from torch import nn

from tombola.allocation import ALLOCATIONS, allocation_of
from tombola.criteria import CRITERIA, Probe, Scores
from tombola.errors import UsageError
from tombola.experiment import prepare, run_experiment
from tombola.league.divisions import DIVISIONS, WIGGLES, Competitor, Division, divisions_of
from tombola.league.entries import Entry, Terms, entries_of, recipe_of
from tombola.league.estimate import estimate
from tombola.league.page import league_page
from tombola.league.running import League, Played, play, ready
from tombola.league.screen import render
from tombola.league.standings import Contestant, contestants, division_document, league_document
from tombola.league.tables import markdown
from tombola.masks import Mask
from tombola.models.net import Net
from tombola.models.registry import MODELS
from tombola.pruning import prune
from tombola.recipes import to_toml
from tombola.requests import Fit, Prune
from tombola.resets import RESETS, RESETS_PRUNED
from tombola.store import Store

TERMS = Terms(recipe=tiny_recipe(), densities=(0.5, 0.2), replicates=3)


def spiteful(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Wants nothing of the last tensor."""
    sizes = {name: model.get_parameter(name).detach().abs() for name in mask}
    last = list(mask)[-1]
    return {name: -1 / (1 + size) if name == last else size for name, size in sizes.items()}


def competitor(name: str, **changes: Any) -> Competitor:
    return Competitor(name=name, changes=changes)


CRITERIA_DIVISION = Division(
    name="criteria",
    title="Criteria",
    competitors=(competitor("random", criterion="random"), competitor("magnitude", criterion="magnitude")),
    rivals=("random", "magnitude"),
)
ALLOCATIONS_DIVISION = Division(
    name="allocations",
    title="Allocations",
    competitors=(competitor("layerwise", allocation="layerwise"), competitor("uniform", allocation="uniform")),
    rivals=("layerwise",),
)
SANITY_DIVISION = Division(
    name="at-init",
    title="At init",
    competitors=(
        competitor("snip", criterion="snip"),
        competitor("magnitude", criterion="magnitude"),
        competitor("spiteful", criterion="test_league:spiteful"),
        competitor("misnamed", criterion="magnitude:colour=red"),
    ),
    rivals=("magnitude",),
    controls=("shuffled", "inverted", "random-labels"),
    changes={"allocation": "global"},
    fallback={"allocation": "layerwise"},
)


def made(*divisions: Division, terms: Terms = TERMS) -> League:
    return ready(terms, divisions, data=tiny_data())


def played(league: League, store: Store, watcher: Counting | None = None) -> tuple[list[Played], int]:
    told = watcher or Counting()
    return play(league, store, watcher=lambda seats, experiments: told)


def rows(values: dict[int, Sequence[float | None]], densities: Sequence[float] = (0.5, 0.2)) -> list[dict[str, Any]]:
    """level -> accuracy of each replicate."""
    return [
        {"replicate": r, "draw": 0, "level": level, "diverged": value is None, "test_accuracy_at_early_stop": value}
        for level, row in values.items()
        for r, value in enumerate(row)
    ]


def contestant(name: str, *levels: Sequence[float | None], **controls: Sequence[Sequence[float | None]]) -> Contestant:
    arms = {"ticket": rows(dict(enumerate(levels, 1)))}
    arms |= {arm: rows(dict(enumerate(per_level, 1))) for arm, per_level in controls.items()}
    return Contestant(name=name, arms=arms)


def scores(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = next(one for one in document["competitors"] if one["name"] == name)
    return list(found["scores"])


class TestDivisions:
    def test_every_registered_name_takes_part_once(self) -> None:
        every = {division.name: [c.name for c in division.competitors] for division in divisions_of(())}
        assert list(every) == list(DIVISIONS)
        for names in every.values():
            assert len(set(names)) == len(names)
        for kind in ("criteria", "supermasks"):
            assert {name.partition(":")[0] for name in every[kind]} == set(CRITERIA)
        assert {name.partition(":")[0] for name in every["allocations"]} == set(ALLOCATIONS)
        resets = {name.partition(":")[0] for name in every["resets"] if not name.startswith("pruned:")}
        assert resets == set(RESETS)
        pruned = {name.removeprefix("pruned:") for name in every["resets"] if name.startswith("pruned:")}
        assert pruned == set(RESETS_PRUNED) - {"zero"}  # which is rewinding itself
        assert [name for name in every["resets"] if "wiggle" in name] == [f"wiggle:c={c:g}" for c in WIGGLES]
        assert {"taylor", "taylor:units=true"} <= set(every["criteria"])

    def test_everybody_can_take_part(self) -> None:
        league = made(*divisions_of(()))
        assert [(one.entry.competitor, one.cause) for one in league.entries if one.experiment is None] == []
        assert len({one.experiment.task.fingerprint for one in league.entries if one.experiment}) == 1

    def test_the_allocation_that_needs_options_fits_the_networks_of_the_recipes(self) -> None:
        model = MODELS["lenet-300-100"]((64,), 10, Net(), 0)
        named = next(c for c in divisions_of(("allocations",))[0].competitors if c.name.startswith("per-layer"))
        choice = str(named.changes["allocation"])
        assert prune(model, Mask.dense(model), density=0.05, allocation=allocation_of(choice)).alive == 2510

    def test_a_control_that_may_fail_has_an_entry_of_its_own(self) -> None:
        snip, magnitude = (entries_of(SANITY_DIVISION, c) for c in SANITY_DIVISION.competitors[:2])
        assert [e.changes["controls"] for e in snip] == [("shuffled",), ("inverted",), ("random-labels",)]
        assert [e.changes["controls"] for e in magnitude] == [("shuffled",), ("inverted",)]  # looks at no labels

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda: divisions_of(("criterai",)), "Unknown division 'criterai'. Did you mean 'criteria'?"),
            (lambda: divisions_of(("criteria", "criteria")), "named twice"),
            (lambda: Terms(recipe=tiny_recipe(), densities=(0.1, 0.2)), "each must be below the one before"),
            (lambda: Terms(recipe=tiny_recipe(), densities=()), "densities is empty"),
            (lambda: Terms(recipe=tiny_recipe(), replicates=0), "replicates is 0"),
            (lambda: replace(CRITERIA_DIVISION, rivals=("randm",)), "no competitor 'randm'. Did you mean 'random'?"),
            (
                lambda: replace(CRITERIA_DIVISION, competitors=CRITERIA_DIVISION.competitors * 2),
                "two competitors of the name 'random'",
            ),
            (
                lambda: recipe_of(TERMS, Entry(division="x", competitor="y", changes={"criterium": "snip"})),
                "a recipe has no such field",
            ),
            (
                lambda: ready(
                    replace(TERMS, recipe=tiny_recipe(loss="mean-squared-error")),
                    [CRITERIA_DIVISION],
                    data=tiny_data(regression=True),
                ),
                "ranks by accuracy; tiny measures mean squared error",
            ),
        ],
    )
    def test_what_cannot_be_is_said(self, make: Callable[[], object], words: str) -> None:
        with pytest.raises(UsageError, match=re.escape(words)):
            make()


class TestRunning:
    def test_nothing_is_computed_twice_and_nothing_again(self, tmp_path: Path) -> None:
        """Layerwise by magnitude is in both divisions, and the dense networks belong to all."""
        league, store, watcher = made(CRITERIA_DIVISION, ALLOCATIONS_DIVISION), Store(tmp_path / "s"), Counting()
        expected = estimate(league.experiments().values(), None)
        found, computed = played(league, store, watcher)
        fits = [job.digest for job in watcher.jobs if isinstance(job.request, Fit)]
        cuts = [job.digest for job in watcher.jobs if isinstance(job.request, Prune)]
        replicates, densities, ways = 3, 2, 3
        assert len(fits) == len(set(fits)) == replicates * (1 + densities * ways)
        assert len(cuts) == len(set(cuts)) == replicates * densities * ways
        assert (expected.fits.fits, expected.prunes) == (len(fits), len(cuts))
        assert computed == len(fits) + len(cuts)
        again, later = estimate(league.experiments().values(), store), Counting()
        assert (again.fits.stored, again.stored_prunes) == (len(fits), len(cuts))
        assert (again.fits.steps, again.passes) == (0, 0)
        assert played(league, store, later) == (found, 0)
        assert later.jobs == []

    def test_an_interrupted_league_goes_on(self, tmp_path: Path) -> None:
        league = made(CRITERIA_DIVISION)
        whole, total = played(league, Store(tmp_path / "whole"))

        class Impatient(Counting):
            def answered(self, place: Any, answer: Any) -> None:
                super().answered(place, answer)
                if len(self.answers) == 5:
                    raise KeyboardInterrupt

        store, first = Store(tmp_path / "s"), Impatient()
        with pytest.raises(KeyboardInterrupt):
            played(league, store, first)
        noted = dict(store.experiments())
        assert set(noted) == set(league.experiments())  # so `tombola gc` spares what is finished
        assert {content["state"] for content in noted.values()} == {"stopped"}
        assert sum(len(content["rows"]) for content in noted.values()) >= 5
        rest, computed = played(league, store)
        assert rest == whole
        assert total - 6 <= computed < total
        assert {content["state"] for _, content in store.experiments()} == {"finished"}

    def test_an_experiment_of_a_league_is_one_as_any_other(self, tmp_path: Path) -> None:
        league, store = made(CRITERIA_DIVISION), Store(tmp_path / "s")
        found, _ = played(league, store)
        recipe = recipe_of(TERMS, found[0].entry)
        alone = run_experiment(prepare(recipe, data=tiny_data()), store)
        assert (alone.computed, alone.document) == (0, found[0].document)
        by_itself = run_experiment(prepare(recipe, data=tiny_data()), Store(tmp_path / "other"))
        assert by_itself.document == found[0].document

    def test_who_fails_is_a_row_with_its_cause_and_the_others_go_on(self, tmp_path: Path) -> None:
        found, _ = played(made(SANITY_DIVISION), Store(tmp_path / "s"))
        standing = {one.name: one for one in contestants(SANITY_DIVISION, found)}
        assert list(standing)[:4] == ["snip", "magnitude", "spiteful", "misnamed"]
        assert "spiteful (layerwise)" in standing
        assert "misnamed (layerwise)" not in standing  # never began
        assert "has no options, so colour= cannot be set" in standing["misnamed"].notes[0]
        assert standing["misnamed"].arms == {}
        assert standing["spiteful"].at("ticket", 1) == standing["spiteful"].at("ticket", 2) == []
        assert len(standing["spiteful"].at("ticket", 0)) == 3  # the dense network is everybody's
        assert any("50 %, 3 of 3 replicates: cut: Keeping" in note for note in standing["spiteful"].notes)
        whole = standing["spiteful (layerwise)"]
        assert whole.notes[0].startswith("in place of spiteful: 50 %, 3 of 3 replicates")
        for level in (1, 2):
            assert len(whole.at("ticket", level)) == 3
            for name in ("snip", "magnitude"):
                assert len(standing[name].at("ticket", level)) == len(standing[name].at("shuffled", level)) == 3
        document = league_document(TERMS, [SANITY_DIVISION], found)
        ranked = [one["name"] for one in document["divisions"][0]["competitors"]]
        assert set(ranked[-2:]) == {"spiteful", "misnamed"}
        json.dumps(document, allow_nan=False)


class TestStandings:
    ONE = contestant("one", (0.90, 0.91, 0.93, 0.92), (0.80, 0.81, 0.80, 0.82))
    TWO = contestant("two", (0.87, 0.90, 0.90, 0.90), (0.81, 0.80, 0.81, 0.80))
    LOW = contestant("low", (0.50, 0.53, 0.51, 0.54), (0.45, 0.41, 0.47, 0.42))
    DIVISION = Division(
        name="hand", title="By hand", competitors=tuple(map(competitor, ("one", "two", "low"))), rivals=("two",)
    )

    def document(self, *rows_: Contestant, **changes: Any) -> dict[str, Any]:
        return division_document(replace(self.DIVISION, **changes), rows_ or (self.ONE, self.TWO, self.LOW), TERMS)

    def test_intervals_and_paired_differences(self) -> None:
        score = scores(self.document(), "one")[0]
        values = np.array([0.90, 0.91, 0.93, 0.92])
        low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
        assert score["accuracy"] == pytest.approx({"mean": 0.915, "low": low, "high": high, "replicates": 4})
        versus = score["against"]["two"]
        away = values - np.array([0.87, 0.90, 0.90, 0.90])
        low, high = stats.t.interval(0.95, 3, away.mean(), stats.sem(away))
        assert (versus["difference"], versus["low"], versus["high"]) == pytest.approx((0.0225, low, high))

    def test_ticks_are_paired_one_sided_and_adjusted(self) -> None:
        document = self.document()
        two = np.array([0.87, 0.90, 0.90, 0.90])
        raw = {
            name: stats.ttest_rel(values, two, alternative="greater").pvalue
            for name, values in {"one": [0.90, 0.91, 0.93, 0.92], "low": [0.50, 0.53, 0.51, 0.54]}.items()
        }
        found = {name: scores(document, name)[0]["against"]["two"] for name in ("one", "low", "two")}
        assert found["one"]["p_better"] == pytest.approx(2 * raw["one"])  # Holm over two competitors
        assert raw["one"] < 0.05
        assert found["one"]["better"] == (2 * raw["one"] <= 0.05)
        assert found["low"]["p_worse"] == pytest.approx(2 * (1 - raw["low"]), abs=1e-9)
        assert (found["low"]["better"], found["low"]["worse"]) == (False, True)
        assert found["two"]["difference"] is None
        assert not found["two"]["better"]
        unpaired = stats.ttest_ind([0.90, 0.91, 0.93, 0.92], two, alternative="greater").pvalue
        assert found["one"]["p_better"] != pytest.approx(2 * unpaired, rel=0.05)

    def test_a_difference_that_holds_alone_may_not_hold_among_many(self) -> None:
        reference = contestant("two", (0.5, 0.6, 0.7, 0.8))
        edge = contestant("one", (0.512, 0.61, 0.714, 0.803))
        p = stats.ttest_1samp([0.012, 0.01, 0.014, 0.003], 0, alternative="greater").pvalue
        assert 0.005 < p < 0.025
        others = [contestant(f"no {i}", (0.5 + 0.01 * (-1) ** i, 0.6, 0.7, 0.8)) for i in range(20)]
        alone = division_document(self.DIVISION, [edge, reference], Terms(recipe=tiny_recipe(), densities=(0.5,)))
        among = division_document(
            self.DIVISION, [edge, reference, *others], Terms(recipe=tiny_recipe(), densities=(0.5,))
        )
        assert scores(alone, "one")[0]["against"]["two"]["better"]
        assert not scores(among, "one")[0]["against"]["two"]["better"]

    def test_the_ranking_goes_by_the_mean_and_who_lacks_a_density_comes_last(self) -> None:
        gap = contestant("gap", (0.99, 0.99, 0.99, 0.99))
        never = Contestant(name="never", notes=("refused",))
        document = self.document(self.LOW, never, gap, self.TWO, self.ONE)
        assert [one["name"] for one in document["competitors"]] == ["one", "two", "low", "gap", "never"]
        assert [one["rank"] for one in document["competitors"]] == [1, 2, 3, 4, None]
        assert document["competitors"][0]["mean"] == pytest.approx((0.915 + 0.8075) / 2)
        assert [one["mean"] for one in document["competitors"][3:]] == [None, None]

    def test_controls_are_compared_with_their_own_ticket(self) -> None:
        shuffled = [(0.85, 0.86, 0.88, 0.865), (0.80, 0.81, 0.80, 0.82)]
        row = contestant("one", (0.90, 0.91, 0.93, 0.92), (0.80, 0.81, 0.80, 0.82), shuffled=shuffled)
        document = self.document(row, self.TWO, controls=("shuffled",))
        first, second = (score["controls"]["shuffled"] for score in scores(document, "one"))
        assert first["difference"] == pytest.approx(0.05125)
        assert (first["better"], first["worse"]) == (True, False)
        assert (second["difference"], second["better"], second["worse"]) == (0.0, False, False)
        assert scores(document, "two")[0]["controls"]["shuffled"]["difference"] is None

    def test_diverged_replicates_and_single_ones_claim_nothing(self) -> None:
        lost = contestant("one", (0.99, 0.99, None, None), (0.9, None, None, None))
        first, second = scores(self.document(lost, self.TWO), "one")
        assert (first["accuracy"]["replicates"], second["accuracy"]["replicates"]) == (2, 1)
        assert second["accuracy"]["low"] is None
        for score in (first, second):
            assert score["against"]["two"]["p_better"] is None
            assert not score["against"]["two"]["better"]

    def test_the_endpoint_is_that_of_the_recipe(self) -> None:
        late = contestant("one", (0.9, 0.9, 0.9, 0.9))
        for row in late.arms["ticket"]:
            dict.__setitem__(row, "test_accuracy", 0.7)  # type: ignore[arg-type]
        terms = Terms(recipe=tiny_recipe(endpoint="end"), densities=(0.5,))
        found = division_document(replace(self.DIVISION, rivals=()), [late], terms)
        assert scores(found, "one")[0]["accuracy"]["mean"] == 0.7

    def test_harmless_noise_is_tested_from_the_smallest_up(self) -> None:
        base = (0.90, 0.91, 0.92, 0.91)

        def moved(by: float) -> tuple[float, ...]:
            return tuple(value + by + 0.0005 * (-1) ** r for r, value in enumerate(base))

        tried = [
            contestant("rewind", base, base),
            contestant("wiggle:c=0.1", moved(0.0), moved(-0.3)),
            contestant("wiggle:c=0.3", moved(-0.003), moved(0.0)),
            contestant("wiggle:c=1", moved(-0.1), moved(0.0)),
            contestant("wiggle:c=3", moved(0.0), moved(0.0)),
        ]
        document = self.document(*tried, rivals=())
        assert document["harmless"] == [{"density": 0.5, "c": 0.3}, {"density": 0.2, "c": None}]
        assert self.document()["harmless"] == []


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
