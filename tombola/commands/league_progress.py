"""Progress of a league: as that of a run, with a line for each experiment of a competitor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tombola.answers import Trained
from tombola.commands.progress import Bars, Lines, clipped
from tombola.league.running import Seat
from tombola.preview import Preview
from tombola.requests import Place
from tombola.runner import Failure

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["LeagueBars", "LeagueLines"]


class LeagueLines(Lines):
    """Plain lines.

    Args:
        seats: whose search each number of a `Place` is.
        reported: experiment -> trainings that are reported.
    """

    names = ("league", "experiment")

    def __init__(self, console: Console, seats: Sequence[Seat], reported: Mapping[str, int]) -> None:
        self._seats, self._numbers = seats, {name: number for number, name in enumerate(reported, 1)}
        levels = {self._numbers[name]: count for name, count in reported.items()}
        nothing = {"stored": 0, "steps": 0, "evaluations": 0, "bytes": 0}
        super().__init__(console, Preview(fits=sum(levels.values()), levels=levels, **nothing))

    def group(self, place: Place) -> int:
        """An experiment."""
        return self._numbers[self._seats[place.replicate].experiment]

    def line(self, group: int, arms: Mapping[str, list[Trained]], seconds: float) -> str:
        """Its mean accuracy at each density, dense first."""
        label = next(seat.label for seat in self._seats if self._numbers[seat.experiment] == group)
        name = next((arm for arm in ("untrained", "ticket") if arm in arms), "")
        found: dict[int, list[float]] = {}
        for answer in arms.get(name, ()):
            judged = answer.curve.judged if answer.diverged_at is None else None
            if judged is not None and judged.test_metric is not None:
                found.setdefault(sum(answer.kept.values()), []).append(judged.test_metric)
        means = "  ".join(f"{100 * sum(found[kept]) / len(found[kept]):.1f}" for kept in sorted(found, reverse=True))
        minutes, rest = divmod(round(seconds), 60)
        return f"{label}: {means} %  ({minutes}:{rest:02d})"

    def ended(self, failure: Failure) -> None:
        """Say whose replicate ended early, unless the cause was said just before."""
        if not any(failure.cause.endswith(cause) for cause in self._causes):
            place, seat = failure.place, self._seats[failure.place.replicate]
            cause = failure.cause.removeprefix(f"replicate {place.replicate}, level {place.level}, ")
            self.say(f"{seat.label}, replicate {seat.replicate} ends at level {place.level}: {clipped(cause)}")

    def where(self, place: Place) -> str:
        """A place in words, with its competitor."""
        seat = self._seats[place.replicate]
        return f"{seat.label}, replicate {seat.replicate}, level {place.level}, {place.arm.name}"


class LeagueBars(LeagueLines, Bars):
    """Bars for the league, its experiments and the running fits."""
