"""Edges taken away without tuning what is left: all sub-networks of small motifs, greedy, and two one-shot orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import torch
from torch import Tensor

from tombola.errors import UsageError
from tombola.motifs.dynamics import Dynamics
from tombola.motifs.network import Edge, GeneNetwork
from tombola.motifs.reward import Reward, Scoring, plain
from tombola.motifs.simulation import listening, readings

__all__ = ["AT_MOST", "SHARE", "Step", "Watch", "exhaustive", "greedy", "magnitude", "sensitivity", "smallest"]

AT_MOST = 2**16
"""Sub-networks that are looked at: all of those of 16 edges."""

SHARE = 21.613 / 24.9
"""The ratio of the two rewards that the source prints, 0.868: so much of its reward a pruned motif must keep."""

Watch = Callable[[int, int], None]
"""Told how many simulations are done, and how many there will be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A sub-network on the way down.

    Args:
        network: what is left.
        reward: of it.
        simulations: networks that were looked at until then, this one included.
    """

    network: GeneNetwork
    reward: float
    simulations: int

    @property
    def edges(self) -> int:
        """How many are left."""
        return len(self.network.edges)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bench:
    """Rewards of sub-networks of one network, and a count of them."""

    network: GeneNetwork
    dynamics: Dynamics
    reward: Reward
    scoring: Scoring
    edges: tuple[Edge, ...]
    weights: Tensor
    morphogen: Tensor

    def of(self, kept: Tensor, watch: Callable[[int], None] | None = None) -> Tensor:
        """The rewards of sub-networks: n x edges bools -> n float64 numbers."""
        rows, columns = (torch.tensor([edge[side] for edge in self.edges], dtype=torch.long) for side in (0, 1))
        weights = torch.zeros(len(kept), *self.weights.shape)
        weights[:, rows, columns] = self.weights[rows, columns] * kept
        morphogen = self.morphogen.expand(len(kept), -1)
        found = torch.zeros(len(kept), dtype=torch.float64)
        heard = listening(weights, morphogen, self.dynamics.output).nonzero()[:, 0]
        if len(heard):
            read = readings(weights[heard], morphogen[heard], self.dynamics, scoring=self.scoring, watch=watch)
            found[heard] = self.reward(read, self.scoring)
        if watch is not None:
            watch(len(kept))  # those without a path need no simulation
        return found

    def step(self, kept: Tensor, reward: float, simulations: int) -> Step:
        gone = [edge for edge, there in zip(self.edges, kept.tolist(), strict=True) if not there]
        return Step(network=self.network.without(gone), reward=reward, simulations=simulations)


def _bench(network: GeneNetwork, dynamics: Dynamics | None, reward: Reward, scoring: Scoring | None) -> _Bench:
    return _Bench(
        network=network,
        dynamics=dynamics or Dynamics(),
        reward=reward,
        scoring=scoring or Scoring(),
        edges=network.edges,
        weights=torch.tensor(network.weights),
        morphogen=torch.tensor(network.morphogen),
    )


def smallest(steps: Sequence[Step], share: float = SHARE) -> Step | None:
    """The step with fewest edges that keeps a share of the first one's reward; None where there is no reward to keep.

    Args:
        steps: the whole network first.
        share: within 0 to 1; 0.868 is the source's.

    Raises:
        UsageError: a share outside 0 to 1.
    """
    if not 0 < share <= 1:
        raise UsageError(f"share is {share}; expected a fraction above 0 and at most 1, such as {SHARE:.3f}.")
    enough = [step for step in steps if step.reward >= share * steps[0].reward > 0]
    return min(enough, key=lambda step: (step.edges, -step.reward)) if enough else None


def exhaustive(
    network: GeneNetwork,
    dynamics: Dynamics | None = None,
    *,
    reward: Reward = plain,
    scoring: Scoring | None = None,
    up_to: int | None = None,
    watch: Watch | None = None,
) -> list[Step]:
    """The best sub-network of each number of edges, among all 2^edges of them: the truth that others are judged by.

    Sub-networks that differ in edges without a path to the output gene alone are simulated once.

    Args:
        network: at most 16 edges, or more where `up_to` leaves no more than 2^16 sub-networks.
        dynamics, scoring: None: `Dynamics()`, `Scoring()`.
        reward: larger is better; the first of equal ones, in the order of edges.
        up_to: only sub-networks of at most so many edges, beside the whole; None: all.
        watch: is told of progress.

    Returns:
        A step for each number of edges, the whole network first.

    Raises:
        UsageError: too many sub-networks.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> steps = exhaustive(MOTIFS["2b"].network)
    >>> [step.edges for step in steps], smallest(steps).edges
    ([4, 3, 2, 1, 0], 4)
    """
    bench = _bench(network, dynamics, reward, scoring)
    count = len(bench.edges)
    sizes = [count, *range(min(count - 1, count if up_to is None else up_to), -1, -1)]
    among = sum(math.comb(count, size) for size in sizes)
    if among > AT_MOST:
        raise UsageError(
            f"the network has {count} edges and {among:,} such sub-networks; at most {AT_MOST:,}, those of 16 edges, "
            f"are looked at: take greedy instead."
        )
    kept = torch.zeros(among, count, dtype=torch.bool)
    for row, chosen in enumerate(chain.from_iterable(combinations(range(count), size) for size in sizes)):
        kept[row, list(chosen)] = True
    different, place = _alike(bench, kept)
    total = len(different)
    found = bench.of(different, None if watch is None else lambda done: watch(done, total))[place]
    best, first = list[Step](), 0
    for size in sizes:
        behind = first + math.comb(count, size)
        at = first + int(found[first:behind].argmax())
        best.append(bench.step(kept[at], float(found[at]), among))
        first = behind
    return best


def _alike(bench: _Bench, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The different sub-networks without edges that have no path to the output, and which of them each one is."""
    reach = torch.zeros(len(kept), bench.network.genes, dtype=torch.bool)
    reach[:, bench.dynamics.output] = True
    for _ in range(bench.network.genes - 1):
        for edge, (acted, acting) in enumerate(bench.edges):
            reach[:, acting] |= kept[:, edge] & reach[:, acted]
    acted_on = torch.tensor([edge[0] for edge in bench.edges], dtype=torch.long)
    different, place = (kept & reach[:, acted_on]).unique(dim=0, return_inverse=True)
    return different, place


def greedy(
    network: GeneNetwork,
    dynamics: Dynamics | None = None,
    *,
    reward: Reward = plain,
    scoring: Scoring | None = None,
    watch: Watch | None = None,
) -> list[Step]:
    """Take away the edge without which the reward is largest, again and again, until none is left.

    Args:
        network: what is pruned; e edges take 1 + e (e + 1) / 2 simulations.
        dynamics, scoring: None: `Dynamics()`, `Scoring()`.
        reward: larger is better; of equal ones the edge of smallest weight goes, then the first.
        watch: is told of progress.

    Returns:
        e + 1 steps, the whole network first.
    """
    bench = _bench(network, dynamics, reward, scoring)
    count = len(bench.edges)
    kept = torch.ones(count, dtype=torch.bool)
    steps, done, total = [bench.step(kept, float(bench.of(kept[None])), 1)], 1, 1 + count * (count + 1) // 2
    by_size = sorted(range(count), key=lambda edge: abs(_weight(network, bench.edges[edge])))
    while bool(kept.any()):
        candidates = torch.tensor([edge for edge in by_size if kept[edge]])
        tried = kept.repeat(len(candidates), 1)
        tried[torch.arange(len(candidates)), candidates] = False
        found = bench.of(tried)
        best = int(found.argmax())
        done += len(candidates)
        kept = tried[best]
        steps.append(bench.step(kept, float(found[best]), done))
        if watch is not None:
            watch(done, total)
    return steps


def magnitude(
    network: GeneNetwork,
    dynamics: Dynamics | None = None,
    *,
    reward: Reward = plain,
    scoring: Scoring | None = None,
    watch: Watch | None = None,
) -> list[Step]:
    """Take edges away in the order of |weight|, smallest first, of equal ones the first; arguments as for `greedy`."""
    bench = _bench(network, dynamics, reward, scoring)
    order = sorted(range(len(bench.edges)), key=lambda edge: abs(_weight(network, bench.edges[edge])))
    return _in_order(bench, order, 0, watch)


def sensitivity(
    network: GeneNetwork,
    dynamics: Dynamics | None = None,
    *,
    reward: Reward = plain,
    scoring: Scoring | None = None,
    watch: Watch | None = None,
) -> list[Step]:
    """Take edges away in the order of the reward without each alone, largest first; arguments as for `greedy`."""
    bench = _bench(network, dynamics, reward, scoring)
    count = len(bench.edges)
    without = bench.of(~torch.eye(count, dtype=torch.bool)).tolist()
    return _in_order(bench, sorted(range(count), key=lambda edge: -without[edge]), count, watch)


def _in_order(bench: _Bench, order: Sequence[int], before: int, watch: Watch | None) -> list[Step]:
    kept = torch.ones(len(order) + 1, len(order), dtype=torch.bool)
    for left, edge in enumerate(order, 1):
        kept[left:, edge] = False
    total = before + len(kept)
    found = bench.of(kept, None if watch is None else lambda done: watch(before + done, total)).tolist()
    return [
        bench.step(mask, reward, before + place)
        for place, (mask, reward) in enumerate(zip(kept, found, strict=True), 1)
    ]


def _weight(network: GeneNetwork, edge: Edge) -> float:
    return network.weights[edge[0]][edge[1]]
