"""Schedules: how many weights are left at each level, or along one training. Nothing here knows a score."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tombola.errors import UsageError
from tombola.importing import where
from tombola.registry import Entry

__all__ = [
    "SCHEDULES",
    "Cubic",
    "Custom",
    "Geometric",
    "Linear",
    "OneShot",
    "Schedule",
    "check_ladder",
    "counts_of",
    "cuts_of",
    "geometric",
    "levels_of",
    "step_down",
]


def step_down(counts: Mapping[str, int], rates: Mapping[str, float], share: float = 1.0) -> dict[str, int]:
    """One level: n -> n - round(share x rate x n) in every layer.

    >>> step_down({"hidden": 30000, "output": 1000}, {"hidden": 0.2, "output": 0.1})
    {'hidden': 24000, 'output': 900}
    """
    return {name: n - round(share * rates[name] * n) for name, n in counts.items()}


def geometric(counts: Mapping[str, int], rates: Mapping[str, float], levels: int) -> list[dict[str, int]]:
    """Weights left in each layer at the levels 1 to `levels` when a layer loses its rate of the survivors at each.

    n_{L+1} = n_L - round(rate x n_L), density about (1 - rate)^L (Frankle and Carbin 2019, arXiv 1803.03635).

    Args:
        counts: layer -> weights at level 0.
        rates: layer -> fraction of the surviving weights that goes at each level, in [0, 1).

    >>> [sum(c.values()) for c in geometric({"a": 1000, "b": 10}, {"a": 0.2, "b": 0.1}, 3)]
    [809, 648, 519]
    """
    ladder, now = [], dict(counts)
    for _ in range(levels):
        now = step_down(now, rates)
        ladder.append(now)
    return ladder


def check_ladder(start: Mapping[str, int], ladder: Sequence[Mapping[str, int]], *, named: bool = False) -> None:
    """Refuse a ladder with a level that empties a layer, removes nothing or brings weights back.

    Args:
        named: its densities were named (linear, custom, ...), so another rate would not cure it.

    Raises:
        UsageError: names the level, the layer, and how many levels are possible.
    """
    before = start
    for level, counts in enumerate(ladder, 1):
        fix = f"use --levels {level - 1} or fewer" if level > 1 else "use a smaller --rate"
        empty = [name for name, n in counts.items() if n < 1]
        if empty and named:
            fix = "name a higher density in the schedule"
        if empty:
            raise UsageError(f"Level {level} would empty {empty[0]!r} ({before[empty[0]]} left before it); {fix}.")
        left, had = sum(counts.values()), sum(before.values())
        if left > had:
            raise UsageError(f"Level {level} has {left:,} weights, above the {had:,} before it; densities must fall.")
        if left == had:
            fix = f"use --levels {level - 1} or fewer" if level > 1 else "use a larger --rate"
            if named:
                fix = "use fewer --levels, or densities further apart in the schedule"
            raise UsageError(f"At level {level} nothing is left to remove: all {left:,} weights stay; {fix}.")
        before = counts


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometric:
    """Every level removes `rate` of the survivors: density (1 - rate)^L.

    Frankle and Carbin (2019, arXiv 1803.03635).
    """

    rate: float = 0.2

    def __post_init__(self) -> None:
        _within("rate", self.rate, 0, 1)

    def __call__(self, level: int, levels: int) -> float:
        """Density at `level` of `levels`.

        >>> Geometric(rate=0.5)(2, 4)
        0.25
        """
        return (1 - self.rate) ** level


@dataclass(frozen=True, kw_only=True, slots=True)
class OneShot:
    """One level, down to `density` at once (Frankle and Carbin 2019, arXiv 1803.03635)."""

    density: float

    def __post_init__(self) -> None:
        _within("density", self.density, 0, 1)

    def levels(self, asked: int) -> int:
        """One, whatever was asked for."""
        return 1

    def __call__(self, level: int, levels: int) -> float:
        """Density at `level`.

        >>> OneShot(density=0.1)(1, 1)
        0.1
        """
        return self.density if level else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """Every level, or every cut of a training, removes as many weights: 1 - (1 - final) L / n.

    Args:
        final: density at the end, in (0, 1).
        every: training steps from cut to cut; 0: the cuts are levels.
        begin: training step from which on they are counted.
        end: training step that no cut lies beyond; 0: three quarters of the training.
    """

    final: float
    every: int = 0
    begin: int = 0
    end: int = 0

    def __post_init__(self) -> None:
        _within("final", self.final, 0, 1)
        _by_step(self.every, self.begin, self.end)

    def levels(self, asked: int) -> int:
        """As many as were asked for; one where the cuts are made in one training."""
        return 1 if self.every else asked

    def __call__(self, level: int, levels: int) -> float:
        """Density at `level` of `levels`, or after so many cuts of so many.

        >>> Linear(final=0.2)(1, 4)
        0.8
        """
        return self.final if level == levels else 1 - (1 - self.final) * level / levels  # the end is no rounding off


@dataclass(frozen=True, kw_only=True, slots=True)
class Cubic:
    """Fast first, slow at the end: density = final + (1 - final) (1 - L / n)^3, over levels or over training steps.

    Zhu and Gupta (2017, arXiv 1710.01878): s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3 after the steps t = t_0 +
    i dt, with s_i = 0, t_0 = begin and dt = every.

    Args:
        final: density at the end, in (0, 1).
        every: training steps from cut to cut; 0: the cuts are levels.
        begin: training step from which on they are counted.
        end: training step that no cut lies beyond; 0: three quarters of the training.
    """

    final: float
    every: int = 0
    begin: int = 0
    end: int = 0

    def __post_init__(self) -> None:
        _within("final", self.final, 0, 1)
        _by_step(self.every, self.begin, self.end)

    def levels(self, asked: int) -> int:
        """As many as were asked for; one where the cuts are made in one training."""
        return 1 if self.every else asked

    def __call__(self, level: int, levels: int) -> float:
        """Density at `level` of `levels`, or after so many cuts of so many.

        >>> round(Cubic(final=0.2)(1, 2), 6)
        0.3
        """
        return self.final + (1 - self.final) * (1 - level / levels) ** 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Custom:
    """The densities that you name, level by level, each below the one before."""

    densities: tuple[float, ...]

    def __post_init__(self) -> None:
        for before, density in itertools.pairwise((1.0, *self.densities)):
            _within("densities", density, 0, 1)
            if not density < before:
                raise UsageError(f"densities go from {before} to {density}; each must be below the one before.")
        if not self.densities:
            raise UsageError("densities is empty; expected fractions such as 0.5/0.2/0.1.")

    def levels(self, asked: int) -> int:
        """As many as there are densities."""
        return len(self.densities)

    def __call__(self, level: int, levels: int) -> float:
        """Density at `level`.

        >>> Custom(densities=(0.5, 0.1))(2, 2)
        0.1
        """
        return self.densities[level - 1] if level else 1.0


Schedule = Callable[[int, int], float]
"""(level, levels) -> density in (0, 1], 1 at level 0."""


def levels_of(schedule: Schedule, asked: int) -> int:
    """How many levels a schedule has: those asked for, unless it says itself.

    >>> levels_of(Geometric(), 5), levels_of(OneShot(density=0.1), 5)
    (5, 1)
    """
    own = getattr(schedule, "levels", None)
    return int(own(asked)) if own else asked


def counts_of(schedule: Schedule, total: int, levels: int) -> list[int]:
    """Weights left in all at the levels 1 to `levels`: round(density * total).

    Raises:
        UsageError: a schedule of one's own fails, or gives something that is no density.

    >>> counts_of(Linear(final=0.5), 10, 2)
    [8, 5]
    """
    found = []
    for level in range(1, levels + 1):
        try:
            density = schedule(level, levels)
        except Exception as error:  # whatever a schedule of one's own raises
            raise UsageError(f"The schedule failed at level {level} of {levels}: {where(error)}") from error
        number = isinstance(density, int | float) and not isinstance(density, bool)
        if not (number and 0 < density <= 1):
            raise UsageError(f"The schedule gives {density!r} at level {level}; expected a density above 0, at most 1.")
        found.append(round(density * total))
    return found


def cuts_of(schedule: Schedule, total: int, steps: int) -> tuple[tuple[int, int], ...]:
    """(step, weights left in all) of each cut of a training; none where the schedule goes by level.

    The cuts lie at begin + i every, i = 1, 2, ..., n; the last one, at or before the end, reaches the final density.
    One that would remove nothing is left out.

    Args:
        total: weights before the first cut.
        steps: of the training.

    Raises:
        UsageError: the training has no room for a cut.

    >>> cuts_of(Cubic(final=0.2, every=10), 1000, 40)
    ((10, 437), (20, 230), (30, 200))
    """
    every = int(getattr(schedule, "every", 0))
    if not every:
        return ()
    begin, end = int(getattr(schedule, "begin", 0)), int(getattr(schedule, "end", 0)) or 3 * steps // 4
    n = (end - begin) // every
    if not begin < end <= steps or n < 1:
        raise UsageError(
            f"The schedule prunes every {every:,} steps from {begin:,} to {end:,}, in a training of {steps:,}; "
            f"expected one cut or more, and none after its end. Change the schedule's every, begin and end."
        )
    found: list[tuple[int, int]] = []
    for cut in range(1, n + 1):
        keep = round(schedule(cut, n) * total)
        if keep < (found[-1][1] if found else total):
            found.append((begin + cut * every, keep))
    return tuple(found)


def _by_step(every: int, begin: int, end: int) -> None:
    for name, value in (("every", every), ("begin", begin), ("end", end)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UsageError(f"{name} is {value!r}; expected a whole number of training steps, 0 or more.")
    if (begin or end) and not every:
        raise UsageError("begin and end are steps of a training, and every is 0, which goes by level; set every.")
    if end and end - begin < every:
        raise UsageError(f"From {begin} to {end} there is no cut every {every} steps; expected end - begin >= every.")


def _within(name: str, value: object, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and low < value < high):  # type: ignore[operator]
        raise UsageError(f"{name} is {value!r}; expected a fraction above {low} and below {high}.")


_GUPTA = "Zhu and Gupta 2017, arXiv 1710.01878"
_FRANKLE = "Frankle and Carbin 2019, arXiv 1803.03635"

SCHEDULES: dict[str, Entry] = {
    "geometric": Entry(
        home="tombola.schedules:Geometric", summary="each level removes a fraction of the survivors", source=_FRANKLE
    ),
    "one-shot": Entry(
        home="tombola.schedules:OneShot", summary="one level, down to a density at once", source=_FRANKLE,
        aliases=("oneshot",),
    ),
    "linear": Entry(home="tombola.schedules:Linear", summary="each level or cut removes as many weights"),
    "cubic": Entry(
        home="tombola.schedules:Cubic", summary="fast first, slow at the end", source=_GUPTA, aliases=("zhu-gupta",)
    ),
    "custom": Entry(home="tombola.schedules:Custom", summary="the densities you name: custom:densities=0.5/0.2/0.1"),
}  # fmt: skip
"""What `--schedule` takes: how the density falls from level to level."""
