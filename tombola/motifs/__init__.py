"""Gene regulatory networks that make a pattern of stripes, and what is left of them when edges are pruned away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily

if TYPE_CHECKING:
    from tombola.motifs.descent import Descent, tuned_greedy, tuned_magnitude
    from tombola.motifs.dynamics import Dynamics
    from tombola.motifs.elites import Elites, map_elites
    from tombola.motifs.flow import Flow, gflownet, total_variation
    from tombola.motifs.genes import Genes
    from tombola.motifs.hillclimb import Climb, Tuned, tune
    from tombola.motifs.judge import Judge
    from tombola.motifs.levels import Levels, enumerated
    from tombola.motifs.network import GeneNetwork
    from tombola.motifs.novelty import Novel, novelty_search
    from tombola.motifs.population import Budget, Found, topologies
    from tombola.motifs.pruned import Step, by_criterion, exhaustive, smallest
    from tombola.motifs.reward import Readings, Scoring, fitness, plain, read, strict
    from tombola.motifs.score import Scored, scored
    from tombola.motifs.seeds import MOTIFS, Motif
    from tombola.motifs.simulation import rewards, simulate, step_error
    from tombola.motifs.task import GeneTask, Rewarded, gene_recipe

__all__ = [
    "MOTIFS",
    "Budget",
    "Climb",
    "Descent",
    "Dynamics",
    "Elites",
    "Flow",
    "Found",
    "GeneNetwork",
    "GeneTask",
    "Genes",
    "Judge",
    "Levels",
    "Motif",
    "Novel",
    "Readings",
    "Rewarded",
    "Scored",
    "Scoring",
    "Step",
    "Tuned",
    "by_criterion",
    "enumerated",
    "exhaustive",
    "fitness",
    "gene_recipe",
    "gflownet",
    "map_elites",
    "novelty_search",
    "plain",
    "read",
    "rewards",
    "scored",
    "simulate",
    "smallest",
    "step_error",
    "strict",
    "topologies",
    "total_variation",
    "tune",
    "tuned_greedy",
    "tuned_magnitude",
]

_HOMES = {
    "dynamics": ("Dynamics",),
    "elites": ("Elites", "map_elites"),
    "genes": ("Genes",),
    "flow": ("Flow", "gflownet", "total_variation"),
    "levels": ("Levels", "enumerated"),
    "novelty": ("Novel", "novelty_search"),
    "network": ("GeneNetwork",),
    "judge": ("Judge",),
    "population": ("Budget", "Found", "topologies"),
    "pruned": ("Step", "by_criterion", "exhaustive", "smallest"),
    "reward": ("Readings", "Scoring", "fitness", "plain", "read", "strict"),
    "score": ("Scored", "scored"),
    "seeds": ("MOTIFS", "Motif"),
    "simulation": ("rewards", "simulate", "step_error"),
    "task": ("GeneTask", "Rewarded", "gene_recipe"),
    "hillclimb": ("Climb", "Tuned", "tune"),
    "descent": ("Descent", "tuned_greedy", "tuned_magnitude"),
}

__getattr__ = lazily(__name__, {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names})
