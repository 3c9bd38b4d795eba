"""What a pattern is worth: boundaries between cells, how still they stand, and what else can be read off."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.errors import UsageError

__all__ = ["Readings", "Reward", "Scoring", "checked_samples", "fitness", "jumps", "plain", "read", "strict"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """The constants of reading and rewarding a pattern.

    Args:
        boundary: a step between neighbouring cells above this is a boundary.
        spacing: cells that a boundary must lie behind the one before it, 1 or more.
        still: a cell is still between two samples where it changes by at most this.
        power: of the share of still cells, 0 or more.
        least: with at most so many boundaries, summed over the three times, the plain reward is 0.
        faint: with a contrast below this the strict reward is 0.
        slope, rough: what the fitness adds for each unit of variation, and up to how many units.

    Source: the first five are of "GFlowNet for Genetic Circuits Design" (Huang, 2025), the others ours.
    """

    boundary: float = 0.1
    spacing: int = 4
    still: float = 0.02
    power: int = 5
    least: int = 2
    faint: float = 0.3
    slope: float = 0.02
    rough: float = 20.0

    def __post_init__(self) -> None:
        for name, least in (("spacing", 1), ("power", 0), ("least", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(f"{name} is {value!r}; expected a whole number, {least} or more.")
        for name in ("boundary", "still", "faint", "slope", "rough"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise UsageError(f"{name} is {value!r}; expected a finite number, 0 or more.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """What is read off the traces of n networks.

    Args:
        boundaries: n x 3 counts, at the middle, after three quarters and at the end of the time.
        stability: n, within 0 to 1: the share of still pairs of cell and step in the second half of the time.
        contrast: n: largest less smallest value of a cell at the end.
        variation: n: sum of the absolute steps between neighbouring cells at the end.
        regularity: n: standard deviation / mean of the lengths of segments at the end, where a segment is a stripe and
            the gap beside it: from each boundary to the second one behind it; NaN below two segments.
    """

    boundaries: Tensor
    stability: Tensor
    contrast: Tensor
    variation: Tensor
    regularity: Tensor


Reward = Callable[[Readings, Scoring], Tensor]
"""n float64 numbers, larger is better; of readings."""


def checked_samples(samples: int) -> tuple[int, int, int]:
    """Where boundaries are counted, among that many samples.

    >>> checked_samples(200)
    (100, 149, 199)
    """
    return samples // 2, (samples // 2 + samples - 1) // 2, samples - 1


def jumps(profile: Tensor, scoring: Scoring) -> Tensor:
    """Cells behind which there is a boundary: |x(p + 1) - x(p)| > boundary, `spacing` behind the one before it.

    Args:
        profile: ... x cells.
        scoring: the constants.

    Returns:
        ... x k: the cells in order; `cells` in the place of those that there are fewer than in others.

    >>> jumps(torch.tensor([0.0, 0.5, 1.0, 1.0, 1.0, 0.0]), Scoring()).tolist()
    [0, 4]
    """
    cells = profile.shape[-1]
    there = profile.diff(dim=-1).abs() > scoring.boundary
    place = torch.where(there, torch.arange(cells - 1), cells)
    following = place.flip(-1).cummin(-1).values.flip(-1)  # the first boundary at a cell or behind it
    following = torch.nn.functional.pad(following, (0, scoring.spacing + 1), value=cells)
    found, at = list[Tensor](), following[..., :1]
    while bool((at < cells).any()):
        found.append(at)
        at = following.gather(-1, (at + scoring.spacing).clamp_max(following.shape[-1] - 1))
    return torch.cat(found, -1) if found else at[..., :0]


def read(traces: Tensor, scoring: Scoring | None = None) -> Readings:
    """Read off the traces of one gene; a trace that is not finite is nowhere still, and flat.

    Args:
        traces: n x samples x cells.
        scoring: the constants; None: `Scoring()`.

    Returns:
        One number, or three, for each of the n.

    >>> steps = (torch.arange(100) // 10 % 2).double().expand(1, 200, 100)
    >>> found = read(steps)
    >>> found.boundaries.tolist(), found.stability.item(), found.contrast.item(), found.regularity.item()
    ([[9, 9, 9]], 1.0, 1.0, 0.0)
    """
    given, samples = scoring or Scoring(), traces.shape[1]
    half, _, last = times = checked_samples(samples)
    finite = traces.sum((1, 2)).isfinite()
    if not bool(finite.all()):
        traces = torch.where(finite[:, None, None], traces, 0.0)
    late, end = traces[:, half:], traces[:, last].double()
    still = (late.diff(dim=1).abs_() <= given.still).sum((1, 2)).double() / (late.shape[2] * (samples - 1 - half))
    places = jumps(traces[:, times, :], given)
    return Readings(
        boundaries=(places < traces.shape[2]).sum(-1),
        stability=torch.where(finite, still, 0.0),
        contrast=end.amax(1) - end.amin(1),
        variation=end.diff(dim=1).abs().sum(1),
        regularity=_regularity(places[:, 2], traces.shape[2]),
    )


def _regularity(places: Tensor, cells: int) -> Tensor:
    lengths, there = (places[:, 2:] - places[:, :-2]).double(), places[:, 2:] < cells
    count = there.sum(1).double()
    mean = torch.where(there, lengths, 0.0).sum(1) / count
    spread = torch.where(there, (lengths - mean[:, None]) ** 2, 0.0).sum(1) / count
    return torch.where(count >= 2, spread.sqrt() / mean, torch.nan)


def _standing(readings: Readings, scoring: Scoring) -> Tensor:
    """S^power, multiplied out: torch's own power gives other last bits at other places of a batch."""
    found = torch.ones_like(readings.stability)
    for _ in range(scoring.power):
        found = found * readings.stability
    return found


def plain(readings: Readings, scoring: Scoring | None = None) -> Tensor:
    """The source's reward without its sparsity term: R = B S^power, 0 where B <= least; B is summed over the times.

    Returns:
        n float64 numbers, 0 or more.
    """
    given = scoring or Scoring()
    total = readings.boundaries.sum(1)
    return torch.where(total > given.least, total * _standing(readings, given), 0.0)


def strict(readings: Readings, scoring: Scoring | None = None) -> Tensor:
    """Ours: 3 min(B at the three times) S^power, 0 where the contrast at the end is below `faint`.

    Stripes that fade or move, which the plain reward pays for, are worth little.

    Returns:
        n float64 numbers, 0 or more.
    """
    given = scoring or Scoring()
    lasting = 3 * readings.boundaries.amin(1) * _standing(readings, given)
    return torch.where(readings.contrast >= given.faint, lasting, 0.0)


def fitness(readings: Readings, scoring: Scoring | None = None, *, reward: Reward | None = None) -> Tensor:
    """Ours, for searches: the reward + slope min(variation, rough) S^power, which has a slope where the reward is 0.

    Args:
        readings, scoring: as for the rewards.
        reward: None: `plain`.

    Returns:
        n float64 numbers, 0 or more.
    """
    given = scoring or Scoring()
    extra = given.slope * readings.variation.clamp_max(given.rough) * _standing(readings, given)
    return (reward or plain)(readings, given) + extra
