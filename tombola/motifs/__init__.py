"""Gene regulatory networks that make a pattern of stripes, and what is left of them when edges are pruned away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily

if TYPE_CHECKING:
    from tombola.motifs.dynamics import Dynamics
    from tombola.motifs.network import GeneNetwork
    from tombola.motifs.pruned import Step, exhaustive, greedy, magnitude, sensitivity, smallest
    from tombola.motifs.reward import Readings, Scoring, fitness, plain, read, strict
    from tombola.motifs.score import Scored, scored
    from tombola.motifs.seeds import MOTIFS, Motif
    from tombola.motifs.simulation import rewards, simulate, step_error

__all__ = [
    "MOTIFS",
    "Dynamics",
    "GeneNetwork",
    "Motif",
    "Readings",
    "Scored",
    "Scoring",
    "Step",
    "exhaustive",
    "fitness",
    "greedy",
    "magnitude",
    "plain",
    "read",
    "rewards",
    "scored",
    "sensitivity",
    "simulate",
    "smallest",
    "step_error",
    "strict",
]

_HOMES = {
    "dynamics": ("Dynamics",),
    "network": ("GeneNetwork",),
    "pruned": ("Step", "exhaustive", "greedy", "magnitude", "sensitivity", "smallest"),
    "reward": ("Readings", "Scoring", "fitness", "plain", "read", "strict"),
    "score": ("Scored", "scored"),
    "seeds": ("MOTIFS", "Motif"),
    "simulation": ("rewards", "simulate", "step_error"),
}

__getattr__ = lazily(__name__, {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names})
