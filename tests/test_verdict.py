"""Verdicts on constructed results documents: every word, the bounds between them, and what is missing."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tombola.analysis.verdict import ENDPOINTS, fallback, sentence, verdict
from tombola.errors import UsageError
from tombola.statistics import required_replicates

NOISE = (0.001, -0.001, 0.0005, -0.0005, 0.0, 0.0008, -0.0008, 0.0003, -0.0003, 0.0)
DENSE = [0.95 + noise for noise in NOISE]

Values = Sequence[float | None]


def shifted(by: float, noise: float = 1.0, n: int = 10) -> list[float]:
    """Accuracies that lie `by` above dense, with another noise in each replicate."""
    return [dense + by + noise * NOISE[(3 * r + 1) % 10] for r, dense in enumerate(DENSE[:n])]


def rows(values: Values, level: int, steps: Sequence[int | None] = (), draw: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "replicate": r,
            "draw": draw,
            "level": level,
            "diverged": value is None,
            "density": 0.8**level,
            "test_accuracy_at_early_stop": value,
            "test_accuracy": None if value is None else value - 0.01 * (level == 0),
            "early_stop_step": None if value is None else (steps[r] if steps else 400),
        }
        for r, value in enumerate(values)
    ]


def document(levels: Mapping[int, Mapping[str, Values]], dense: Values = DENSE) -> dict[str, Any]:
    """A results document; `levels`: level -> arm -> accuracies by replicate."""
    arms: dict[str, list[dict[str, Any]]] = {"ticket": rows(dense, 0)}
    for level, here in levels.items():
        for arm, values in here.items():
            arms.setdefault(arm, []).extend(rows(values, level))
    return {"schema": 1, "recipe": "digits-lenet", "experiment": "0" * 32, "arms": arms}


def level(ticket: Values, reinit: Values | None = None, shuffled: Values | None = None) -> dict[str, Values]:
    found = {"ticket": ticket, "reinit": reinit, "shuffled": shuffled}
    return {arm: values for arm, values in found.items() if values is not None}


WINNING = level(shifted(0.0), shifted(-0.05), shifted(-0.06))
MATCHING = level(shifted(0.0), shifted(0.0, noise=-1.0), shifted(-0.06))
LOSING = level(shifted(-0.1), shifted(-0.2), shifted(-0.2))
UNSURE = level(shifted(-0.005, noise=30.0), shifted(-0.05), shifted(-0.05))


def judged(*levels: Mapping[str, Values], dense: Values = DENSE, **options: Any) -> dict[str, Any]:
    """The verdict at a margin of one point; strict JSON, whatever goes in."""
    found = verdict(document(dict(enumerate(levels, 1)), dense), **{"margin": 0.01, "steps": 1200, **options})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def words(found: Mapping[str, Any]) -> list[str]:
    return [each["verdict"] for each in found["levels"]]


def test_every_word_and_the_shape_of_the_answer() -> None:
    found = judged(WINNING, MATCHING, LOSING, UNSURE)
    assert words(found) == ["winning", "matching", "losing", "inconclusive"]
    assert found["schema"] == 1
    one = found["levels"][0]
    assert {"level", "density", "verdict", "accuracy", "speed", "controls", "strict"} <= one.keys()
    assert {"difference", "low", "high", "p", "margin"} <= one["accuracy"].keys()
    assert {"verdict", "ratio", "low", "high", "p"} <= one["speed"].keys()
    assert one["controls"].keys() == {"reinit", "shuffled"}
    assert all({"difference", "low", "high", "p"} <= control.keys() for control in one["controls"].values())
    assert {"smallest_winning_density", "low", "high", "sentence"} <= found["overall"].keys()
    assert [each["level"] for each in found["levels"]] == [1, 2, 3, 4]
    assert [each["density"] for each in found["levels"]] == pytest.approx([0.8, 0.64, 0.512, 0.4096])
    assert found["notes"] == []


def test_numbers_of_a_level_by_hand() -> None:
    dense = [0.9, 0.9, 0.9]
    found = judged(level([0.91, 0.92, 0.93], [0.9, 0.9, 0.9], [0.8, 0.8, 0.8]), dense=dense)["levels"][0]
    # Differences 1, 2, 3 points: mean 2, s / sqrt(3) = 0.5773503, t(2, 0.975) = 4.3026527.
    assert found["accuracy"]["difference"] == pytest.approx(0.02)
    assert found["accuracy"]["low"] == pytest.approx(0.02 - 0.0057735 * 4.3026527, abs=1e-6)
    assert found["accuracy"]["high"] == pytest.approx(0.02 + 0.0057735 * 4.3026527, abs=1e-6)
    # t = 3 / 0.5773503 = 5.196152 for N, 2 / 0.5773503 for R; P(T(2) > t) = 1/2 - t / (2 sqrt(2 + t^2)).
    assert found["accuracy"]["p"] == pytest.approx(0.5 - 5.196152 / (2 * math.sqrt(29)), abs=1e-6)
    assert found["controls"]["reinit"]["p"] == pytest.approx(0.5 - math.sqrt(12) / (2 * math.sqrt(14)), abs=1e-6)
    assert found["accuracy"]["permutation"] == {"p": 1 / 8, "smallest": 1 / 8, "exact": True}
    assert found["p"] == found["adjusted_p"] == found["controls"]["reinit"]["p"]
    assert found["verdict"] == "winning"
    assert found["speed"]["ratio"] == 1
    assert found["speed"]["verdict"] == "no slower"
    assert found["strict"]


def test_winning_needs_both_controls() -> None:
    for lost in ("reinit", "shuffled"):
        found = judged({arm: values for arm, values in WINNING.items() if arm != lost})
        assert words(found) == ["inconclusive"]
        assert lost in found["levels"][0]["why"]
        assert found["levels"][0]["controls"][lost]["p"] is None
        assert found["overall"]["smallest_winning_density"] is None
        assert any(f"Arm {lost} was not run" in note for note in found["notes"])
        assert "no level has 3 replicates" in found["overall"]["sentence"]
    assert words(judged(level(shifted(0.0), reinit=shifted(0.0, noise=-1.0)))) == ["matching"]
    alone = judged(level(shifted(0.0)))["levels"][0]
    assert (alone["verdict"], alone["needs"]) == ("inconclusive", None)


def test_winning_goes_before_matching() -> None:
    # Better than both by half a point, which is also within the margin.
    assert words(judged(level(shifted(0.0), shifted(-0.005), shifted(-0.005)))) == ["winning"]


def test_below_dense_within_the_margin_is_not_losing() -> None:
    found = judged(level(shifted(-0.005), shifted(-0.05), shifted(-0.05)))["levels"][0]
    assert found["accuracy"]["high"] < 0
    assert found["verdict"] == "winning"


def test_losing_is_below_dense_by_any_amount_once_n_fails() -> None:
    found = judged(level(shifted(-0.012, noise=8.0), shifted(-0.05), shifted(-0.05)))["levels"][0]
    assert found["accuracy"]["p"] > 0.05
    assert -0.01 < found["accuracy"]["high"] < 0
    assert found["verdict"] == "losing"


def test_a_control_better_than_the_ticket_is_matching() -> None:
    assert words(judged(level(shifted(0.0), shifted(0.02), shifted(-0.05)))) == ["matching"]


@pytest.mark.parametrize(
    ("ticket", "reinit", "word"),
    [
        (0.0, 0.0, "matching"),  # all equal: N holds, no control is beaten
        (0.0, -0.01, "winning"),  # constant differences: strictly better
        (-0.01, -0.1, "losing"),  # exactly at -margin N fails
        (-0.009, -0.1, "winning"),
        (0.01, 0.01, "matching"),
    ],
)
def test_without_spread_the_side_decides(ticket: float, reinit: float, word: str) -> None:
    dense = [0.9] * 4
    found = judged(level([0.9 + ticket] * 4, [0.9 + reinit] * 4, [0.9 + reinit] * 4), dense=dense)
    assert words(found) == [word]
    assert found["levels"][0]["accuracy"]["low"] == found["levels"][0]["accuracy"]["high"]


def test_equal_means_over_draws_are_no_win() -> None:
    doc = document({1: level([0.7] * 5, [0.7] * 5, [0.7] * 5)}, dense=[0.7] * 5)
    for draw in (1, 2):
        doc["arms"]["reinit"] += rows([0.7] * 5, 1, draw=draw)
        doc["arms"]["shuffled"] += rows([0.7] * 5, 1, draw=draw)
    found = verdict(doc, margin=0.01)
    assert words(found) == ["matching"]
    assert found["levels"][0]["controls"]["reinit"]["p"] == 1


def test_margin_of_zero() -> None:
    assert words(judged(level([0.9] * 4, [0.9] * 4, [0.9] * 4), dense=[0.9] * 4, margin=0.0)) == ["inconclusive"]
    assert words(judged(level(shifted(0.01), shifted(-0.05), shifted(-0.05)), margin=0.0)) == ["winning"]


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_replicates_cannot_judge(n: int) -> None:
    few = {arm: values[:n] for arm, values in LOSING.items()}
    found = judged(few, dense=DENSE[:n])
    assert words(found) == ["inconclusive"]
    assert "Cannot judge" in found["levels"][0]["why"]
    assert found["levels"][0]["needs"]["replicates"] == 3
    assert "cannot judge, at least 3 are needed" in found["overall"]["sentence"]
    assert found["overall"]["holds_down_to"] is None
    assert found["levels"][0]["accuracy"]["difference"] is not None
    assert (found["levels"][0]["accuracy"]["p"] is None) == (n == 1)
    assert any("Fewer than 3 replicates" in note for note in found["notes"])


def test_three_replicates_judge_but_none_can_be_left_out() -> None:
    found = judged({arm: values[:3] for arm, values in WINNING.items()}, dense=DENSE[:3])
    assert words(found) == ["winning"]
    assert found["overall"]["smallest_winning_density"] == pytest.approx(0.8)
    assert found["overall"]["low"] is None
    assert "too few replicates to leave one out" in found["overall"]["sentence"]


def test_unequal_replicates_are_paired_where_both_are_there() -> None:
    found = judged(level(shifted(0.0), shifted(-0.05)[:4], shifted(-0.06)[:2]), dense=DENSE[:6])
    one = found["levels"][0]
    assert one["accuracy"]["replicates"] == 6
    assert [one["controls"][arm]["replicates"] for arm in ("reinit", "shuffled")] == [4, 2]
    assert one["verdict"] == "inconclusive"  # two replicates of a control cannot judge
    assert "Arm ticket lacks replicates 6-9 at level 0." in found["notes"]
    assert "Arm reinit lacks replicates 4-9 at level 1." in found["notes"]


def test_diverged_and_not_finite_fits_are_left_out_and_told() -> None:
    ticket: list[float | None] = [*shifted(0.0)[:8], None, math.nan]
    doc = document({1: level(ticket, shifted(-0.05), shifted(-0.06))})
    found = verdict(doc, margin=0.01, steps=1200)
    assert words(found) == ["winning"]
    assert found["levels"][0]["accuracy"]["replicates"] == 8
    assert any("Arm ticket: 1 of 20 fits diverged (replicate 8 at level 1)" in note for note in found["notes"])
    assert any("Arm ticket: 1 of 20 fits have no finite" in note for note in found["notes"])
    nothing = judged(level([None] * 10, [None] * 10, [None] * 10))
    assert words(nothing) == ["inconclusive"]
    assert nothing["levels"][0]["accuracy"]["difference"] is None
    assert nothing["levels"][0]["speed"]["verdict"] == "inconclusive"


def test_missing_dense_ticket_and_levels() -> None:
    no_dense = document({1: WINNING, 3: WINNING})
    no_dense["arms"]["ticket"] = [row for row in no_dense["arms"]["ticket"] if row["level"]]
    found = verdict(no_dense, margin=0.01, steps=1200)
    assert words(found) == ["inconclusive"] * 2
    assert "The dense network (arm ticket, level 0) is missing: nothing can be judged." in found["notes"]
    assert "Arm ticket lacks level 2." in found["notes"]
    controls = document({1: {arm: values for arm, values in WINNING.items() if arm != "ticket"}})
    found = verdict(controls, margin=0.01, steps=1200)
    assert words(found) == ["inconclusive"]
    assert found["levels"][0]["density"] == pytest.approx(0.8)
    assert "No ticket was trained: levels from 1 are missing." in found["notes"]
    assert judged()["levels"] == []
    assert judged()["overall"]["sentence"] == "No winning ticket can be claimed: no ticket was trained."


def test_a_task_without_accuracy_is_answered_in_words() -> None:
    doc = document({1: WINNING})
    for arm in doc["arms"].values():
        for row in arm:
            row["test_accuracy_at_early_stop"] = row["test_accuracy"] = None
    found = verdict(doc, margin=0.01)
    assert words(found) == ["inconclusive"]
    assert any("no finite test_accuracy_at_early_stop" in note for note in found["notes"])
    assert "No winning ticket can be claimed" in found["overall"]["sentence"]


def test_the_endpoint_is_the_one_named() -> None:
    # At the end the dense network is one point worse than at early stop.
    early, late = judged(LOSING), judged(LOSING, endpoint="end")
    gain = late["levels"][0]["accuracy"]["difference"] - early["levels"][0]["accuracy"]["difference"]
    assert gain == pytest.approx(0.01)
    assert "at the end" in judged(WINNING, endpoint="end")["overall"]["sentence"]
    assert list(ENDPOINTS) == ["early-stop", "end"]


def test_speed_does_not_gate_winning_but_strict() -> None:
    doc = document({1: WINNING})
    for row in doc["arms"]["ticket"]:
        row["early_stop_step"] = 400 if row["level"] == 0 else 800
    found = verdict(doc, margin=0.01, steps=1200)["levels"][0]
    assert (found["verdict"], found["speed"]["verdict"], found["strict"]) == ("winning", "slower", False)
    for row in doc["arms"]["ticket"]:
        row["early_stop_step"] = 1200
    found = verdict(doc, margin=0.01, steps=1200)["levels"][0]
    assert found["speed"]["verdict"] == "inconclusive"
    assert (found["speed"]["left_out"], found["speed"]["ratio"]) == (10, None)
    assert not judged(LOSING)["levels"][0]["strict"]
    short = verdict(doc, margin=0.01, steps=800)
    assert any("arms of different length" in note for note in short["notes"])
    assert any("steps is not given" in note for note in verdict(doc, margin=0.01)["notes"])


def test_overall_is_the_smallest_winning_density_with_its_range() -> None:
    found = judged(MATCHING, WINNING, WINNING, LOSING)["overall"]
    assert found["smallest_winning_density"] == pytest.approx(0.8**3)
    assert found["low"] == found["high"] == pytest.approx(0.8**3)
    assert found["level"] == 3
    assert found["tested"] == 4
    assert found["holds_down_to"] == pytest.approx(0.8**3)
    assert "51.2 % of the weights (level 3)" in found["sentence"]
    assert "within 1 point " in found["sentence"]
    assert "10 replicates, Holm over 4 levels" in found["sentence"]
    assert found["sentence"].count(". ") == 0


def test_holm_can_take_a_win_back() -> None:
    # p of about 0.03 by itself, among ten levels that win nothing.
    barely = level(shifted(0.0), [t - d for t, d in zip(shifted(0.0), _with_p(0.03), strict=True)], shifted(-0.06))
    assert words(judged(barely)) == ["winning"]
    assert judged(barely)["overall"]["smallest_winning_density"] is not None
    many = judged(*[MATCHING] * 9, barely)
    assert words(many)[-1] == "winning"
    assert many["levels"][-1]["adjusted_p"] == pytest.approx(10 * many["levels"][-1]["p"])
    assert many["overall"]["smallest_winning_density"] is None
    assert many["overall"]["sentence"].startswith("No winning ticket: ")
    assert "9 matching, 1 winning" in many["overall"]["sentence"]
    assert many["overall"]["low"] is None


def _with_p(p: float) -> list[float]:
    """Ten differences whose paired t test has about this p: the t quantile of 0.03 at 9 degrees is 2.15."""
    assert p == 0.03
    noise = [0.01 * (r - 4.5) for r in range(10)]
    return [x + 2.15 * 0.030277 / math.sqrt(10) for x in noise]


def test_a_win_that_hangs_on_one_replicate_shows_it() -> None:
    found = judged(
        level(shifted(0.0), [t - d for t, d in zip(shifted(0.0), _with_p(0.03), strict=True)], shifted(-0.06))
    )
    gone = [r for r, density in found["overall"]["left_out"].items() if density is None]
    assert gone
    assert "none without replicate" in found["overall"]["sentence"]
    assert found["overall"]["low"] == pytest.approx(0.8)


def test_accuracy_holds_from_dense_downwards_and_stops() -> None:
    assert judged(MATCHING, LOSING, WINNING)["overall"]["holds_down_to_level"] == 1
    assert judged(LOSING, WINNING)["overall"]["holds_down_to"] is None


def test_inconclusive_says_how_many_replicates_would_settle_it() -> None:
    close = level(shifted(-0.005, noise=20.0), shifted(-0.05), shifted(-0.05))
    one = judged(close)["levels"][0]
    assert one["verdict"] == "inconclusive"
    assert one["needs"]["test"] == "dense"
    away = [t - d for t, d in zip(close["ticket"], DENSE, strict=True) if t is not None and d is not None]
    inside = required_replicates((statistics.fmean(away) + 0.01) / statistics.stdev(away), power=0.8)
    below = required_replicates(-statistics.fmean(away) / statistics.stdev(away), power=0.8, alpha=0.025)
    assert 10 < one["needs"]["replicates"] == min(inside or 101, below or 101) <= 100
    far = judged(level(shifted(-0.005, noise=100.0), shifted(-0.05), shifted(-0.05)))["levels"][0]
    assert (far["needs"]["replicates"], far["needs"]["cap"]) == (None, 100)
    undone = judged(level(shifted(0.0), shifted(-0.05)))["levels"][0]
    assert (undone["verdict"], undone["needs"]) == ("inconclusive", None)
    control = judged(level(shifted(0.0), shifted(-0.006, noise=20.0), shifted(-0.06)))["levels"][0]
    assert control["verdict"] == "inconclusive"
    assert control["needs"]["test"] == "reinit"
    assert judged(WINNING)["levels"][0]["needs"] is None


def test_other_arms_are_compared_but_do_not_decide() -> None:
    found = judged({**WINNING, "reinit-rewound": shifted(0.05)})["levels"][0]
    assert found["verdict"] == "winning"
    assert found["others"]["reinit-rewound"]["difference"] == pytest.approx(-0.05, abs=1e-3)
    assert found["controls"].keys() == {"reinit", "shuffled"}


def test_the_sentence_stands_alone() -> None:
    for found in (judged(WINNING), judged(LOSING), judged(UNSURE), judged(), judged(level(shifted(0.0)))):
        text = sentence(found)
        assert text == found["overall"]["sentence"]
        assert text.endswith(".")
        assert "winning ticket" in text


def test_unusable_arguments_are_named() -> None:
    with pytest.raises(UsageError, match="Did you mean 'early-stop'"):
        verdict(document({}), margin=0.01, endpoint="early_stop")
    for margin in (-0.01, 1.0, math.nan):
        with pytest.raises(UsageError, match=r"1\.0 point is 0\.01"):
            verdict(document({}), margin=margin)
    for bad in ({}, {"schema": 2, "arms": {}}, {"schema": 1, "arms": []}):
        with pytest.raises(UsageError, match="not a results document of schema 1"):
            verdict(bad, margin=0.01)
    with pytest.raises(UsageError, match="no replicate or level"):
        verdict({"schema": 1, "arms": {"ticket": [{"level": 0}]}}, margin=0.01)


def test_fallback_by_hand() -> None:
    found = fallback(document({1: WINNING, 2: WINNING}), examples=5_000)
    by = {(each["eta"], each["candidates"]): each for each in found["guarantees"]}
    assert by.keys() == {(0.01, 2), (0.05, 2), (0.01, 3), (0.05, 3)}
    assert by[0.05, 2]["epsilon"] == pytest.approx(math.sqrt(math.log(80) / 10_000))
    assert by[0.01, 3]["epsilon"] == pytest.approx(math.sqrt(math.log(600) / 10_000))
    assert by[0.05, 2]["loss"] == 2 * by[0.05, 2]["epsilon"]
    assert "5000 validation examples" in found["sentence"]
    assert "probability 95 %" in found["sentence"]
    with pytest.raises(UsageError, match="at least one example"):
        fallback(document({}), examples=0)


def test_import_needs_no_torch() -> None:
    code = "import sys, tombola.analysis.verdict; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
