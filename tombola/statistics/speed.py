"""Does the ticket learn as fast as the dense network? Paired ratios of early-stop steps, with censoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tombola.statistics.paired import ROUNDING
from tombola.statistics.pairs import log_ratios
from tombola.statistics.ratios import below, geometric_ratio
from tombola.statistics.verdicts import ALPHA, FEWEST

__all__ = ["SPEED_MARGIN", "Speed", "SpeedWord", "judge_speed"]

SpeedWord = Literal["faster", "no slower", "slower", "inconclusive"]

SPEED_MARGIN = 0.10
"""A ticket that needs up to this part more steps than dense is no slower."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The word for speed, and the geometric mean of ticket / dense early-stop steps.

    `ratio`, `low`, `high` are above 0, None where nothing can be said; `p` is that of "no slower", `p_faster` of
    "faster". Where a ticket is censored, `ratio` is a lower bound, and the interval and p are None. `n` pairs were
    used, `left_out` had both minima at the last step, and in `ticket_censored` and `dense_censored` only one had.
    """

    word: SpeedWord
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_faster: float | None = None
    n: int = 0
    left_out: int = 0
    ticket_censored: int = 0
    dense_censored: int = 0
    why: str = ""


def judge_speed(steps: Mapping[int, tuple[float, float]], last_step: int | None) -> Speed:
    """`steps`: replicate -> early-stop steps (ticket, dense); one at `last_step` is censored, the minimum may be later.

    Both censored: the pair is left out. Only the ticket censored in at least half of the other pairs: slower; in
    fewer: inconclusive. Only dense censored: its step is a lower bound, and the ratio, an upper bound, is kept.
    Then on the log scale at 5 %, the first that fits: faster (ratio < 1), no slower (ratio < 1.1), slower (the 95 %
    interval lies above 1), inconclusive. Without `last_step` nothing is censored.

    >>> judge_speed({0: (300, 400), 1: (290, 400), 2: (310, 400)}, 1200).word
    'faster'
    >>> judge_speed({0: (1200, 400), 1: (1200, 400), 2: (310, 400)}, 1200).word
    'slower'
    """
    end = float("inf") if last_step is None else float(last_step)
    used = {replicate: pair for replicate, pair in steps.items() if min(pair) > 0 and not min(pair) >= end}
    counts = {
        "n": len(used),
        "left_out": sum(min(pair) >= end for pair in steps.values()),
        "ticket_censored": sum(ticket >= end for ticket, _ in used.values()),
        "dense_censored": sum(dense >= end for _, dense in used.values()),
    }
    logs = list(log_ratios(used).values())
    found = geometric_ratio(logs)
    late = counts["ticket_censored"]
    if len(used) < FEWEST:
        beside = f" besides {counts['left_out']} with both minima at the last step" if counts["left_out"] else ""
        why = f"Cannot judge: {len(used)} of the {FEWEST} pairs that are needed are there{beside}."
        ends = (None, None) if late else (found.low, found.high)
        return Speed(word="inconclusive", ratio=found.ratio, low=ends[0], high=ends[1], why=why, **counts)
    if late:
        many = 2 * late >= len(used)
        why = f"In {late} of {len(used)} pairs only the ticket's minimum lies at the last step, so it may lie beyond."
        return Speed(word="slower" if many else "inconclusive", ratio=found.ratio, why=why, **counts)
    assert found.low is not None
    p, faster = below(logs, 1 + SPEED_MARGIN).p, below(logs).p
    word: SpeedWord = "inconclusive"
    if faster is not None and faster <= ALPHA:
        word = "faster"
    elif p is not None and p <= ALPHA:
        word = "no slower"
    elif found.low > 1 + ROUNDING:
        word = "slower"
    why = {
        "faster": "The minimum comes earlier than dense's.",
        "no slower": "The minimum comes at most 10 % later than dense's.",
        "slower": "The minimum comes later than dense's.",
        "inconclusive": "Not shown to be at most 10 % later than dense, nor later.",
    }[word]
    return Speed(word=word, ratio=found.ratio, low=found.low, high=found.high, p=p, p_faster=faster, why=why, **counts)
