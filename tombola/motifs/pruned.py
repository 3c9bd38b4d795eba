"""Edges taken away without tuning what is left: by a criterion of the registry, or all sub-networks of small motifs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import torch
from torch import Tensor

from tombola.criteria import Criterion, Probe, criterion_of, needs_of
from tombola.criteria.base import label_of
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.motifs.dynamics import Dynamics
from tombola.motifs.genes import EDGES, Genes, worth_by
from tombola.motifs.judge import Judge
from tombola.motifs.network import Edge, GeneNetwork
from tombola.motifs.reward import Reward, Scoring, plain

__all__ = ["AT_MOST", "SHARE", "Step", "Watch", "by_criterion", "exhaustive", "smallest"]

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
    judge: Judge
    edges: tuple[Edge, ...]
    weights: Tensor
    morphogen: Tensor

    def of(self, kept: Tensor, watch: Callable[[int], None] | None = None) -> Tensor:
        """The rewards of sub-networks: n x edges bools -> n float64 numbers."""
        rows, columns = (torch.tensor([edge[side] for edge in self.edges], dtype=torch.long) for side in (0, 1))
        weights = torch.zeros(len(kept), *self.weights.shape)
        weights[:, rows, columns] = self.weights[rows, columns] * kept
        return self.judge(weights, self.morphogen.expand(len(kept), -1), watch=watch).reward

    def step(self, kept: Tensor, reward: float, simulations: int) -> Step:
        gone = [edge for edge, there in zip(self.edges, kept.tolist(), strict=True) if not there]
        return Step(network=self.network.without(gone), reward=reward, simulations=simulations)


def _bench(network: GeneNetwork, dynamics: Dynamics | None, reward: Reward, scoring: Scoring | None) -> _Bench:
    return _Bench(
        network=network,
        judge=Judge(dynamics=dynamics or Dynamics(), reward=reward, scoring=scoring or Scoring()),
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
    if not count:
        return [bench.step(torch.ones(0, dtype=torch.bool), float(bench.of(torch.ones(1, 0, dtype=torch.bool))), 1)]
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
    reach[:, bench.judge.dynamics.output] = True
    for _ in range(bench.network.genes - 1):
        for edge, (acted, acting) in enumerate(bench.edges):
            reach[:, acting] |= kept[:, edge] & reach[:, acted]
    acted_on = torch.tensor([edge[0] for edge in bench.edges], dtype=torch.long)
    different, place = (kept & reach[:, acted_on]).unique(dim=0, return_inverse=True)
    return different, place


def by_criterion(
    network: GeneNetwork,
    criterion: str | Criterion = "greedy",
    dynamics: Dynamics | None = None,
    *,
    reward: Reward = plain,
    scoring: Scoring | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> list[Step]:
    """Take all edges away, one by one, in the order of a criterion's scores; nothing is tuned.

    Args:
        network: what is pruned.
        criterion: of `tombola list criteria`: `greedy` takes, again and again, the edge without which the reward is
            largest (e edges: 1 + e (e + 1) / 2 simulations or so); `leave_one_out` ranks by that once; `magnitude`
            by |weight|; `random`. Those that ask what a network is worth get the reward.
        dynamics, scoring: None: `Dynamics()`, `Scoring()`.
        reward: larger is better. Of edges of equal score that of smallest weight goes, then the first.
        seed: of what a criterion draws.
        watch: is told of progress.

    Returns:
        e + 1 steps, the whole network first.

    Raises:
        UsageError: an unknown criterion, or one that looks at what gene networks do not have (examples, say).

    >>> from tombola.motifs.seeds import MOTIFS
    >>> [round(step.reward, 1) for step in by_criterion(MOTIFS["2b"].network)]
    [16.8, 3.0, 0.0, 0.0, 0.0]
    """
    chosen = criterion_of(criterion)
    _check(chosen)
    bench = _bench(network, dynamics, reward, scoring)
    count, looked = len(bench.edges), 0

    def judged(weights: Tensor, morphogen: Tensor) -> Tensor:
        nonlocal looked
        found = bench.judge(weights, morphogen).reward
        looked += len(found)
        if watch is not None:
            watch(looked, total)
        return found

    total = 2 + count + (count * (count + 1) // 2 if needs_of(chosen).worth else 0)  # no more than that
    model = Genes(bench.weights, bench.morphogen)
    places = Mask({EDGES: bench.weights != 0})
    order = list(range(count))
    if count:
        scores = chosen(model, places, Probe(seed=seed, worth=worth_by(judged)))[EDGES]
        sizes = [(float(scores[edge]), abs(network.weights[edge[0]][edge[1]])) for edge in bench.edges]
        order.sort(key=sizes.__getitem__)
    kept = torch.ones(count + 1, count, dtype=torch.bool)
    for left, edge in enumerate(order, 1):
        kept[left:, edge] = False
    found = bench.of(kept, None if watch is None else lambda done: watch(looked + done, total))
    if watch is not None:
        watch(looked + len(kept), looked + len(kept))
    rows = zip(kept, found.tolist(), strict=True)
    return [bench.step(mask, value, looked + place) for place, (mask, value) in enumerate(rows, 1)]


def _check(criterion: Criterion) -> None:
    """What gene networks do not have is refused."""
    wanted = needs_of(criterion)
    lacking = {
        "looks at examples": wanted.data and not wanted.worth,
        "compares with the initial weights": wanted.initial,
        "sums along a training": bool(wanted.gathered),
        "scores whole units": wanted.units,
    }
    for what, true in lacking.items():
        if true:
            raise UsageError(
                f"The criterion {label_of(criterion)} {what}, which a gene network does not have; use greedy, "
                f"leave_one_out, magnitude, small_final or random."
            )
