"""What is told about a search in a user's own loop: a line for each training, and what the ticket says of itself."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tombola.ranks import is_first
from tombola.statistics.verdicts import Pairs, judge

if TYPE_CHECKING:
    from tombola.asked import Asked
    from tombola.masks import Mask
    from tombola.tickets import Level

__all__ = ["metadata", "say", "verdict"]

_MARGIN = 0.01


def say(level: Level) -> None:
    """A line about one training, on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty() or not is_first():
        return
    from rich.console import Console

    arm = "dense" if level.level == 0 else level.arm
    metric = "" if level.metric is None else f"  {level.metric:.4g}"
    minutes, seconds = divmod(round(level.seconds), 60)
    line = f"level {level.level:2d}  density {100 * level.density:5.1f} %  {arm}{metric}  ({minutes}:{seconds:02d})"
    where = f"  replicate {level.replicate}" if level.replicate else ""
    Console(stderr=True).print(line + where, markup=False, highlight=False, soft_wrap=True)


def verdict(history: Sequence[Level], level: int) -> dict[str, Any] | None:
    """The word for a level and why, from paired differences over replicates; None without metrics or below level 1."""

    def metrics(arm: str, at: int) -> dict[int, float]:
        rows = [row for row in history if row.arm == arm and row.level == at]
        return {row.replicate: row.metric for row in rows if row.metric is not None}

    ours = metrics("ticket", level)
    if not level or not ours:
        return None

    def against(arm: str, at: int) -> dict[int, float]:
        others = metrics(arm, at)
        return {replicate: ours[replicate] - others[replicate] for replicate in ours.keys() & others.keys()}

    controls = {arm: found for arm in ("reinit", "shuffled") if (found := against(arm, level))}
    said = judge(Pairs(dense=against("ticket", 0), controls=controls), _MARGIN)
    return {"word": said.word, "why": said.why, "margin": _MARGIN, "replicates": len(ours)}


def metadata(asked: Asked, mask: Mask, start: str, history: Sequence[Level], level: int) -> dict[str, Any]:
    """What a ticket says of itself, as JSON.

    Args:
        start: digest of the weights before the first training.
        level: of the ticket.
    """
    import torch

    from tombola import __version__

    named = {f.name: getattr(asked, f.name) for f in fields(asked)}
    for name, value in named.items():
        if callable(value):
            named[name] = getattr(value, "__name__", type(value).__name__)
    densities = {name: mask.kept[name] / max(1, mask[name].numel()) for name in mask}
    return {
        "found_by": "tombola.find_ticket",
        "settings": {**named, "controls": list(asked.controls)},
        "level": level,
        "start": start,
        "densities": densities,
        "verdict": verdict(history, level),
        "versions": {"tombola": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
    }
