"""Standings: accuracies, paired differences, ticks and ranks of a league, as one plain document.

At each density, for each competitor: the mean over replicates with its 95 % t interval; and against each rival, and
each control of its own, the paired difference (the same seeds) with its 95 % t interval and two one-sided paired t
tests. p values of one direction, one opponent and one density are adjusted over the competitors of the division by
Holm's method; a tick (better) or cross (worse) stands where the adjusted p is at most 5 %. It is the t test and not the
exact sign-flip test, for with n replicates that has no p below 2^-n: with five, 1/32 before any adjustment, so nothing
could ever be shown against two competitors or more. The price is that differences are taken as normal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from tombola.analysis.verdict import ENDPOINTS
from tombola.league.divisions import Division
from tombola.league.entries import Terms
from tombola.league.harmless import harmless
from tombola.league.running import Played
from tombola.statistics import greater, holm, interval, less, paired_differences, replicate_means
from tombola.statistics.verdicts import ALPHA, FEWEST

__all__ = ["Contestant", "contestants", "division_document", "league_document"]

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """One row of a division: a competitor and the rows of its results documents, whichever entry they come from.

    Args:
        notes: what failed, and why it is not what its division asks for.
        experiments: digests of its entries.
    """

    name: str
    arms: Mapping[str, Rows] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()

    def at(self, arm: str, level: int) -> Rows:
        """The rows of an arm at a level."""
        return [row for row in self.arms.get(arm, ()) if row["level"] == level]


def contestants(division: Division, played: Sequence[Played]) -> list[Contestant]:
    """The rows of a division, in order of its entries; those of one competitor become one row."""
    own = [one for one in played if one.entry.division == division.name]
    names = list(dict.fromkeys(one.entry.competitor for one in own))
    found = []
    for name, group in groupby(sorted(own, key=lambda one: names.index(one.entry.competitor)), _name):
        entries = list(group)
        arms: dict[str, dict[tuple[int, int, int], Mapping[str, Any]]] = {}
        for one in entries:
            for arm, rows in (one.document or {"arms": {}})["arms"].items():
                arms.setdefault(arm, {}).update({(r["level"], r["replicate"], r["draw"]): r for r in rows})
        notes = dict.fromkeys(note for one in entries for note in (one.entry.note, *one.causes) if note)
        experiments = dict.fromkeys(one.experiment for one in entries if one.experiment)
        plain = {arm: [rows[place] for place in sorted(rows)] for arm, rows in arms.items()}
        found.append(Contestant(name=name, arms=plain, notes=tuple(notes), experiments=tuple(experiments)))
    return found


def _name(one: Played) -> str:
    return one.entry.competitor


def league_document(terms: Terms, divisions: Sequence[Division], played: Sequence[Played]) -> dict[str, Any]:
    """All numbers of a league, as `tombola league --json` writes them (schema 1). Accuracies are fractions."""
    recipe = terms.recipe
    return {
        "schema": 1,
        "recipe": recipe.name,
        "data": recipe.data,
        "model": recipe.model,
        "steps": recipe.steps,
        "densities": list(terms.densities),
        "replicates": terms.replicates,
        "seed": recipe.seed,
        "endpoint": recipe.endpoint,
        "margin": recipe.margin,
        "divisions": [division_document(division, contestants(division, played), terms) for division in divisions],
    }


def division_document(division: Division, rows: Sequence[Contestant], terms: Terms) -> dict[str, Any]:
    """The standings of one division: its competitors by rank.

    Ranked by the mean over densities of the accuracy; who lacks a density comes after all who lack fewer.

    Returns:
        {"name", "title", "arm", "rivals", "controls", "dense", "competitors": [{"name", "rank", "mean", "notes",
        "experiments", "scores": [{"density", "accuracy", "against": {RIVAL: ...}, "controls": {CONTROL: ...}}]}]},
        and "harmless" where noise on the start is tried. Differences are competitor - rival, and ticket - control.
    """
    field_ = ENDPOINTS[terms.recipe.endpoint]
    controls = [name for name in division.controls if name != division.arm]
    opponents = {rival: next((row for row in rows if row.name == rival), None) for rival in division.rivals}
    scores: dict[str, list[dict[str, Any]]] = {row.name: [] for row in rows}
    for level, density in enumerate(terms.densities, 1):
        against = {
            name: _compared([_against(row, other, division.arm, level, field_) for row in rows])
            for name, other in opponents.items()
        }
        beside = {
            name: _compared([_pairs(row.at(division.arm, level), row.at(name, level), field_) for row in rows])
            for name in controls
        }
        for place, row in enumerate(rows):
            own = {name: {"accuracy": _accuracy(row.at(name, level), field_), **beside[name][place]} for name in beside}
            scores[row.name].append(
                {
                    "density": density,
                    "accuracy": _accuracy(row.at(division.arm, level), field_),
                    "against": {name: against[name][place] for name in against},
                    "controls": own,
                }
            )
    ranked = sorted(rows, key=lambda row: _standing(scores[row.name]))
    return {
        "name": division.name,
        "title": division.title,
        "arm": division.arm,
        "rivals": list(division.rivals),
        "controls": controls,
        "dense": _dense(rows, field_),
        "competitors": [
            {
                "name": row.name,
                "rank": rank if _known(scores[row.name]) else None,
                "mean": _mean(scores[row.name]),
                "notes": list(row.notes),
                "experiments": list(row.experiments),
                "scores": scores[row.name],
            }
            for rank, row in enumerate(ranked, 1)
        ],
        "harmless": harmless(rows, terms, field_),
    }


def _dense(rows: Sequence[Contestant], field_: str) -> dict[str, Any] | None:
    """The dense network, which all have in common (some with other sums gathered, and the same numbers)."""
    return next((found for row in rows if (found := _accuracy(row.at("ticket", 0), field_))), None)


def _accuracy(rows: Rows, field_: str) -> dict[str, Any] | None:
    values = list(replicate_means(rows, field_).values())
    if not values:
        return None
    found = interval(values)
    return {"mean": found.mean, "low": found.low, "high": found.high, "replicates": found.n}


def _pairs(own: Rows, other: Rows, field_: str) -> list[float] | None:
    return list(paired_differences(own, other, field_).values()) or None


def _against(row: Contestant, rival: Contestant | None, arm: str, level: int, field_: str) -> list[float] | None:
    if rival is None or rival is row:
        return None
    return _pairs(row.at(arm, level), rival.at(arm, level), field_)


def _compared(differences: Sequence[list[float] | None]) -> list[dict[str, Any]]:
    """Each competitor's differences from one opponent at one density, tested and adjusted over the competitors."""
    tested = [found if found is not None and len(found) >= FEWEST else None for found in differences]
    better = holm([None if found is None else greater(found).p for found in tested])
    worse = holm([None if found is None else less(found).p for found in tested])
    return [
        {**_difference(found), "p_better": up, "p_worse": down, "better": _shown(up), "worse": _shown(down)}
        for found, up, down in zip(differences, better, worse, strict=True)
    ]


def _difference(values: list[float] | None) -> dict[str, Any]:
    if values is None:
        return {"difference": None, "low": None, "high": None, "replicates": 0}
    found = interval(values)
    return {"difference": found.mean, "low": found.low, "high": found.high, "replicates": found.n}


def _shown(p: float | None) -> bool:
    return p is not None and p <= ALPHA


def _known(scores: Sequence[Mapping[str, Any]]) -> list[float]:
    return [score["accuracy"]["mean"] for score in scores if score["accuracy"] is not None]


def _mean(scores: Sequence[Mapping[str, Any]]) -> float | None:
    """Over the densities; None where one is missing, for what is missing would be the hardest."""
    known = _known(scores)
    return sum(known) / len(known) if known and len(known) == len(scores) else None


def _standing(scores: Sequence[Mapping[str, Any]]) -> tuple[int, float]:
    known = _known(scores)
    return -len(known), -sum(known) / len(known) if known else 0.0
