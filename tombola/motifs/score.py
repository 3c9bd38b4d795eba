"""One network weighed up: rewards, what is read off its pattern, and what to beware of."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tombola.motifs.dynamics import Dynamics
from tombola.motifs.network import GeneNetwork, silence, upstream
from tombola.motifs.reward import Scoring, fitness, plain, read, strict
from tombola.motifs.simulation import Engine, readings, simulate, stacked, step_error

__all__ = ["Scored", "scored"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """What a network's pattern is worth.

    Args:
        plain, strict, fitness: rewards, 0 or more; see `tombola.motifs.reward`.
        boundaries: of gene 1 at the middle, after three quarters and at the end.
        stability: within 0 to 1.
        contrast: largest less smallest value at the end.
        regularity: standard deviation / mean of the segments' lengths (stripe and gap) at the end; None: below two.
        edges: weights that are not 0.
        alive: genes with a path to gene 1, which is one of them.
        step_error: by how much traces change where the solver's step is halved; None: they diverge.
        silent: why there can be no pattern; None: there may be one.
        coarse: what is wrong with the solver's step or precision; None: nothing.
    """

    plain: float
    strict: float
    fitness: float
    boundaries: tuple[int, int, int]
    stability: float
    contrast: float
    regularity: float | None
    edges: int
    alive: int
    step_error: float | None
    silent: str | None
    coarse: str | None

    def document(self) -> dict[str, Any]:
        """As plain numbers."""
        return {**asdict(self), "boundaries": list(self.boundaries)}


def scored(
    network: GeneNetwork,
    dynamics: Dynamics | None = None,
    *,
    scoring: Scoring | None = None,
    engine: Engine = Engine.AUTO,
) -> Scored:
    """Simulate a network, read its pattern, and check the solver against half its step.

    The step is called too coarse where a trace moves by more than half of what makes a boundary: two cells together can
    then pass that threshold. The same holds for rounding: traces in float32 against those in float64.

    Args:
        network: what is weighed up.
        dynamics, scoring: None: `Dynamics()`, `Scoring()`.
        engine: as for `simulate`.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> found = scored(MOTIFS["9"].network)
    >>> round(found.plain, 2), round(found.strict, 2), found.edges, found.silent, found.coarse
    (23.95, 20.11, 46, None, None)
    """
    moves, given = dynamics or Dynamics(), scoring or Scoring()
    found = readings(*stacked([network]), moves, scoring=given, engine=engine)
    error = step_error(network, moves, engine=engine)
    regularity, (one, two, three) = found.regularity.item(), found.boundaries[0].tolist()
    return Scored(
        plain=plain(found, given).item(),
        strict=strict(found, given).item(),
        fitness=fitness(found, given).item(),
        boundaries=(one, two, three),
        stability=found.stability.item(),
        contrast=found.contrast.item(),
        regularity=None if math.isnan(regularity) else regularity,
        edges=len(network.edges),
        alive=len(upstream(network, moves.output)),
        step_error=error if math.isfinite(error) else None,
        silent=silence(network, moves.output),
        coarse=(_rounded(network, moves, given, engine) if math.isfinite(error) else None)
        or _coarse(error, moves, given),
    )


def _rounded(network: GeneNetwork, dynamics: Dynamics, scoring: Scoring, engine: Engine) -> str | None:
    """Where float32 decides: genes that are wired alike, told apart by rounding."""
    single, double = (
        simulate([network], dynamics, genes=(dynamics.output,), engine=kind, dtype=dtype)[:, 0]
        for kind, dtype in ((engine, torch.float32), (Engine.TORCH, torch.float64))
    )
    moved = float((single - double).abs().nan_to_num(nan=0.0, posinf=0.0).max())
    if moved <= scoring.boundary / 2:
        return None
    exact = plain(read(double, scoring), scoring).item()
    return (
        f"rounding decides on its pattern: in float64 traces differ by {moved:.2g}, expected at most "
        f"{scoring.boundary / 2:g}, and its plain reward is {exact:.3f}; no step of the solver mends that"
    )


def _coarse(error: float, dynamics: Dynamics, scoring: Scoring) -> str | None:
    allowed = scoring.boundary / 2
    if error <= allowed:
        return None
    moved = f"change by {error:.2g}" if math.isfinite(error) else "are not finite or become so"
    return (
        f"the solver is too coarse: traces {moved} where its step of {dynamics.step:.3g} is halved, expected at most "
        f"{allowed:g}; take {2 * dynamics.substeps} substeps or more"
    )
