"""What an experiment lacks, in sentences: arms, levels, replicates, fits that diverged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tombola.statistics.verdicts import CONTROLS, FEWEST

__all__ = ["listed", "missing"]

Rows = Sequence[Mapping[str, Any]]


def missing(rows: Mapping[tuple[str, int], Rows], field: str, steps: int | None) -> list[str]:
    """One sentence for each kind of thing that the rows of (arm, level) lack; empty where all is there.

    `field` is the compared one, `steps` the last step of every training.

    >>> missing({("ticket", 1): []}, "test_accuracy", 100)[0]
    'The dense network (arm ticket, level 0) is missing: nothing can be judged.'
    """
    return [
        *_arms(rows),
        *_levels(rows),
        *_replicates(rows),
        *_diverged(rows),
        *_empty(rows, field),
        *_steps(rows, steps),
    ]


def _arms(rows: Mapping[tuple[str, int], Rows]) -> Iterable[str]:
    there = {arm for arm, level in rows if level >= 1}
    if ("ticket", 0) not in rows:
        yield "The dense network (arm ticket, level 0) is missing: nothing can be judged."
    if "ticket" not in there:
        yield "No ticket was trained: levels from 1 are missing."
    for arm in CONTROLS:
        if arm not in there:
            yield f"Arm {arm} was not run: no level can be winning."


def _levels(rows: Mapping[tuple[str, int], Rows]) -> Iterable[str]:
    levels = {level for arm, level in rows if level >= 1 and arm in ("ticket", *CONTROLS)}
    for arm in ("ticket", *CONTROLS):
        have = {level for name, level in rows if name == arm and level >= 1}
        lost = set(range(1, max(levels, default=0) + 1)) - have
        if have and lost:
            yield f"Arm {arm} lacks {listed('level', lost)}."


def _replicates(rows: Mapping[tuple[str, int], Rows]) -> Iterable[str]:
    have = {
        place: {row["replicate"] for row in found}
        for place, found in rows.items()
        if place[0] in CONTROLS or place[0] == "ticket"
    }
    known: set[int] = set().union(*have.values())
    lost: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for (arm, level), found in have.items():
        if known - found:
            lost.setdefault((arm, tuple(sorted(known - found))), []).append(level)
    for (arm, replicates), levels in lost.items():
        yield f"Arm {arm} lacks {listed('replicate', replicates)} at {listed('level', levels)}."
    if 0 < len(known) < FEWEST:
        yield f"Fewer than {FEWEST} replicates cannot judge: there {'is' if len(known) == 1 else 'are'} {len(known)}."


def _diverged(rows: Mapping[tuple[str, int], Rows]) -> Iterable[str]:
    for arm in dict.fromkeys(arm for arm, _ in rows):
        fits = [(level, row) for (name, level), found in rows.items() if name == arm for row in found]
        bad = [(level, row["replicate"]) for level, row in fits if row.get("diverged")]
        if bad:
            places = f"{listed('replicate', {r for _, r in bad})} at {listed('level', {level for level, _ in bad})}"
            yield f"Arm {arm}: {len(bad)} of {len(fits)} fits diverged ({places}) and are left out of the tests."


def _empty(rows: Mapping[tuple[str, int], Rows], field: str) -> Iterable[str]:
    for arm in dict.fromkeys(arm for arm, _ in rows):
        fits = [(level, row) for (name, level), found in rows.items() if name == arm for row in found]
        bad = [level for level, row in fits if not row.get("diverged") and not _finite(row.get(field))]
        if bad:
            yield f"Arm {arm}: {len(bad)} of {len(fits)} fits have no finite {field} ({listed('level', set(bad))})."


def _steps(rows: Mapping[tuple[str, int], Rows], steps: int | None) -> Iterable[str]:
    if steps is None:
        yield "The number of training steps is not given, so no early-stop step can be recognised as censored."
        return
    beyond = {arm for (arm, _), found in rows.items() for row in found if (row.get("early_stop_step") or 0) > steps}
    if beyond:
        yield f"Early-stop steps of {', '.join(sorted(beyond))} lie beyond step {steps}: arms of different length."


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def listed(word: str, numbers: Iterable[int]) -> str:
    """The numbers behind the word, in order, runs of them as ranges.

    >>> listed("level", [3, 1, 2, 7]), listed("level", [4])
    ('levels 1-3, 7', 'level 4')
    """
    ordered = sorted(set(numbers))
    runs: list[list[int]] = []
    for number in ordered:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    text = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"{word if len(ordered) == 1 else word + 's'} {text}"
