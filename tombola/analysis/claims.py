"""The claims of Frankle and Carbin (2019, arXiv 1803.03635) about LeNet on MNIST, judged on a stored experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.statistics.paired import TTest, equivalence, greater, less, noninferiority, t_interval
from tombola.statistics.pairs import log_ratios, paired_differences, paired_values
from tombola.statistics.ratios import below, geometric_ratio

__all__ = ["CLAIMS", "Claim", "Judged", "judge_claims"]

ALPHA = 0.05
_AT_STOP = "test_accuracy_at_early_stop"
_STEP = "early_stop_step"

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What became of a claim.

    Args:
        claim, paper: what is claimed, and the paper's number.
        ours: the number found here, in words.
        verdict: held, not held, inconclusive, or not measured.
    """

    claim: str
    paper: str
    ours: str
    verdict: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A claim with what measures it: (rows by arm and level, margin) -> (our number, test for it, test against it)."""

    text: str
    paper: str
    measure: Callable[[Callable[[str, int], Rows], float], tuple[str, TTest, TTest]]


def _gain(level: int, bound: float = 0.0, against: tuple[str, int] = ("ticket", 0)) -> Callable[..., Any]:
    """Accuracy of the ticket of a level above another arm's by more than `bound`."""

    def measure(rows: Callable[[str, int], Rows], margin: float) -> tuple[str, TTest, TTest]:
        d = list(paired_differences(rows("ticket", level), rows(*against), _AT_STOP).values())
        return _points(d), greater(d, bound), less(d, bound)

    return measure


def _reinit_falls(level: int) -> Callable[..., Any]:
    def measure(rows: Callable[[str, int], Rows], margin: float) -> tuple[str, TTest, TTest]:
        d = list(paired_differences(rows("reinit", level), rows("ticket", 0), _AT_STOP).values())
        return _points(d), less(d), noninferiority(d, margin)

    return measure


def _holds(level: int) -> Callable[..., Any]:
    def measure(rows: Callable[[str, int], Rows], margin: float) -> tuple[str, TTest, TTest]:
        d = list(paired_differences(rows("ticket", level), rows("ticket", 0), _AT_STOP).values())
        return _points(d), noninferiority(d, margin), less(d)

    return measure


def _back(level: int) -> Callable[..., Any]:
    def measure(rows: Callable[[str, int], Rows], margin: float) -> tuple[str, TTest, TTest]:
        d = list(paired_differences(rows("ticket", level), rows("ticket", 0), _AT_STOP).values())
        far = greater(d, margin) if sum(d) > 0 else less(d, -margin)
        return _points(d), equivalence(d, margin), far

    return measure


def _faster(one: tuple[str, int], other: tuple[str, int]) -> Callable[..., Any]:
    """Early stop of `one` before that of `other`."""

    def measure(rows: Callable[[str, int], Rows], margin: float) -> tuple[str, TTest, TTest]:
        logs = list(log_ratios(paired_values(rows(*one), rows(*other), _STEP)).values())
        ratio = geometric_ratio(logs)
        return _times(ratio), below(logs), greater(logs)

    return measure


def _points(differences: Sequence[float]) -> str:
    if not differences:
        return ""
    low, high = t_interval(differences)
    mean = sum(differences) / len(differences)
    spread = f" ({100 * low:+.2f} to {100 * high:+.2f})" if low is not None and high is not None else ""
    return f"{100 * mean:+.2f} points{spread}, n = {len(differences)}"


def _times(ratio: Any) -> str:
    if ratio.ratio is None:
        return ""
    spread = f" ({ratio.low:.2f} to {ratio.high:.2f})" if ratio.low is not None else ""
    return f"{ratio.ratio:.2f} x the steps{spread}, n = {ratio.n}"


_DENSE = ("ticket", 0)

CLAIMS: tuple[Claim, ...] = (
    Claim(text="At 51.3 % the ticket is more accurate than the dense network", paper="yes", measure=_gain(3)),
    Claim(text="At 51.3 % it stops earlier", paper="yes", measure=_faster(("ticket", 3), _DENSE)),
    Claim(
        text="At 21.1 % it stops earliest: before the dense network",
        paper="0.62 x the steps (38 % earlier)",
        measure=_faster(("ticket", 7), _DENSE),
    ),
    Claim(text="At 13.5 % it gains more than 0.3 points", paper="> +0.3 points", measure=_gain(9, 0.003)),
    Claim(text="At 3.6 % accuracy is back at the dense network's", paper="equal", measure=_back(15)),
    Claim(text="Down to 2.9 % the ticket is not below the dense network", paper="yes", measure=_holds(16)),
    Claim(
        text="At 21.1 % the random re-initialisation is below the dense network", paper="yes", measure=_reinit_falls(7)
    ),
    Claim(
        text="At 21.1 % the ticket stops before its random re-initialisation",
        paper="0.40 x the steps (2.51 times faster)",
        measure=_faster(("ticket", 7), ("reinit", 7)),
    ),
    Claim(
        text="At 21.1 % the ticket is more accurate than its random re-initialisation",
        paper="+0.5 points",
        measure=_gain(7, 0.0, ("reinit", 7)),
    ),
    Claim(
        text="Random re-initialisations stop later and later: at 80 % before those at 3.6 %",
        paper="yes",
        measure=_faster(("reinit", 1), ("reinit", 15)),
    ),
)


def judge_claims(document: Mapping[str, Any], *, margin: float) -> list[Judged]:
    """Every claim on the results of an experiment, by one-sided paired t tests at 5 % over replicates.

    `held`: the test for the claim is significant; `not held`: the test against it is; `inconclusive`: neither;
    `not measured`: the experiment has no such level or arm.

    Args:
        document: of an experiment with LeNet-300-100 at 20 % a level (level 3 is 51.3 %, 7 is 21.1 %, 15 is 3.6 %).
        margin: of accuracy, as a fraction, within which networks count as equal.
    """

    def rows(arm: str, level: int) -> Rows:
        return [row for row in document["arms"].get(arm, ()) if row["level"] == level]

    found = []
    for claim in CLAIMS:
        ours, good, bad = claim.measure(rows, margin)
        verdict = "not measured"
        if ours:
            held, broken = (test.p is not None and test.p <= ALPHA for test in (good, bad))
            verdict = "held" if held else "not held" if broken else "inconclusive"
        found.append(Judged(claim=claim.text, paper=claim.paper, ours=ours or "-", verdict=verdict))
    return found
