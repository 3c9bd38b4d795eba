"""How gene networks move in time: every constant a named field. Needs neither torch nor numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from tombola.errors import UsageError

__all__ = ["Dynamics"]

_WHOLE = {"cells": 2, "intervals": 3, "substeps": 1, "output": 0}  # -> the least
_POSITIVE = {"duration", "scale"}
_MOST = 10_000_000  # steps of all cells


@dataclass(frozen=True, kw_only=True, slots=True)
class Dynamics:
    """Genes of a row of cells that do not act on each other, under a morphogen whose front moves along the row.

    dx_i(p, t)/dt = s((sum_j W_ij x_j + d_i g(p, t)) / scale) - decay x_i,   s(z) = 1 / (1 + exp(offset - z)),
    g(p, t) = min(1, exp(wave_cell p - wave_time t)),   x(0) = initial: the front moves wave_time / wave_cell cells per
    unit of time.

    Args:
        cells: p = 0, ..., cells - 1; 2 or more.
        duration: units of time from 0 on.
        wave_cell, wave_time: of the morphogen, for a cell and for a unit of time.
        offset: of the sigmoid, where it is 1/2.
        scale: what weights and morphogen inputs are divided by.
        decay: rate at which a gene's product vanishes.
        initial: value of every gene in every cell at first.
        intervals: of equal length between the samples that are kept, 3 or more.
        substeps: steps of the solver (Runge-Kutta of order 4) within an interval; at most ten million for all cells.
        output: the gene that is read, counted from 0: gene 1 is 0.

    Raises:
        UsageError: a number that is not finite, or out of the ranges above.

    >>> round(Dynamics().step, 3), Dynamics().wave(50, 25.0), round(Dynamics().wave(0, 25.0), 3)
    (0.226, 1.0, 0.135)

    Source: the "GFlowNet for Genetic Circuits Design" project (Huang, 2025; its constants changed over time: the wave
    and the offset are those under which the printed motifs work), after Francois, Hakim and Siggia (2007, Mol Syst
    Biol 3:154). The solver with a fixed step is ours.
    """

    cells: int = 100
    duration: float = 90.0
    wave_cell: float = 0.04
    wave_time: float = 0.08
    offset: float = 5.0
    scale: float = 10.0
    decay: float = 1.0
    initial: float = 0.1
    intervals: int = 199
    substeps: int = 2
    output: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = _WHOLE.get(field.name)
            if least is not None:
                if isinstance(value, bool) or not isinstance(value, int) or value < least:
                    raise UsageError(f"{field.name} is {value}; expected a whole number, {least} or more.")
            elif not math.isfinite(value) or (field.name in _POSITIVE and value <= 0):
                above = " above 0" if field.name in _POSITIVE else ""
                raise UsageError(f"{field.name} is {value}; expected a finite number{above}.")
        work = self.cells * self.intervals * self.substeps
        if work > _MOST:
            raise UsageError(
                f"{self.cells:,} cells x {self.intervals:,} intervals x {self.substeps:,} substeps are {work:,} steps; "
                f"expected at most {_MOST:,}, which is finer than any pattern here needs."
            )

    @property
    def step(self) -> float:
        """The solver's step in units of time."""
        return self.duration / (self.intervals * self.substeps)

    def wave(self, cell: int, time: float) -> float:
        """The morphogen g in a cell at a time, within 0 to 1."""
        return math.exp(min(0.0, self.wave_cell * cell - self.wave_time * time))
