"""What stacked networks are worth: the one judge of all searches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tombola.motifs.dynamics import Dynamics
from tombola.motifs.reward import Reward, Scoring, fitness, plain, read
from tombola.motifs.simulation import BATCH, integrate, listening

__all__ = ["Judge", "Weighed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighed:
    """What n stacked networks are worth.

    Args:
        reward, fitness: n float64 numbers, 0 or more; see `tombola.motifs.reward`.
        boundaries: n whole numbers, of the output gene at the end.
        profile: n x cells, the output gene at the end; zeros where it is the same in every cell for want of a path.
    """

    reward: Tensor
    fitness: Tensor
    boundaries: Tensor
    profile: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """Simulates and rewards stacked networks; those without a path from the morphogen get 0 unsimulated.

    Where two genes are wired alike, nothing but rounding tells them apart, and float32 may make stripes of it.

    Args:
        dynamics, reward, scoring: as for `rewards`.
        checked: networks that get a reward are simulated again in float64, and that is what counts: slower where they
            are many.
    """

    dynamics: Dynamics = field(default_factory=Dynamics)
    reward: Reward = plain
    scoring: Scoring = field(default_factory=Scoring)
    checked: bool = False

    def __call__(self, weights: Tensor, morphogen: Tensor, *, watch: Callable[[int], None] | None = None) -> Weighed:
        """Weights n x genes x genes and morphogen n x genes, float32; n is 1 or more.

        Args:
            weights, morphogen: of the networks.
            watch: told how many networks are done.

        >>> from tombola.motifs.seeds import MOTIFS
        >>> from tombola.motifs.simulation import stacked
        >>> found = Judge()(*stacked([MOTIFS["2b"].network]))
        >>> round(found.reward.item(), 2), found.boundaries.item(), found.profile.shape
        (16.8, 6, torch.Size([1, 100]))
        """
        moves, count = self.dynamics, len(weights)
        found = Weighed(
            reward=torch.zeros(count, dtype=torch.float64),
            fitness=torch.zeros(count, dtype=torch.float64),
            boundaries=torch.zeros(count, dtype=torch.long),
            profile=torch.zeros(count, moves.cells),
        )
        heard = listening(weights, morphogen, moves.output).nonzero()[:, 0]
        done = count - len(heard)  # those without a path need no simulation
        for part in heard.split(BATCH):
            self._weigh(found, part, weights[part], morphogen[part])
            rewarded = part[found.reward[part] > 0]
            if self.checked and len(rewarded):
                self._weigh(found, rewarded, weights[rewarded].double(), morphogen[rewarded].double())
            done += len(part)
            if watch is not None:
                watch(done)
        return found

    def _weigh(self, found: Weighed, part: Tensor, weights: Tensor, morphogen: Tensor) -> None:
        """Write what a batch of networks is worth into its places."""
        moves = self.dynamics
        traces = integrate(weights, morphogen, moves, genes=(moves.output,))[:, 0]
        readings = read(traces, self.scoring)
        found.reward[part] = self.reward(readings, self.scoring)
        found.fitness[part] = fitness(readings, self.scoring, reward=self.reward)
        found.boundaries[part] = readings.boundaries[:, 2]
        found.profile[part] = traces[:, -1].float().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
