"""Pruning while training: the schedule's numbers, and steps that contradict each other."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tombola.errors import UsageError
from tombola.schedules import Cubic, Custom, Geometric, Linear, cuts_of, levels_of


def test_the_formula_by_hand() -> None:
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3; 1 - s_t of the weights are left."""
    # 0.2 + 0.8 (8/27, 1/27, 0)
    assert cuts_of(Cubic(final=0.2, every=10, end=30), 1000, 30) == ((10, 437), (20, 230), (30, 200))
    assert cuts_of(Cubic(final=0.2, every=10), 1000, 40) == ((10, 437), (20, 230), (30, 200))  # ends at 3/4
    assert cuts_of(Cubic(final=0.2, every=20, begin=20, end=60), 1000, 60) == ((40, 300), (60, 200))
    assert cuts_of(Linear(final=0.1, every=5, begin=5, end=21), 1000, 24) == ((10, 700), (15, 400), (20, 100))
    assert cuts_of(Linear(final=0.5, every=4), 10, 8) == ((4, 5),)


@given(
    st.fractions(Fraction(1, 50), Fraction(9, 10)),
    st.integers(1, 40),
    st.integers(0, 100),
    st.integers(1, 30),
    st.integers(1000, 10**7),
)
def test_the_formula_of_the_paper(final: Fraction, every: int, begin: int, n: int, total: int) -> None:
    steps = begin + n * every
    for schedule, power in ((Cubic, 3), (Linear, 1)):
        made = schedule(final=float(final), every=every, begin=begin, end=steps)
        cuts = cuts_of(made, total, steps + 7)
        for step, keep in cuts:
            aimed = 1 - final
            sparsity = aimed + (0 - aimed) * (1 - Fraction(step - begin, n * every)) ** power
            assert abs(keep - (1 - sparsity) * total) < 0.51
        assert {step for step, _ in cuts} <= {begin + i * every for i in range(1, n + 1)}
        assert cuts[-1][1] == round(float(final) * total)
        assert all(after < before for (_, before), (_, after) in pairwise(cuts))
        assert levels_of(made, 9) == 1


@pytest.mark.parametrize("schedule", [Cubic, Linear])
def test_the_last_cut_reaches_the_density_itself(schedule: type[Cubic | Linear]) -> None:
    assert cuts_of(schedule(final=0.02, every=1, end=1), 4325, 1) == ((1, 86),)  # 86.5, which rounding off makes 87


def test_a_cut_that_removes_nothing_is_none() -> None:
    found = cuts_of(Cubic(final=0.5, every=1, end=10), 10, 10)
    assert found == ((1, 9), (2, 8), (3, 7), (4, 6), (6, 5))  # 8.6, 7.6, 6.7, 6.1, 5.6, 5.3, ...
    assert (
        cuts_of(Geometric(), 10, 10)
        == cuts_of(Custom(densities=(0.5,)), 10, 10)
        == cuts_of(Cubic(final=0.1), 9, 9)
        == ()
    )
    assert levels_of(Cubic(final=0.1), 9) == levels_of(Linear(final=0.1), 9) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": -1}, "every is -1; expected a whole number of training steps"),
        ({"every": 5, "begin": -1}, "begin is -1"),
        ({"every": True}, "every is True"),
        ({"begin": 5}, "every is 0, which goes by level; set every"),
        ({"end": 5}, "set every"),
        ({"every": 5, "begin": 4, "end": 8}, r"no cut every 5 steps; expected end - begin >= every"),
    ],
)
def test_steps_that_contradict_each_other_are_refused(options: dict[str, int], message: str) -> None:
    for schedule in (Linear, Cubic):
        with pytest.raises(UsageError, match=message):
            schedule(final=0.5, **options)


@pytest.mark.parametrize(
    "schedule",
    [
        Cubic(final=0.5, every=40),  # ends at step 30 of 40
        Cubic(final=0.5, every=5, begin=30),
        Linear(final=0.5, every=5, end=41),
    ],
)
def test_a_training_without_room_for_the_cuts_is_refused(schedule: Cubic | Linear) -> None:
    with pytest.raises(UsageError, match="expected one cut or more, and none after its end"):
        cuts_of(schedule, 1000, 40)
