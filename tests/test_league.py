"""The league: who takes part, and what is computed (each thing once)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Counting, tiny_data, tiny_recipe
from league_helpers import ALLOCATIONS_DIVISION, CRITERIA_DIVISION, SANITY_DIVISION, TERMS, made, played

from tombola.allocation import ALLOCATIONS, allocation_of
from tombola.criteria import CRITERIA
from tombola.errors import UsageError
from tombola.experiment import prepare, run_experiment
from tombola.league.divisions import DIVISIONS, WIGGLES, divisions_of
from tombola.league.entries import Entry, Terms, entries_of, recipe_of
from tombola.league.estimate import estimate
from tombola.league.running import ready
from tombola.league.standings import contestants, league_document
from tombola.masks import Mask
from tombola.models.net import Net
from tombola.models.registry import MODELS
from tombola.pruning import prune
from tombola.requests import Fit, Prune
from tombola.resets import RESETS, RESETS_PRUNED
from tombola.store import Store


class TestDivisions:
    def test_every_registered_name_takes_part_once(self) -> None:
        every = {division.name: [c.name for c in division.competitors] for division in divisions_of(())}
        assert list(every) == list(DIVISIONS)
        for names in every.values():
            assert len(set(names)) == len(names)
        for kind in ("criteria", "supermasks"):
            assert {name.partition(":")[0] for name in every[kind]} == set(CRITERIA) - {"leave_one_out", "greedy"}
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
