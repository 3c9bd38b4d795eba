"""The table of verdicts: what each level of a verdict says, in cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tombola.report.columns import per_cent

__all__ = ["JUDGED", "Judged"]

Level = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A column of the table of verdicts: its title, whether it holds numbers, and the text of its cell."""

    title: str
    number: bool
    cell: Callable[[Level], str]


def _compared(found: Mapping[str, Any] | None) -> str:
    """A difference of accuracies in points, with its interval, and p on the next line; '-' for none."""
    if not found or found.get("difference") is None:
        return "-"
    ends = "" if found.get("low") is None else f" [{100 * found['low']:+.2f}, {100 * found['high']:+.2f}]"
    return f"{100 * found['difference']:+.2f}{ends}{_p(found.get('p'))}"


def _speed(found: Mapping[str, Any]) -> str:
    """The verdict on speed, and on the next line the ratio of early-stop steps with its interval."""
    if found.get("ratio") is None:
        return str(found["verdict"])
    ends = "" if found.get("low") is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found['verdict']}\n{found['ratio']:.2f}{ends}"


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return "\np < 0.001" if p < 0.001 else f"\np = {p:.3f}"


def _density(level: Level) -> str:
    return "-" if level["density"] is None else per_cent(level["density"])


JUDGED: tuple[Judged, ...] = (
    Judged(title="level", number=True, cell=lambda level: str(level["level"])),
    Judged(title="weights %", number=True, cell=_density),
    Judged(
        title="verdict", number=False, cell=lambda level: level["verdict"] + (", strict" if level["strict"] else "")
    ),
    Judged(title="ticket - dense, points", number=True, cell=lambda level: _compared(level["accuracy"])),
    Judged(title="ticket - reinit", number=True, cell=lambda level: _compared(level["controls"].get("reinit"))),
    Judged(title="ticket - shuffled", number=True, cell=lambda level: _compared(level["controls"].get("shuffled"))),
    Judged(title="early-stop steps, ticket / dense", number=True, cell=lambda level: _speed(level["speed"])),
)
