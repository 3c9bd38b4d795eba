"""The league's standings, by numbers that are given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import tiny_recipe
from league_helpers import TERMS, competitor, contestant, scores
from scipy import stats

from tombola.league.divisions import Division
from tombola.league.entries import Terms
from tombola.league.standings import Contestant, division_document


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
