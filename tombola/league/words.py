"""A league document in words: cells, marks, and what can be said of a division in a few sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["HOW", "accuracy", "difference", "facts", "how", "marks", "per_cent"]

_FEW = 8  # names in a sentence

HOW = (
    "Mean ± half of the 95 % t interval over replicates. {tick} better, {cross} worse: one-sided paired t test on the "
    "same seeds, at 5 % after Holm's adjustment over the competitors of the division at that density; {open} neither "
    "is shown, = itself. Ranked by the mean over densities; who lacks a density comes last."
)
"""How to read the tables."""

Part = Mapping[str, Any]


def how(*, ascii_only: bool = False) -> str:
    """How to read the tables, with the marks in use."""
    tick, cross, open_ = _signs(ascii_only=ascii_only)
    text = HOW.format(tick=tick, cross=cross, open=open_)
    return text.replace("±", "+-") if ascii_only else text


def per_cent(density: float) -> str:
    """A density that somebody has chosen.

    >>> per_cent(0.2), per_cent(0.005)
    ('20 %', '0.5 %')
    """
    return f"{100 * density:.4g} %"


def accuracy(found: Part | None, *, half: bool = True) -> str:
    """An accuracy in per cent.

    >>> accuracy({"mean": 0.9612, "low": 0.9581, "high": 0.9643, "replicates": 5})
    '96.12 ± 0.31'
    """
    if found is None:
        return "–"
    width = half and found["low"] is not None
    return f"{100 * found['mean']:.2f}" + (f" ± {50 * (found['high'] - found['low']):.2f}" if width else "")


def difference(found: Part, *, half: bool = True) -> str:
    """A difference in points, with its sign."""
    if found["difference"] is None:
        return "–"
    width = half and found["low"] is not None
    return f"{100 * found['difference']:+.2f}" + (f" ± {50 * (found['high'] - found['low']):.2f}" if width else "")


def _signs(*, ascii_only: bool) -> tuple[str, str, str]:
    return ("+", "-", ".") if ascii_only else ("✓", "✗", "·")


def marks(found: Iterable[Part], *, ascii_only: bool = False) -> str:
    """A tick, a cross or a dot for each comparison; a space where there was none.

    >>> marks([{"difference": 0.1, "better": True, "worse": False}, {"difference": None}])
    '✓ '
    """
    tick, cross, open_ = _signs(ascii_only=ascii_only)
    return "".join(_mark(one, tick, cross, open_) for one in found)


def _mark(found: Part, tick: str, cross: str, open_: str) -> str:
    if found["difference"] is None:
        return " "
    return tick if found["better"] else cross if found["worse"] else open_


def facts(division: Part, margin: float) -> list[str]:
    """What the tables of a division show, in sentences."""
    ranked = [one for one in division["competitors"] if one["mean"] is not None]
    found = []
    if ranked:
        first = ", ".join(f"{one['name']} {100 * one['mean']:.2f}" for one in ranked[:3])
        lead = f"First by mean accuracy (%), of {len(division['competitors'])}: {first}."
        dense = division["dense"]
        found.append(lead + (f" The dense network: {accuracy(dense)}." if dense else ""))
    found += _beside(division, "against", "than")
    found += _beside(division, "controls", "than their own")
    if division["harmless"]:
        parts = [f"{per_cent(one['density'])}: {_size(one['c'])}" for one in division["harmless"]]
        found.append(
            f"Noise of c standard deviations on the initial weights costs less than the margin ({100 * margin:g} % of "
            f"accuracy) up to this c (one-sided 95 % bound, sizes tested upwards): {'; '.join(parts)}."
        )
    return found


def _size(c: float | None) -> str:
    return "not shown for any" if c is None else f"{c:g}"


def _beside(division: Part, kind: str, words: str) -> list[str]:
    """Who is shown to be better, and who worse, than each opponent with whom anybody was compared."""
    first: Mapping[str, Any] = next((one["scores"][0][kind] for one in division["competitors"]), {})
    found = []
    for opponent in first:
        ways: dict[str, dict[str, list[float]]] = {"better": {}, "worse": {}}
        compared = False
        for one in division["competitors"]:
            scores = [(score["density"], score[kind][opponent]) for score in one["scores"]]
            compared |= any(part["difference"] is not None for _, part in scores)
            for way, names in ways.items():
                where = [density for density, part in scores if part[way]]
                if where:
                    names[one["name"]] = where
        better, worse = (_listed(names, len(division["competitors"][0]["scores"])) for names in ways.values())
        if compared:
            found.append(f"Shown to be better {words} {opponent}: {better}; worse: {worse}.")
    return found


def _listed(names: Mapping[str, Sequence[float]], densities: int) -> str:
    if not names:
        return "none"
    if len(names) > _FEW:
        every = sum(len(where) == densities for where in names.values())
        return f"{len(names)}, {every} of them at every density"
    words = (
        name if len(where) == densities else f"{name} ({', '.join(map(per_cent, where))})"
        for name, where in names.items()
    )
    return ", ".join(words)
