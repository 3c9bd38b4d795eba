"""Progress of a study of stability: as that of a run, with a line for each network and step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tombola.analysis.stability import barrier
from tombola.answers import Answer, Interpolated
from tombola.commands.progress import Bars, Lines, clipped
from tombola.preview import Preview
from tombola.requests import Place
from tombola.runner import Failure
from tombola.search.stability import CHILD, PAIR
from tombola.stability.study import Seat

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["StabilityBars", "StabilityLines"]


class StabilityLines(Lines):
    """Plain lines.

    Args:
        seats: whose search each number of a `Place` is.
        fits: trainings in all.
        pairs: of children, of each seat.
    """

    names = ("stability", "network")

    def __init__(self, console: Console, seats: Sequence[Seat], fits: int, pairs: int) -> None:
        self._seats = seats
        names = dict.fromkeys((seat.arm, seat.level, seat.step) for seat in seats)
        self._groups = {name: number for number, name in enumerate(names, 1)}
        self._measured: dict[int, list[float]] = {}
        counts = Counter(self._groups[seat.arm, seat.level, seat.step] for seat in seats)
        levels = {group: pairs * count for group, count in counts.items()}
        super().__init__(console, Preview(fits=fits, stored=0, steps=0, evaluations=0, bytes=0, levels=levels))

    def group(self, place: Place) -> int:
        """A network and a step."""
        seat = self._seats[place.replicate]
        return self._groups[seat.arm, seat.level, seat.step]

    def counts(self, place: Place) -> bool:
        """Children; neither dense trainings, which are stored, nor dense children a second time."""
        return place.arm.name == CHILD

    def answered(self, place: Place, answer: Answer) -> None:
        """Say the mean barrier when it was the last pair of its network and step."""
        if isinstance(answer, Interpolated) and place.arm.name == PAIR:
            group = self.group(place)
            errors = [point.test_error for point in answer.recomputed or answer.own]
            self._measured.setdefault(group, []).append(barrier(errors))
            self._left[group] -= 1
            if self._left[group] == 0:
                found = self._measured[group]
                mean = 100 * sum(found) / len(found)
                self.say(f"{_named(self._seats[place.replicate])}: barrier on the test set {mean:.2f} %")
        super().answered(place, answer)

    def ended(self, failure: Failure) -> None:
        """Say which one ended early, unless the cause was said just before."""
        if not any(failure.cause.endswith(cause) for cause in self._causes):
            place = failure.place
            cause = failure.cause.removeprefix(f"replicate {place.replicate}, level {place.level}, ")
            self.say(f"{self.where(place)} ends: {clipped(cause)}")

    def where(self, place: Place) -> str:
        """A place in words."""
        seat = self._seats[place.replicate]
        return f"{_named(seat)}, replicate {seat.replicate}, {place.arm.name} {place.arm.draw}"


def _named(seat: Seat) -> str:
    level = f" of level {seat.level}" if seat.level else ""
    return f"{seat.arm}{level} from step {seat.step:,}"


class StabilityBars(StabilityLines, Bars):
    """Bars for the study, its networks and the running fits."""
