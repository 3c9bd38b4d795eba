"""The verdict on a results document: which tickets win, how sure that is, and what is missing. Needs no torch.

Definitions: Frankle & Carbin (2019), arXiv 1803.03635, as statistical claims; see `tombola.statistics.verdicts`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.analysis.missing import listed, missing
from tombola.analysis.relative import judged_by, relative
from tombola.errors import UsageError, suggest
from tombola.statistics.guarantee import hoeffding
from tombola.statistics.intervals import interval
from tombola.statistics.levels import Overall, holds_down_to, overall
from tombola.statistics.paired import greater
from tombola.statistics.pairs import paired_differences, paired_values
from tombola.statistics.permutation import sign_flip
from tombola.statistics.speed import judge_speed
from tombola.statistics.verdicts import ALPHA, CONTROLS, FEWEST, Pairs, judge

__all__ = ["ENDPOINTS", "UNADJUSTED", "experiment_verdict", "fallback", "sentence", "verdict"]

ENDPOINTS = {"early-stop": "test_accuracy_at_early_stop", "end": "test_accuracy"}
"""Name of an endpoint -> the field of a results row. Larger is better."""

UNADJUSTED = (
    "The verdicts of the levels are unadjusted: each is a test at 5 % by itself. "
    "The overall answer is adjusted for the number of levels (Holm)."
)

_TICKET = "ticket"
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class _Arms:
    """The rows of every arm at every level, and the field in which they are compared."""

    rows: Mapping[tuple[str, int], Rows]
    field: str

    def at(self, arm: str, level: int) -> Rows:
        return self.rows.get((arm, level), ())

    @property
    def levels(self) -> list[int]:
        """Levels from 1 of the ticket and of its controls."""
        return sorted({level for arm, level in self.rows if level >= 1 and arm in (_TICKET, *CONTROLS)})

    def differences(self, level: int, arm: str, other_level: int) -> dict[int, float]:
        """replicate -> ticket of the level - other arm."""
        return paired_differences(self.at(_TICKET, level), self.at(arm, other_level), self.field)

    def pairs(self, level: int) -> Pairs:
        others = sorted({arm for arm, there in self.rows if there == level and arm != _TICKET})
        controls = {arm: self.differences(level, arm, level) for arm in others}
        return Pairs(dense=self.differences(level, _TICKET, 0), controls=controls)

    def density(self, level: int) -> float | None:
        """Mean density of the level over the ticket's rows, or over the controls' where the ticket is missing."""
        rows = self.at(_TICKET, level) or [row for arm in CONTROLS for row in self.at(arm, level)]
        known = [row["density"] for row in rows if row.get("density") is not None and math.isfinite(row["density"])]
        return interval(known).mean if known else None


def verdict(
    document: Mapping[str, Any],
    *,
    margin: float,
    endpoint: str = "early-stop",
    steps: int | None = None,
    power: float = 0.8,
) -> dict[str, Any]:
    """The verdict on every level from 1, and the overall answer, as `tombola verdict --json` writes them.

    Args:
        document: a results document of schema 1, as complete as it is.
        margin: loss of accuracy (fraction in [0, 1)) within which a ticket is as good as dense; declared beforehand.
        endpoint: "early-stop" or "end": where the test accuracy of every arm is taken.
        steps: the last step of every training, at which an early-stop step is censored; None where it is not known.
        power: of the tests that the needed replicates are counted for.

    Returns:
        {"schema": 1, "margin", "endpoint", "replicates", "levels": [...], "overall": {...}, "notes": [sentence, ...]}.
        Differences are ticket - other, fractions; ratio is ticket / dense steps; p of speed is that of "no slower";
        what does not exist is None.

    Raises:
        UsageError: no results document, or an unusable margin or endpoint. Missing data are no error.

    >>> verdict({"schema": 1, "arms": {}}, margin=0.01)["overall"]["sentence"]
    'No winning ticket can be claimed: no ticket was trained.'
    """
    if endpoint not in ENDPOINTS:
        raise UsageError(f"unknown endpoint {endpoint!r}. {suggest(endpoint, ENDPOINTS)}")
    if not 0 <= margin < 1:
        raise UsageError(f"a margin is a fraction in [0, 1), got {margin}; 1.0 point is 0.01")
    arms = _Arms(rows=_grouped(document), field=ENDPOINTS[endpoint])
    pairs = {level: arms.pairs(level) for level in arms.levels}
    densities = {level: found for level in pairs if (found := arms.density(level)) is not None}
    total = overall(pairs, densities, margin)
    answer: dict[str, Any] = {
        "schema": 1,
        "margin": margin,
        "endpoint": endpoint,
        "replicates": max((len(pair.dense) for pair in pairs.values()), default=0),
        "levels": [
            {
                **_level(level, pairs[level], densities.get(level), margin, power),
                "p": total.unadjusted[level],
                "adjusted_p": total.adjusted[level],
            }
            for level in pairs
        ],
        "notes": missing(arms.rows, arms.field, steps),
    }
    for level in answer["levels"]:
        level["speed"] = _speed(arms, level["level"], steps)
        level["strict"] = level["verdict"] == "winning" and level["speed"]["verdict"] in ("faster", "no slower")
    answer["overall"] = _overall(total, pairs, densities, margin)
    answer["overall"]["sentence"] = sentence(answer)
    return answer


def experiment_verdict(content: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict on a stored experiment, by the margin and endpoint that its recipe declared before the run.

    A metric that is no accuracy is judged in parts of the dense networks' mean, the margin too; a note says so.

    Raises:
        UsageError: the experiment measures an error, or rewards of which the dense networks have none.
    """
    metric, declared = judged_by(content), tomllib.loads(content["settings"])
    if metric is None:
        raise UsageError(f"A verdict compares accuracies or rewards; this experiment measures {content['metric']}.")
    how = {"margin": declared["margin"], "endpoint": declared["endpoint"], "steps": declared["steps"]}
    if metric == "accuracy":
        return verdict(document, **how)
    parts, mean = relative(document, ENDPOINTS[declared["endpoint"]])
    found = {**verdict(parts, **how), "metric": metric, "dense_mean": mean}
    found["notes"] = [f"A point is 1 % of the dense networks' mean {metric}, {mean:.4g}.", *found["notes"]]
    found["overall"]["sentence"] = sentence(found)
    return found


def sentence(answer: Mapping[str, Any]) -> str:
    """The overall answer in one English sentence, with density and margin; "No winning ticket" is an answer."""
    found, levels, n = answer["overall"], answer["levels"], answer["replicates"]
    margin, where = _points(answer["margin"]), "at early stop" if answer["endpoint"] == "early-stop" else "at the end"
    if not levels:
        return "No winning ticket can be claimed: no ticket was trained."
    if n < FEWEST:
        have = f"{n} replicate{'' if n == 1 else 's'} of ticket and dense network"
        return f"No winning ticket can be claimed: {have} cannot judge, at least {FEWEST} are needed."
    among = f"{n} replicates, Holm over {found['tested']} level{'' if found['tested'] == 1 else 's'}"
    if found["smallest_winning_density"] is not None:
        return (
            f"A winning ticket keeps {_percent(found['smallest_winning_density'])} of the weights "
            f"(level {found['level']}): {where} its test {answer.get('metric', 'accuracy')} is within {margin} of the "
            f"dense network's, and above that of its mask on other initial weights and of its weights under a shuffled "
            f"mask "
            f"({among}: {_p(found['p'])}; {_range(found, n)})."
        )
    if found["tested"] == 0:
        return (
            f"No winning ticket can be claimed: no level has {FEWEST} replicates of dense, {' and '.join(CONTROLS)} "
            f"beside the ticket, within a margin of {margin} {where} ({_words(levels)})."
        )
    deepest = min((level["density"] for level in levels if level["density"] is not None), default=None)
    down = "" if deepest is None else f" down to density {_percent(deepest)}"
    return (
        f"No winning ticket: {where}, no level{down} is shown to be both within {margin} of the dense network and "
        f"better than {' and '.join(CONTROLS)} ({among}; before that adjustment {_words(levels)})."
    )


def fallback(document: Mapping[str, Any], *, examples: int, etas: Sequence[float] = (0.01, 0.05)) -> dict[str, Any]:
    """What choosing between ticket and dense network on validation data can cost (Hoeffding).

    With probability 1 - eta every one of K accuracies on N = `examples` validation examples lies within
    epsilon = sqrt(ln(2K / eta) / (2N)) of the true one. Then whoever keeps the more accurate of them loses at most
    2 epsilon against dense (`loss`), and whoever leaves dense only for a lead of epsilon loses at most epsilon. K is 2
    for one ticket named beforehand, and 1 + the number of levels where the best of all levels is chosen.

    >>> found = fallback({"schema": 1, "arms": {}}, examples=5000)
    >>> [(g["eta"], g["candidates"], round(g["epsilon"], 4)) for g in found["guarantees"]]
    [(0.01, 2, 0.0245), (0.05, 2, 0.0209)]
    """
    levels = len({level for arm, level in _grouped(document) if arm == _TICKET and level >= 1})
    guarantees = []
    for candidates in sorted({2, 1 + max(1, levels)}):
        for eta in etas:
            epsilon = hoeffding(examples, eta, candidates)
            guarantees.append({"eta": eta, "candidates": candidates, "epsilon": epsilon, "loss": min(1.0, 2 * epsilon)})
    costs = {
        count: ", ".join(
            f"{_points(g['loss'])} with probability {_percent(1 - g['eta'])}"
            for g in guarantees
            if g["candidates"] == count
        )
        for count in sorted({g["candidates"] for g in guarantees})
    }
    words = (
        f"Keeping the more accurate of a ticket and the dense network on {examples} validation examples loses against "
        f"dense at most {costs[2]}"
        + (f", and keeping the best of dense and {levels} levels at most {costs[1 + levels]}" if levels > 1 else "")
        + ", if the examples were used for nothing else, not even for early stopping."
    )
    return {"schema": 1, "examples": examples, "levels": levels, "guarantees": guarantees, "sentence": words}


def _grouped(document: Mapping[str, Any]) -> dict[tuple[str, int], list[Mapping[str, Any]]]:
    if document.get("schema") != 1 or not isinstance(document.get("arms"), Mapping):
        raise UsageError(
            f"not a results document of schema 1 (schema {document.get('schema')!r}); "
            "`tombola run --json FILE` writes one"
        )
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for arm, rows in document["arms"].items():
        for row in rows:
            if row.get("replicate") is None or row.get("level") is None:
                raise UsageError(f"results document: a row of arm {arm!r} has no replicate or level: {dict(row)}")
            groups.setdefault((arm, row["level"]), []).append(row)
    return groups


def _level(level: int, pairs: Pairs, density: float | None, margin: float, power: float) -> dict[str, Any]:
    found = judge(pairs, margin, power=power)
    others = [name for name in pairs.controls if name not in CONTROLS]
    return {
        "level": level,
        "density": density,
        "verdict": found.word,
        "accuracy": {**_compared(pairs.dense.values(), -margin), "margin": margin},
        "controls": {name: _compared(pairs.control(name).values()) for name in CONTROLS},
        "others": {name: _compared(pairs.control(name).values()) for name in others},
        "why": found.why,
        "needs": vars(found.needs) if found.needs else None,
    }


def _compared(differences: Iterable[float], bound: float = 0.0) -> dict[str, Any]:
    values = list(differences)
    found, flips = interval(values) if values else None, sign_flip(values, bound)
    return {
        "difference": found.mean if found else None,
        "low": found.low if found else None,
        "high": found.high if found else None,
        "p": greater(values, bound).p,
        "replicates": len(values),
        "permutation": {"p": flips.p, "smallest": flips.smallest, "exact": flips.exact},
    }


def _speed(arms: _Arms, level: int, steps: int | None) -> dict[str, Any]:
    pairs = paired_values(arms.at(_TICKET, level), arms.at(_TICKET, 0), "early_stop_step")
    found = vars(judge_speed(pairs, steps)).copy()
    return {"verdict": found.pop("word"), "replicates": found.pop("n"), **found}


def _overall(
    total: Overall, pairs: Mapping[int, Pairs], densities: Mapping[int, float], margin: float
) -> dict[str, Any]:
    passed = holds_down_to(list(pairs.values()), margin)
    held = list(pairs)[passed - 1] if passed else None
    left_out = {str(r): None if level is None else densities[level] for r, level in total.left_out.items()}
    range_ = [density for density in left_out.values() if density is not None] if total.level is not None else []
    return {
        "smallest_winning_density": None if total.level is None else densities[total.level],
        "low": min(range_, default=None),
        "high": max(range_, default=None),
        "level": total.level,
        "p": None if total.level is None else total.adjusted[total.level],
        "alpha": ALPHA,
        "tested": sum(p is not None for p in total.adjusted.values()),
        "left_out": left_out,
        "holds_down_to": None if held is None else densities.get(held),
        "holds_down_to_level": held,
    }


def _words(levels: Iterable[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for level in levels:
        counts[level["verdict"]] = counts.get(level["verdict"], 0) + 1
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))


def _range(found: Mapping[str, Any], n: int) -> str:
    """How the answer moves when any one replicate is left out."""
    if n - 1 < FEWEST:
        return "too few replicates to leave one out"
    gone = [int(replicate) for replicate, density in found["left_out"].items() if density is None]
    if found["low"] is None:
        return "none when any one replicate is left out"
    ends = sorted({_percent(found["low"]), _percent(found["high"])}, key=lambda text: float(text.split()[0]))
    words = f"{' to '.join(ends)} when any one replicate is left out"
    return f"{words}, none without {listed('replicate', gone)}" if gone else words


def _p(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _points(fraction: float) -> str:
    number = f"{100 * fraction:.3g}"
    return f"{number} point{'' if number == '1' else 's'}"
