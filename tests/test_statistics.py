"""Means over replicates and Student's intervals, against numbers worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tombola.errors import UsageError
from tombola.statistics import Interval, interval, replicate_means


def test_interval_matches_the_hand_computed_one() -> None:
    # Mean 3, s = sqrt(2.5), s / sqrt(5) = 0.7071068, t(4, 0.975) = 2.7764451.
    found = interval([1, 2, 3, 4, 5])
    assert found.n == 5
    assert found.mean == 3
    assert found.low == pytest.approx(3 - 2.7764451 * math.sqrt(0.5), abs=1e-6)
    assert found.high == pytest.approx(3 + 2.7764451 * math.sqrt(0.5), abs=1e-6)
    assert found.half_width == pytest.approx(1.9632432, abs=1e-6)


def test_two_values_use_the_quantile_of_one_degree_of_freedom() -> None:
    assert interval([0.0, 2.0]).half_width == pytest.approx(12.7062047, abs=1e-6)
    assert interval([0.0, 2.0], confidence=0.5).half_width == pytest.approx(1.0, abs=1e-9)


def test_one_value_has_no_interval() -> None:
    found = interval([0.5])
    assert found == Interval(mean=0.5, low=None, high=None, n=1)
    assert found.half_width is None


def test_equal_values_have_an_interval_of_width_zero() -> None:
    assert interval([0.1] * 3) == Interval(mean=0.1, low=0.1, high=0.1, n=3)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf]])
def test_unusable_values_are_refused(values: list[float]) -> None:
    with pytest.raises(UsageError, match="interval needs"):
        interval(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_unusable_confidence_is_refused(confidence: float) -> None:
    with pytest.raises(UsageError, match=r"0\.95 is usual"):
        interval([1.0, 2.0], confidence=confidence)


@given(st.lists(st.floats(-1e150, 1e150), min_size=2, max_size=12))
def test_interval_holds_its_mean_and_never_warns(values: list[float]) -> None:
    found = interval(values)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.mean <= found.high
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(-10, 10))
def test_interval_moves_with_its_values(values: list[float], shift: float) -> None:
    here, there = interval(values), interval([value + shift for value in values])
    assert there.mean == pytest.approx(here.mean + shift, abs=1e-9)
    assert there.half_width == pytest.approx(here.half_width, abs=1e-9)


def test_draws_are_averaged_within_their_replicate_first() -> None:
    rows: list[dict[str, Any]] = [
        {"replicate": 1, "draw": 0, "diverged": False, "x": 1.0},
        {"replicate": 1, "draw": 1, "diverged": False, "x": 2.0},
        {"replicate": 0, "draw": 0, "diverged": False, "x": 9.0},
    ]
    assert replicate_means(rows, "x") == {1: 1.5, 0: 9.0}
    assert interval(replicate_means(rows, "x").values()).mean == 5.25


def test_diverged_rows_and_nulls_are_left_out() -> None:
    rows: list[dict[str, Any]] = [
        {"replicate": 0, "diverged": True, "x": 7.0},
        {"replicate": 0, "diverged": False, "x": 3.0},
        {"replicate": 1, "diverged": False, "x": None},
        {"replicate": 2, "diverged": True},
        {"replicate": 3, "diverged": False, "x": math.nan},
    ]
    assert replicate_means(rows, "x") == {0: 3.0}
    assert replicate_means([], "x") == {}


def test_a_misspelt_field_is_named_with_the_right_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'early_stop_step'"):
        replicate_means([{"replicate": 0, "early_stop_step": 3}], "early_stop_steps")


def test_import_costs_neither_scipy_nor_torch() -> None:
    code = "import sys, tombola.statistics; print([m for m in ('scipy', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
