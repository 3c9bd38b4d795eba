"""The verdict on one level: winning, matching, losing or inconclusive, from paired differences alone.

With one-sided paired t tests at 5 % on replicate values of an accuracy:

    N  ticket - dense    > -margin      (not worse than the dense network beyond the margin)
    R  ticket - reinit   > 0            (better than its mask on other initial weights)
    S  ticket - shuffled > 0            (better than its weights under another mask)

Definitions: Frankle & Carbin (2019), arXiv 1803.03635, whose "at least as accurate" becomes N, and whose controls
become R and S.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tombola.statistics.intervals import Interval, interval
from tombola.statistics.paired import ROUNDING, greater, t_interval, usable
from tombola.statistics.power import CAP, required_replicates

__all__ = ["ALPHA", "CONTROLS", "FEWEST", "Judgement", "Needs", "Pairs", "Word", "judge", "level_p", "needs"]

Word = Literal["winning", "matching", "losing", "inconclusive"]

ALPHA = 0.05
"""Level of every one-sided test."""

FEWEST = 3
"""Fewer replicates than this cannot judge."""

CONTROLS = ("reinit", "shuffled")
"""The arms that a winning ticket must beat, all of them."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The differences of one level: replicate -> ticket - other, in the unit of the margin.

    A control that was not run is missing from `controls`, or empty.
    """

    dense: Mapping[int, float]
    controls: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def control(self, name: str) -> Mapping[int, float]:
        """The differences from this control, empty where it was not run."""
        return self.controls.get(name, {})

    def without(self, replicate: int) -> Pairs:
        """The same without one replicate.

        >>> Pairs(dense={0: 0.1, 1: 0.2}).without(1).dense
        {0: 0.1}
        """
        return Pairs(
            dense={r: d for r, d in self.dense.items() if r != replicate},
            controls={n: {r: d for r, d in ds.items() if r != replicate} for n, ds in self.controls.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Needs:
    """How many replicates would settle an inconclusive level.

    `replicates` is None for more than `cap`; `test` names the arm whose comparison needs most of them ("dense" and
    a margin of accuracy, or a control), at `power`, if the means and spreads are what they look like now.
    """

    replicates: int | None
    cap: int
    power: float
    test: str


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The word for one level, and why, in words."""

    word: Word
    why: str
    needs: Needs | None = None


def judge(pairs: Pairs, margin: float, *, power: float = 0.8) -> Judgement:
    """The first that fits.

    winning: N, R and S hold, both controls run. matching: N holds, and a control is not worse than the ticket
    beyond the margin (the upper end of the 95 % interval of ticket - control lies below the margin): a good
    sparsity pattern, not a ticket. losing: N fails and the 95 % interval of ticket - dense lies below 0.
    inconclusive: all else, and fewer than three replicates.

    >>> judge(Pairs(dense={0: -0.20, 1: -0.21, 2: -0.19}), 0.01).word
    'losing'
    """
    n = len(pairs.dense)
    if n < FEWEST:
        have = "no replicate is" if n == 0 else f"{n} replicate{'s are' if n > 1 else ' is'}"
        why = f"Cannot judge: {have} there for ticket and dense, at least {FEWEST} are needed."
        return Judgement(word="inconclusive", why=why, needs=_at_least(power) if n else None)
    p = _level_ps(pairs, margin)
    run = [name for name in CONTROLS if p[name] is not None]
    beaten = [name for name in run if _holds(p[name])]
    if not _holds(p["dense"]):
        _, high = t_interval(pairs.dense.values())
        if high is not None and high < 0:
            return Judgement(word="losing", why="Below dense: the 95 % interval of the difference lies below 0.")
        why = "Not shown to be within the margin of dense, nor below it."
        return Judgement(word="inconclusive", why=why, needs=needs(pairs, margin, power=power))
    if beaten == list(CONTROLS):
        return Judgement(word="winning", why=f"Within the margin of dense, and better than {_and(beaten)}.")
    equal = [name for name in run if _as_good(pairs.control(name), margin)]
    if equal:
        verb = "is" if len(equal) == 1 else "are"
        why = f"Within the margin of dense, but {_and(equal)} {verb} not worse than the ticket beyond it"
        return Judgement(word="matching", why=f"{why}: a good sparsity pattern, not a ticket.")
    missing = [name for name in CONTROLS if name not in run]
    open_ones = [name for name in run if name not in beaten]
    why = "Within the margin of dense"
    why += f"; open whether better than {_and(open_ones)} or only as good" if open_ones else ""
    why += f"; {_and(missing)} not run, or fewer than {FEWEST} replicates of it" if missing else ""
    return Judgement(word="inconclusive", why=f"{why}.", needs=needs(pairs, margin, power=power))


def level_p(pairs: Pairs, margin: float) -> float | None:
    """p = max(p_N, p_R, p_S), the p of "a winning ticket"; None where a test lacks three pairs.

    >>> level_p(Pairs(dense={0: 0.0, 1: 0.0, 2: 0.0}), 0.01) is None
    True
    """
    ps = [p for p in _level_ps(pairs, margin).values() if p is not None]
    return max(ps) if len(ps) == 1 + len(CONTROLS) else None


def needs(pairs: Pairs, margin: float, *, power: float = 0.8, cap: int = CAP) -> Needs | None:
    """The replicates at which some word is reached with `power`, if means and spreads stay what they are.

    Each word needs all its tests, hence the largest of their n; the word that needs least counts. Always more than
    there are now. None below three pairs, and where only a control that was not run (or not three times) is in the way.

    >>> needs(Pairs(dense={0: -0.03, 1: 0.01, 2: -0.02}), 0.02)
    Needs(replicates=22, cap=100, power=0.8, test='dense')
    """
    dense = usable(pairs.dense.values())
    controls = {name: usable(pairs.control(name).values()) for name in CONTROLS}
    controls = {name: values for name, values in controls.items() if len(values) >= FEWEST}
    if len(dense) < FEWEST:
        return None
    inside = _required(dense, margin, ALPHA, power, cap)
    words = [[("dense", _required([-value for value in dense], 0.0, ALPHA / 2, power, cap))]]
    for name, values in controls.items():
        equal = _required([-value for value in values], margin, ALPHA / 2, power, cap)
        words.append([("dense", inside), (name, equal)])
    if len(controls) == len(CONTROLS):
        better = [(name, _required(values, 0.0, ALPHA, power, cap)) for name, values in controls.items()]
        words.append([("dense", inside), *better])
    test, most = min((_limiting(tests) for tests in words), key=lambda found: found[1])
    if most > cap and len(controls) < len(CONTROLS):
        return None
    if most > cap:
        # Which test stands in the way is what can be told; the numbers beyond the cap cannot.
        test = "dense" if not _holds(greater(dense, -margin).p) else _weakest(controls)
        return Needs(replicates=None, cap=cap, power=power, test=test)
    return Needs(replicates=max(int(most), len(dense) + 1), cap=cap, power=power, test=test)


def _level_ps(pairs: Pairs, margin: float) -> dict[str, float | None]:
    tests = {"dense": greater(pairs.dense.values(), -margin)}
    tests |= {name: greater(pairs.control(name).values()) for name in CONTROLS}
    return {name: test.p if test.n >= FEWEST else None for name, test in tests.items()}


def _as_good(differences: Mapping[int, float], margin: float) -> bool:
    """Whether a control is not worse than the ticket beyond the margin."""
    _, high = t_interval(differences.values())
    return high is not None and high < margin and not math.isclose(high, margin, rel_tol=ROUNDING, abs_tol=0.0)


def _required(values: list[float], bound: float, alpha: float, power: float, cap: int) -> float:
    """Replicates for mean > -bound at this power, infinite above the cap."""
    found: Interval = interval(values)
    spread = math.hypot(*(value - found.mean for value in values)) / math.sqrt(len(values) - 1)
    away = found.mean + bound
    if spread <= ROUNDING * max(abs(bound), *map(abs, values)):
        effect = math.inf if away > 0 else 0.0
    else:
        effect = away / spread
    return required_replicates(effect, power=power, alpha=alpha, cap=cap) or math.inf


def _limiting(tests: list[tuple[str, float]]) -> tuple[str, float]:
    return max(tests, key=lambda test: test[1])


def _weakest(controls: Mapping[str, list[float]]) -> str:
    """The control whose difference from the ticket is the least certain."""
    return max(controls, key=lambda name: greater(controls[name]).p or 0.0)


def _at_least(power: float) -> Needs:
    return Needs(replicates=FEWEST, cap=CAP, power=power, test="dense")


def _holds(p: float | None) -> bool:
    return p is not None and p <= ALPHA


def _and(names: Iterable[str]) -> str:
    """The names in a row.

    >>> _and(["reinit", "shuffled"])
    'reinit and shuffled'
    """
    return " and ".join(names)
