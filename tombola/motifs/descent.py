"""Edges taken away with tuning: what is left climbs back before more is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tombola.errors import UsageError
from tombola.motifs.dynamics import Dynamics
from tombola.motifs.hillclimb import Climb, tune
from tombola.motifs.judge import Judge
from tombola.motifs.network import Edge, GeneNetwork
from tombola.motifs.pruned import SHARE, Step, Watch
from tombola.motifs.reward import Reward, Scoring, plain
from tombola.motifs.simulation import stacked
from tombola.streams import derive

__all__ = ["Descent", "tuned_greedy", "tuned_magnitude"]

_SETTLE = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Descent:
    """How a network is pruned and tuned in turns.

    Args:
        share: of the whole network's reward that each step keeps.
        rate: of the edges that iterative magnitude pruning takes in a turn, one at least.
        settle: rounds of the hill-climb after each cut, whether the share is reached or not; None: 10 for magnitude,
            for a network far above the share outlives more cuts; 0 for greedy, which goes by the reward itself.
        rounds: of the hill-climb after a cut, at most; behind `settle` it ends as soon as the share is reached.
        tries: hill-climbs from the same cut, with other moves, before the descent ends there.
        climb: the constants of the hill-climb.
        seed: of all moves.

    Raises:
        UsageError: a number out of range.
    """

    share: float = SHARE
    rate: float = 0.1
    settle: int | None = None
    rounds: int = 20
    tries: int = 4
    climb: Climb = field(default_factory=Climb)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("share", "rate"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected a fraction above 0 and at most 1.")
        for name, value, least in (
            ("settle", self.settle or 0, 0),
            ("rounds", self.rounds, 0),
            ("tries", self.tries, 1),
        ):
            if value < least:
                raise UsageError(f"{name} is {value}; expected {least} or more.")


def tuned_magnitude(
    network: GeneNetwork,
    dynamics: Dynamics | None = None,
    *,
    reward: Reward = plain,
    scoring: Scoring | None = None,
    descent: Descent | None = None,
    watch: Watch | None = None,
) -> list[Step]:
    """Take away the tenth of the edges with the smallest |weight|, and tune what is left; again and again.

    Args:
        network: what is pruned.
        dynamics, scoring, descent: None: `Dynamics()`, `Scoring()`, `Descent()`.
        reward: larger is better.
        watch: is told of progress, in edges.

    Returns:
        The whole network, then one step a turn; the last one may lie below the share, for there the descent ends.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> [step.edges for step in tuned_magnitude(MOTIFS["2b"].network, descent=Descent(settle=0, rounds=2, tries=1))]
    [4, 3]

    Source: train, prune, repeat without rewinding (Han et al., 2015, arXiv 1506.02626), with a hill-climb for training.
    """
    given = descent or Descent()

    def cut(whole: GeneNetwork, _: Judge) -> tuple[list[GeneNetwork], int]:
        count = max(1, round(given.rate * len(whole.edges)))
        return [whole.without(_smallest(whole)[:count])], 0

    judge = Judge(dynamics=dynamics or Dynamics(), reward=reward, scoring=scoring or Scoring())
    return _down(network, judge, given, cut, _SETTLE, watch)


def tuned_greedy(
    network: GeneNetwork,
    dynamics: Dynamics | None = None,
    *,
    reward: Reward = plain,
    scoring: Scoring | None = None,
    descent: Descent | None = None,
    watch: Watch | None = None,
) -> list[Step]:
    """Take away the edge without which the fitness is largest, and tune what is left where it is below the share.

    Where one edge cannot be missed, the next best ones are tried, as many as `tries`. Arguments and steps as for
    `tuned_magnitude`.
    """
    given = descent or Descent()

    def cut(whole: GeneNetwork, judge: Judge) -> tuple[list[GeneNetwork], int]:
        edges = _smallest(whole)
        tried = [whole.without([edge]) for edge in edges]
        found = judge(*stacked(tried)).fitness
        order = found.argsort(descending=True, stable=True)[: given.tries].tolist()
        return [tried[place] for place in order], len(edges)

    judge = Judge(dynamics=dynamics or Dynamics(), reward=reward, scoring=scoring or Scoring())
    return _down(network, judge, given, cut, 0, watch)


def _smallest(network: GeneNetwork) -> list[Edge]:
    """Its edges, those of smallest |weight| first."""
    return sorted(network.edges, key=lambda edge: abs(network.weights[edge[0]][edge[1]]))


def _down(
    network: GeneNetwork,
    judge: Judge,
    descent: Descent,
    cut: Callable[[GeneNetwork, Judge], tuple[list[GeneNetwork], int]],
    settle: int,
    watch: Watch | None,
) -> list[Step]:
    """Cut and tune in turns until a cut does not come back to the share, or no edge is left.

    Args:
        cut: candidates, the best first, and how many networks were looked at to find them.
    """
    first = tune(network, judge.dynamics, reward=judge.reward, scoring=judge.scoring, rounds=0)
    steps, wanted = [Step(network=network, reward=first.reward, simulations=1)], descent.share * first.reward
    while wanted > 0 and steps[-1].network.edges and steps[-1].reward >= wanted:
        candidates, looked = cut(steps[-1].network, judge)
        simulations, found = steps[-1].simulations + looked, list[Step]()
        for attempt in range(descent.tries):
            tuned = tune(
                candidates[attempt % len(candidates)],
                judge.dynamics,
                reward=judge.reward,
                scoring=judge.scoring,
                climb=descent.climb,
                rounds=descent.rounds,
                least=settle if descent.settle is None else descent.settle,
                enough=wanted,
                seed=derive(descent.seed, "descent", len(steps), attempt),
            )
            simulations += tuned.simulations
            found.append(Step(network=tuned.network, reward=tuned.reward, simulations=simulations))
            if tuned.reward >= wanted:
                break
        best = max(found, key=lambda step: step.reward)
        steps.append(Step(network=best.network, reward=best.reward, simulations=simulations))
        if watch is not None:
            watch(len(network.edges) - best.edges, len(network.edges))
    return steps
