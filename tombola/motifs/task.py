"""Gene networks as a task: they enter by the same door as images do, and a hill-climb is their training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from tombola.answers import Interpolated
from tombola.criteria import Probe
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.motifs import reward
from tombola.motifs.course import ENGINE, Course
from tombola.motifs.dynamics import Dynamics
from tombola.motifs.genes import EDGES, MORPHOGEN, Genes, worth_by
from tombola.motifs.hillclimb import Climb
from tombola.motifs.judge import Judge
from tombola.motifs.network import BOUND, MAX_GENES, GeneNetwork, upstream
from tombola.recipes import Recipe
from tombola.requests import Fit, Interpolate, ProbeSpec
from tombola.scopes import Scope
from tombola.specs import digest
from tombola.streams import stream
from tombola.tasks import Metric
from tombola.training.checkpoint import Checkpoint
from tombola.training.loop import CHECKPOINT_SECONDS, Events, Measured
from tombola.training.state import State, state_of

__all__ = ["GeneTask", "Rewarded", "gene_recipe"]


class Rewarded(Enum):
    """Which reward a task goes by; see `tombola.motifs.reward`."""

    PLAIN = "plain"
    STRICT = "strict"


@dataclass(kw_only=True, eq=False)
class GeneTask:
    """Gene networks that are to make stripes; a training is a hill-climb (`tombola.motifs.hillclimb`), a step a round.

    The state of a training is its fittest network, the metric that network's reward, the loss its fitness taken
    negative, on training, validation and test alike, for there are no examples. The moves of round k are those of the
    fit's seeds and of k, whatever came before.

    Args:
        steps: rounds of a whole training, 1 or more.
        genes: of random networks, weights and morphogen inputs drawn from N(0, spread^2) and cut to -100 to 100.
        motif: every seed begins with this network in place of a random one; places of weight 0 count as weights.
        rewarded: which reward.
        dynamics, climb: how networks move, how they climb.
        spread: standard deviation of the draw, above 0.
        checkpoint_seconds: between two checkpoints of a training; no part of the identity.

    Raises:
        UsageError: a number out of range.

    >>> task = GeneTask(steps=2, genes=3)
    >>> task.prunable(Scope()).kept, task.metric.name
    ({'edges.weight': 9}, 'reward')
    """

    steps: int = 50
    genes: int = 7
    motif: GeneNetwork | None = None
    rewarded: Rewarded = Rewarded.PLAIN
    dynamics: Dynamics = field(default_factory=Dynamics)
    climb: Climb = field(default_factory=Climb)
    spread: float = 40.0
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    def __post_init__(self) -> None:
        if self.motif is not None:
            self.genes = self.motif.genes
        for name, most in (("steps", math.inf), ("genes", MAX_GENES)):
            if not 1 <= getattr(self, name) <= most:
                limit = "" if most == math.inf else f" and at most {most}"
                raise UsageError(f"{name} is {getattr(self, name)}; expected a whole number, 1 or more{limit}.")
        if not (math.isfinite(self.spread) and self.spread > 0):
            raise UsageError(f"spread is {self.spread}; expected a finite number above 0.")
        if self.dynamics.output >= self.genes:
            raise UsageError(f"output is {self.dynamics.output}; expected a gene from 0 to {self.genes - 1}.")

    @property
    def fingerprint(self) -> str:
        """Identity of networks, dynamics, reward and climb."""
        start = {"spread": self.spread} if self.motif is None else self.motif.document()
        parts = {"dynamics": asdict(self.dynamics), "climb": asdict(self.climb), "reward": self.rewarded.value}
        return digest({"kind": "genes", "genes": self.genes, "steps": self.steps, "start": start, **parts})

    @property
    def metric(self) -> Metric:
        """The reward."""
        return Metric(name="reward", larger_is_better=True)

    def build(self, seed: int, *, at_most: int | None = None) -> Genes:
        """The motif, or the random network of this seed.

        Raises:
            UsageError: a narrower form is asked for; there is none.
        """
        if at_most is not None:
            raise UsageError("A gene network has no narrower form; leave the control small-dense out.")
        if self.motif is not None:
            return Genes(torch.tensor(self.motif.weights), torch.tensor(self.motif.morphogen))
        drawn = torch.randn(self.genes, self.genes + 1, generator=stream(seed, "genes")) * self.spread
        drawn = drawn.clamp(-BOUND, BOUND)
        return Genes(drawn[:, : self.genes], drawn[:, self.genes])

    def prunable(self, scope: Scope, *, at_most: int | None = None) -> Mask:
        """The mask of all genes x genes edges; the morphogen's inputs are not prunable."""
        return Mask.dense(self.build(0, at_most=at_most), scope)

    def probe(self, seed: int, spec: ProbeSpec | None = None) -> Probe:
        """What networks are worth: their fitness. There are no examples, whatever `spec` says."""
        return Probe(seed=seed, worth=worth_by(lambda weights, inputs: self._judge(weights, inputs).fitness))

    def effective(self, mask: Mask) -> int | None:
        """How many edges of `mask` act on a gene with a path to the output gene."""
        kept = mask[EDGES]
        network = GeneNetwork(weights=tuple(map(tuple, kept.double().tolist())), morphogen=(0.0,) * self.genes)
        return sum(acted in upstream(network, self.dynamics.output) for acted, _ in network.edges)

    def notes(self) -> dict[str, Any]:
        """Genes, reward, dynamics and climb."""
        parts = {"dynamics": asdict(self.dynamics), "climb": asdict(self.climb)}
        return {"input_shape": [self.genes], "genes": self.genes, "reward": self.rewarded.value, **parts}

    @property
    def _judge(self) -> Judge:
        return Judge(dynamics=self.dynamics, reward=getattr(reward, self.rewarded.value))

    def network(self, state: Mapping[str, Tensor]) -> GeneNetwork:
        """The gene network of a state."""
        weights, morphogen = state[EDGES].tolist(), state[MORPHOGEN].tolist()
        return GeneNetwork(weights=tuple(map(tuple, weights)), morphogen=tuple(morphogen))

    def fit(
        self,
        fit: Fit,
        start: State,
        *,
        events: Events,
        resume: Checkpoint | None = None,
        engine: str | None = None,
    ) -> Measured:
        """Climb from a network, on the edges that the mask keeps and on the morphogen's inputs.

        Raises:
            UsageError: the fit asks for what a hill-climb does not have, or names another engine.
            Stopped: `events.stopping()` said so; a checkpoint was sent before.
        """
        lacking = {
            "freezes pruned places at constants": fit.frozen is not None,
            "prunes while it trains": fit.dynamics is not None,
            "gathers statistics along the way": bool(fit.gather),
            f"was made by the engine {engine!r}": engine not in {None, ENGINE},
        }
        if any(lacking.values()):
            clause = next(clause for clause, true in lacking.items() if true)
            raise UsageError(f"A gene network's hill-climb cannot do this: the training {clause}.")
        own = {name: tuple(value.shape) for name, value in state_of(self.build(0)).items()}
        if own != {name: tuple(value.shape) for name, value in start.items()}:
            raise UsageError(f"The state is not that of {self.genes} genes; it belongs to another network.")
        course = Course(
            fit, start, judge=self._judge, climb=self.climb, events=events, checkpoint_seconds=self.checkpoint_seconds
        )
        return course.run(resume)

    def interpolate(
        self, request: Interpolate, one: State, other: State, origin: State | None, *, stopping: Callable[[], bool]
    ) -> Interpolated:
        """Refused: a hill-climb has no data order whose effect a line between two states could show.

        Raises:
            UsageError: always.
        """
        raise UsageError("Gene networks have no examples and no data order, so their stability cannot be measured.")


def gene_recipe(task: GeneTask, **changes: Any) -> Recipe:
    """A recipe for a task of gene networks: one shot to half of the edges, judged at the end.

    Args:
        changes: fields of the recipe.

    >>> gene_recipe(GeneTask(steps=3), levels=2).steps
    3
    """
    named = {"name": "genes", "data": "none", "model": f"{task.genes} genes", "steps": task.steps}
    usual = {"search": "oneshot", "rate": 0.5, "levels": 1, "allocation": "global", "endpoint": "end"}
    return Recipe(**{**named, **usual, **changes})
