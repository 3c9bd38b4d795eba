"""Tests, intervals, ratios, Holm and power: against brute force, known tables and numbers worked out by hand."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tombola.errors import UsageError
from tombola.statistics import (
    Pairs,
    bca,
    bca_coverage,
    below,
    equivalence,
    geometric_ratio,
    greater,
    hoeffding,
    holds_down_to,
    holm,
    judge_speed,
    less,
    log_ratios,
    noninferiority,
    overall,
    paired_differences,
    power_equivalence,
    power_greater,
    required_equivalence,
    required_replicates,
    sign_flip,
    superiority,
    t_interval,
)


def rows(values: list[float | None], **fields: Any) -> list[dict[str, Any]]:
    return [{"replicate": r, "draw": 0, "x": value, **fields} for r, value in enumerate(values)]


def upper_tail(t: float, df: int) -> float:
    """P(T(df) >= t) by Simpson's rule on the density, after x = sqrt(df) tan(a), which makes the range finite."""
    scale = math.gamma((df + 1) / 2) / math.gamma(df / 2) / math.sqrt(math.pi)
    low, high, parts = math.atan(t / math.sqrt(df)), math.pi / 2, 2_000
    step = (high - low) / parts
    heights = [abs(math.cos(low + i * step)) ** (df - 1) for i in range(parts + 1)]
    return scale * step / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2]))


def test_differences_average_draws_and_keep_common_finite_replicates() -> None:
    a = [*rows([1.0, 2.0, None, 4.0, math.nan]), {"replicate": 0, "draw": 1, "x": 3.0}]
    b = [*rows([0.5, 0.5, 0.5]), {"replicate": 3, "x": 9.0, "diverged": True}, {"replicate": 4, "x": 1.0}]
    assert paired_differences(a, b, "x") == {0: 1.5, 1: 1.5}
    assert paired_differences([], b, "x") == {}


def test_means_over_draws_that_differ_by_rounding_alone_do_not_differ() -> None:
    three = [{"replicate": 0, "draw": d, "x": x} for d, x in enumerate((0.7, 0.7, 0.7))]
    tenth = [{"replicate": 0, "draw": d, "x": 0.1 + 0.2} for d in range(2)]
    assert paired_differences(rows([0.7]), three, "x") == {0: 0.0}
    assert paired_differences(rows([0.3]), tenth, "x") == {0: 0.0}
    assert paired_differences(rows([0.3]), rows([0.3 + 1e-9]), "x")[0] < 0


def test_t_statistic_by_hand() -> None:
    # Mean 3, s / sqrt(5) = 0.7071068: t = 4.2426407 against 0 and 1.4142136 against 2.
    found = superiority([1, 2, 3, 4, 5])
    assert (found.df, found.n, found.why) == (4, 5, "")
    assert found.statistic == pytest.approx(4.2426407, abs=1e-6)
    assert found.p == pytest.approx(0.0066179, abs=1e-6)  # R: pt(-4.2426407, 4)
    assert greater([1, 2, 3, 4, 5], 2).statistic == pytest.approx(math.sqrt(2), abs=1e-9)
    assert less([-1, -2, -3, -4, -5], -2) == greater([1, 2, 3, 4, 5], 2)
    assert noninferiority([0, 1, 2], margin=1).statistic == pytest.approx(2 * math.sqrt(3), abs=1e-9)


def test_t_and_tost_agree_with_brute_force_on_random_inputs() -> None:
    source = random.Random(4)
    for _ in range(200):
        n = source.randint(2, 12)
        values = [source.gauss(source.uniform(-1, 1), source.uniform(0.1, 2)) for _ in range(n)]
        margin = source.uniform(0.1, 2)
        error = statistics.stdev(values) / math.sqrt(n)
        mean = statistics.fmean(values)
        lower, upper = upper_tail((mean + margin) / error, n - 1), upper_tail((margin - mean) / error, n - 1)
        assert noninferiority(values, margin).p == pytest.approx(lower, abs=1e-6)
        assert less(values, margin).p == pytest.approx(upper, abs=1e-6)
        assert equivalence(values, margin).p == pytest.approx(max(lower, upper), abs=1e-6)


def test_sign_flip_agrees_with_brute_force_on_random_inputs() -> None:
    source = random.Random(5)
    for case in range(200):
        n, bound = source.randint(1, 9), source.choice([0.0, -0.3])
        digits = 1 if case % 2 else 6  # one digit: many ties
        values = [round(source.gauss(0.3, 1), digits) for _ in range(n)]
        centred = [value - bound for value in values]
        patterns = [math.fsum(s * x for s, x in zip(signs, centred, strict=True)) for signs in _signs(n)]
        expected = sum(total >= math.fsum(centred) - 1e-9 for total in patterns) / 2**n
        found = sign_flip(values, bound)
        assert found.p == pytest.approx(expected, abs=1e-6)
        assert found.smallest == 0.5**n
        assert found.exact


def _signs(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=n))


def test_sign_flip_at_its_smallest_and_largest_and_with_nothing() -> None:
    assert sign_flip([1.0] * 5).p == 1 / 32
    assert sign_flip([0.0] * 5).p == 1
    assert sign_flip([-1.0] * 5).p == 1
    nothing = sign_flip([math.nan])
    assert (nothing.p, nothing.smallest, nothing.n) == (None, None, 0)


def test_sign_flip_of_many_is_drawn_says_so_and_agrees_with_the_exact_one() -> None:
    source = random.Random(6)
    values = [source.gauss(0.3, 1) for _ in range(20)]
    exact = sign_flip(values)
    assert exact.exact
    assert exact.flips == 2**20
    drawn = sign_flip([*values, 0.0])  # a zero turns nothing, so the exact p is that of the 20
    assert not drawn.exact
    assert drawn.flips == 100_000
    assert drawn.smallest == 1 / 100_001
    assert exact.p is not None
    assert drawn.p == pytest.approx(exact.p, abs=0.005)
    assert drawn == sign_flip([*values, 0.0])


@pytest.mark.parametrize(
    ("value", "bound", "p"),
    [(0.5, 0.0, 0.0), (0.0, 0.0, 1.0), (-0.5, 0.0, 1.0), (-0.01, -0.01, 1.0), (0.1 + 0.2, 0.3, 1.0), (0.0, -0.01, 0.0)],
)
def test_without_spread_the_side_decides(value: float, bound: float, p: float) -> None:
    found = greater([value] * 4, bound)
    assert (found.p, found.statistic, found.df, found.why) == (p, None, None, "all values are equal")
    assert t_interval([value] * 4) == (value, value)


def test_a_spread_of_rounding_is_none() -> None:
    # Each is 0.01 below, but the floats differ in the last bits.
    values = [0.95 - 0.96, 0.2 - 0.21, 0.01 - 0.02, 0.03 - 0.04]
    assert len(set(values)) > 1
    assert noninferiority(values, 0.01).p == 1.0
    assert noninferiority(values, 0.011).p == 0.0
    assert equivalence(values, 0.01).p == 1.0


@pytest.mark.parametrize("values", [[], [0.5], [math.nan, 0.5], [math.inf]])
def test_too_few_values_give_no_p_and_say_so(values: list[float]) -> None:
    for found in (superiority(values), noninferiority(values, 1.0), equivalence(values, 1.0), below(values)):
        assert found.p is None
        assert "at least two pairs" in found.why
    assert t_interval(values) == (None, None)
    assert bca(values).low is None
    assert "no interval" in bca(values).words


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_unusable_margins_are_refused(margin: float) -> None:
    with pytest.raises(UsageError, match="a margin is"):
        noninferiority([1.0, 2.0], margin)
    with pytest.raises(UsageError, match="a margin is"):
        equivalence([1.0, 2.0], margin)


@given(st.lists(st.floats(-1e100, 1e100), max_size=8), st.floats(0, 10))
def test_tests_never_warn_and_p_is_one(values: list[float], margin: float) -> None:
    for p in (greater(values).p, equivalence(values, margin).p, sign_flip(values).p):
        assert p is None or 0 <= p <= 1
    found = bca(values, resamples=50)
    assert found.low is None or (found.high is not None and found.low <= found.high)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(0.01, 1))
def test_equivalence_is_the_harder_of_two_and_agrees_with_the_90_percent_interval(
    values: list[float], margin: float
) -> None:
    found = equivalence(values, margin)
    assert found.p == max(noninferiority(values, margin).p or 0.0, less(values, margin).p or 0.0)
    low, high = t_interval(values, 0.9)
    assert low is not None
    assert high is not None
    if min(abs(low + margin), abs(high - margin)) > 1e-6:
        assert (found.p <= 0.05) == (-margin < low and high < margin)


def test_bca_against_hand_numbers_and_its_coverage() -> None:
    found = bca([1.0, 2.0, 3.0, 4.0, 5.0], seed=3)
    # Symmetric values: neither bias nor acceleration, so the percentile interval.
    assert found.mean == 3
    assert found.low == pytest.approx(1.8, abs=0.11)
    assert found.high == pytest.approx(4.2, abs=0.11)
    assert found == bca([1.0, 2.0, 3.0, 4.0, 5.0], seed=3)
    assert found.coverage == 0.84
    skewed = bca([0.0, 0.0, 0.1, 0.2, 3.0])
    assert skewed.low is not None
    assert skewed.high is not None
    assert skewed.mean is not None
    assert skewed.high - skewed.mean > skewed.mean - skewed.low
    assert bca_coverage(10) == 0.90
    assert bca([0.2] * 3).low == bca([0.2] * 3).high == 0.2
    with pytest.raises(UsageError, match=r"0\.95 is usual"):
        bca([1.0, 2.0], confidence=95)


def test_ratios_on_the_log_scale() -> None:
    logs = log_ratios({0: (50, 100), 1: (200, 100), 2: (0, 100), 3: (100, 0)})
    assert logs == {0: -math.log(2), 1: math.log(2)}
    found = geometric_ratio(logs.values())
    assert found.ratio == pytest.approx(1)
    # t(1, 0.975) = 12.7062047, s / sqrt(2) = log 2.
    assert found.high == pytest.approx(2**12.7062047, rel=1e-5)
    assert found.low == pytest.approx(2**-12.7062047, rel=1e-5)
    assert geometric_ratio([]).ratio is None
    assert below([math.log(1.05)] * 3, 1.1).p == 0
    assert below([math.log(1.1)] * 3, 1.1).p == 1
    assert geometric_ratio([-700.0, 700.0]).high == pytest.approx(math.exp(709))
    with pytest.raises(UsageError, match="above 0"):
        below([0.0, 0.1], 0)


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04; then the running maximum.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []
    assert holm([0.03]) == [0.03]


def test_replicates_of_the_known_table() -> None:
    margins = (0.5, 0.75, 1.0, 1.5, 2.0)
    assert [required_equivalence(m, power=0.9, arms=2) for m in margins] == [88, 40, 23, 11, 7]
    assert [required_replicates(m, power=0.9, arms=2) for m in margins] == [70, 32, 18, 9, 6]
    assert [required_replicates(m, power=0.8, alpha=0.025, arms=2) for m in (0.5, 1, 1.5, 2)] == [64, 17, 9, 6]


def test_required_replicates_are_the_first_with_enough_power_and_capped() -> None:
    for effect in (0.4, 0.7, 1.3):
        n = required_replicates(effect)
        assert n is not None
        assert power_greater(n, effect) >= 0.8 > power_greater(n - 1, effect)
        n = required_equivalence(effect)
        assert n is not None
        assert power_equivalence(n, effect) >= 0.9 > power_equivalence(n - 1, effect)
    assert required_replicates(0.2) is None
    assert required_replicates(0.2, cap=200) == 156
    assert required_replicates(math.inf) == 2
    assert required_replicates(1e9) == 2
    assert [required_replicates(bad) for bad in (0.0, -1.0, math.nan)] == [None] * 3
    assert [required_equivalence(bad) for bad in (0.0, math.nan)] == [None] * 2
    assert required_equivalence(1.0, shift=1.0) is None
    assert required_equivalence(math.inf) == 2
    assert power_equivalence(10, 0.0) == 0
    assert power_greater(10, 0.0) == pytest.approx(0.05, abs=1e-9)
    with pytest.raises(UsageError, match="n >= 2"):
        power_greater(1, 1.0)
    with pytest.raises(UsageError, match="wanted power"):
        required_replicates(1.0, power=80)


def test_hoeffding_by_hand() -> None:
    assert hoeffding(5_000, 0.05, 2) == pytest.approx(math.sqrt(math.log(80) / 10_000))
    assert hoeffding(1, 0.01, 2) == 1
    with pytest.raises(UsageError, match="at least one example"):
        hoeffding(0, 0.05)


def paired_steps(*steps: tuple[float, float]) -> dict[int, tuple[float, float]]:
    return dict(enumerate(steps))


def test_every_word_of_speed() -> None:
    words = {
        "faster": paired_steps((300, 400), (310, 400), (290, 400)),
        "no slower": paired_steps((400, 400), (400, 400), (400, 400)),
        "slower": paired_steps((600, 400), (620, 400), (580, 400)),
        "inconclusive": paired_steps((300, 400), (800, 400), (400, 400)),
    }
    assert {word: judge_speed(steps, 1200).word for word, steps in words.items()} == {word: word for word in words}
    assert judge_speed(paired_steps((440, 400), (440, 400), (440, 400)), 1200).word == "slower"  # at the bound
    assert judge_speed(paired_steps((436, 400), (436, 400), (436, 400)), 1200).word == "no slower"
    assert judge_speed({}, 1200).word == "inconclusive"
    assert judge_speed(paired_steps((300, 400), (300, 400)), 1200).why.startswith("Cannot judge: 2 of the 3")


def test_censored_minima() -> None:
    both = judge_speed(paired_steps((1200, 1200), (300, 400), (310, 400), (290, 400)), 1200)
    assert (both.word, both.left_out, both.n) == ("faster", 1, 3)
    half = judge_speed(paired_steps((1200, 400), (1200, 400), (300, 400), (300, 400)), 1200)
    assert (half.word, half.ticket_censored, half.p, half.low) == ("slower", 2, None, None)
    assert half.ratio == pytest.approx(1.5)
    few = judge_speed(paired_steps((1200, 400), (300, 400), (300, 400)), 1200)
    assert (few.word, few.ticket_censored) == ("inconclusive", 1)
    # Half of the pairs that are left when the doubly censored one is out.
    rest = judge_speed(paired_steps((1200, 1200), (1200, 400), (1200, 400), (300, 400)), 1200)
    assert (rest.word, rest.n) == ("slower", 3)
    kept = judge_speed(paired_steps((600, 1200), (610, 1200), (590, 1200)), 1200)
    assert (kept.word, kept.dense_censored) == ("faster", 3)
    assert kept.ratio == pytest.approx(0.5, abs=1e-3)
    assert judge_speed(paired_steps((1200, 400), (1200, 400), (1200, 400)), None).ratio == pytest.approx(3)


def won(offset: float = 0.0) -> Pairs:
    d = {0: 0.019, 1: 0.02, 2: 0.021, 3: 0.02, 4: 0.022 + offset}
    return Pairs(dense=d, controls={"reinit": d, "shuffled": d})


def test_overall_takes_the_smallest_density_and_leaves_one_out() -> None:
    lost = Pairs(dense=dict.fromkeys(range(5), -0.2), controls=won().controls)
    found = overall({1: won(), 2: won(), 3: lost}, {1: 0.8, 2: 0.64, 3: 0.5}, 0.01)
    assert found.level == 2
    assert found.left_out == dict.fromkeys(range(5), 2)
    assert found.adjusted[3] == 1
    assert (found.adjusted[1] or 0) > (found.unadjusted[1] or 0)
    shaky = overall({1: won(), 2: won(offset=-0.05)}, {1: 0.8, 2: 0.64}, 0.01)
    assert shaky.level == 1
    assert shaky.left_out == {0: 1, 1: 1, 2: 1, 3: 1, 4: 2}


def test_holds_down_to_stops_at_the_first_failure() -> None:
    good = Pairs(dense=dict.fromkeys(range(3), 0.0))
    bad, few = Pairs(dense=dict.fromkeys(range(3), -0.1)), Pairs(dense={0: 0.0, 1: 0.0})
    assert [holds_down_to(levels, 0.01) for levels in ([], [bad, good], [good, few, good], [good, good])] == [
        0,
        0,
        1,
        2,
    ]


def test_import_costs_neither_numpy_nor_scipy_nor_torch() -> None:
    code = (
        "import sys, tombola.statistics, tombola.analysis.verdict;"
        "print([m for m in ('numpy', 'scipy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
