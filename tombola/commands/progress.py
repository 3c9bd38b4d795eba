"""Progress of a run: bars on a terminal, lines elsewhere, and a line for each finished level."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tombola.analysis.document import PLAYED
from tombola.answers import Answer, Trained
from tombola.executors.base import Job
from tombola.preview import Preview
from tombola.requests import Fit, Place
from tombola.runner import Failure

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

__all__ = ["Bars", "Lines", "clipped"]

_CAUSE = 300  # characters


def clipped(cause: str) -> str:
    """A cause without its middle, where a user's network has raised a page of text."""
    return cause if len(cause) <= _CAUSE else f"{cause[: _CAUSE - 80]} [...] {cause[-70:]}"


class Lines:
    """Plain lines: one for each finished level, one for each cause of failure.

    Args:
        console: where they go.
        expected: what the experiment consists of.
    """

    def __init__(self, console: Console, expected: Preview) -> None:
        self.console, self.expected = console, expected
        self._left = dict(expected.levels)
        self._answers: dict[int, dict[str, list[Trained]]] = {}
        self._begun = time.monotonic()
        self._causes: set[str] = set()
        self.answered_fits = 0

    def planned(self, place: Place, job: Job, stored: bool) -> None:
        """Nothing to say."""

    def started(self, job: Job) -> None:
        """Nothing to say."""

    def progress(self, request: str, step: int) -> None:
        """Nothing to say."""

    def answered(self, place: Place, answer: Answer) -> None:
        """Say so when it was the last one of its level."""
        if not isinstance(answer, Trained):
            return
        self.answered_fits += self.counts(place)
        if place.arm.name not in PLAYED:
            return
        group = self.group(place)
        self._answers.setdefault(group, {}).setdefault(place.arm.name, []).append(answer)
        self._left[group] = self._left.get(group, 0) - 1
        if self._left[group] == 0:
            self.say(self.line(group, self._answers.pop(group), time.monotonic() - self._begun))

    def failed(self, failure: Failure) -> None:
        """Say what failed, and why; the end of the run counts how often."""
        if failure.cause not in self._causes:
            self._causes.add(failure.cause)
            self.say(f"failed: {self.where(failure.place)}: {clipped(failure.cause)}")

    def ended(self, failure: Failure) -> None:
        """Say which replicate ended early, unless the cause was said just before."""
        if not any(failure.cause.endswith(cause) for cause in self._causes):
            place = failure.place
            cause = failure.cause.removeprefix(f"replicate {place.replicate}, level {place.level}, ")
            self.say(f"replicate {place.replicate} ends at level {place.level}: {clipped(cause)}")

    def counts(self, place: Place) -> bool:
        """Whether a training is one of those expected; what several ask for may be expected once."""
        return True

    def group(self, place: Place) -> int:
        """What a line is said of, once all of it is answered: a level."""
        return place.level

    def line(self, group: int, arms: Mapping[str, list[Trained]], seconds: float) -> str:
        """What is said of it."""
        return _level_line(group, arms, seconds)

    def where(self, place: Place) -> str:
        """A place in words."""
        return f"replicate {place.replicate}, level {place.level}, {place.arm.name}"

    def say(self, line: str) -> None:
        """Print one line."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _level_line(level: int, arms: Mapping[str, list[Trained]], seconds: float) -> str:
    some = next(iter(arms.values()))
    density = sum(sum(a.kept.values()) / a.prunable for a in some) / len(some)
    parts = []
    for name, answers in sorted(arms.items(), key=lambda arm: PLAYED.index(arm[0])):
        stops = [a.curve.judged for a in answers if a.diverged_at is None]
        values = [p.test_metric for p in stops if p is not None and p.test_metric is not None]
        word = "dense" if level == 0 else name
        if not values:
            parts.append(f"{word} diverged")
        elif some[0].metric == "accuracy":
            parts.append(f"{word} {100 * sum(values) / len(values):.1f} %")
        else:
            parts.append(f"{word} {sum(values) / len(values):.4g}")
    minutes, rest = divmod(round(seconds), 60)
    return f"level {level:2d}  density {100 * density:5.1f} %  {'  '.join(parts)}  ({minutes}:{rest:02d})"


class Bars(Lines):
    """Bars for the experiment, its levels and the running fits, with steps per second and time left."""

    names = ("experiment", "level")

    def __init__(self, console: Console, expected: Preview) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(console, expected)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
        )
        self._bars: Progress = Progress(*columns, console=console, transient=True, refresh_per_second=4)
        self._whole = self._bars.add_task(self.names[0], total=expected.fits, unit="fits", speed="")
        name, total = self.names[1], max(expected.levels, default=0)
        self._level = self._bars.add_task(name, total=total, unit=f"{name}s", speed="")
        self._places: dict[str, Place] = {}
        self._fits: dict[str, tuple[TaskID, int, float]] = {}
        self._bars.start()

    def planned(self, place: Place, job: Job, stored: bool) -> None:
        """Remember whose request it is."""
        self._places.setdefault(job.digest, place)

    def started(self, job: Job) -> None:
        """Show a bar for a fit."""
        if not isinstance(job.request, Fit):
            return
        name, fit = f"  {self.where(self._places[job.digest])}", job.request
        self._drop(job.digest)  # it may have been put aside before
        bar = self._bars.add_task(name, total=fit.last - fit.first, unit="steps", speed="")
        self._fits[job.digest] = (bar, fit.first, time.monotonic())

    def progress(self, request: str, step: int) -> None:
        """Move the bar of a fit."""
        if request not in self._fits:
            return
        bar, first, begun = self._fits[request]
        seconds = max(1e-3, time.monotonic() - begun)
        self._bars.update(bar, completed=step - first, speed=f"{(step - first) / seconds:,.0f} steps/s")

    def answered(self, place: Place, answer: Answer) -> None:
        """Take away the bar of the fit, and move the others."""
        self._drop(answer.request)
        super().answered(place, answer)
        self._bars.update(self._whole, completed=self.answered_fits)
        done = sum(left == 0 for level, left in self._left.items() if level)
        self._bars.update(self._level, completed=done)

    def failed(self, failure: Failure) -> None:
        """Say what failed."""
        for request, place in self._places.items():
            if place == failure.place:
                self._drop(request)
        super().failed(failure)

    def close(self) -> None:
        """Take the bars off the screen."""
        self._bars.stop()

    def _drop(self, request: str) -> None:
        if request in self._fits:
            self._bars.remove_task(self._fits.pop(request)[0])
