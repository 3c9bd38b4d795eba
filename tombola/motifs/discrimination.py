"""Is it the wiring? The same search for morphogen inputs on a motif, and on its weights in other places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tombola.errors import UsageError
from tombola.motifs.judge import Judge
from tombola.motifs.network import BOUND, GeneNetwork
from tombola.motifs.reward import strict
from tombola.streams import derive, stream

__all__ = ["Discrimination", "InputSearch", "best_inputs", "discriminated", "shuffled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSearch:
    """A search for morphogen inputs that starts anew several times: each a (parents + children) hill-climb.

    Args:
        restarts: 1 or more; eight or more are advised, since most end at nothing.
        rounds: of each, 0 or more.
        parents, children: of each round, 1 or more.
        sigma: of a move in the first round, above 0; each later round has 0.9 of the one before it.
        share: of the inputs that move.

    Raises:
        UsageError: numbers out of range.

    >>> InputSearch().simulations
    3520
    """

    restarts: int = 8
    rounds: int = 10
    parents: int = 6
    children: int = 40
    sigma: float = 40.0
    share: float = 0.5

    def __post_init__(self) -> None:
        for name, least in (("restarts", 1), ("rounds", 0), ("parents", 1), ("children", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; expected a whole number, {least} or more.")
        if not 0 < self.sigma < float("inf") or not 0 < self.share <= 1:
            raise UsageError(f"sigma is {self.sigma}, share {self.share}; expected both above 0, share at most 1.")

    @property
    def simulations(self) -> int:
        """How many networks one search looks at."""
        return self.restarts * self.children * (self.rounds + 1)


def shuffled(network: GeneNetwork, seed: int) -> GeneNetwork:
    """The same weights, zeros included, in places drawn at random; the morphogen inputs stay.

    >>> one = GeneNetwork(weights=((1, 2), (3, 0)), morphogen=(5, 6))
    >>> sorted(weight for row in shuffled(one, 0).weights for weight in row)
    [0.0, 1.0, 2.0, 3.0]
    """
    flat = torch.tensor(network.weights, dtype=torch.float64).flatten()
    order = torch.randperm(len(flat), generator=stream(seed, "shuffle"))
    rows = flat[order].view(network.genes, network.genes).tolist()
    return GeneNetwork(weights=tuple(map(tuple, rows)), morphogen=network.morphogen)


def best_inputs(
    network: GeneNetwork, judge: Judge, *, seed: int, search: InputSearch | None = None
) -> tuple[float, GeneNetwork]:
    """The largest reward that a search over morphogen inputs meets, and the network with them.

    The climb goes by the fitness; all starts are uniform within -100 to 100, whatever inputs the network has.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> found, network = best_inputs(MOTIFS["2b"].network, Judge(), seed=0, search=InputSearch(restarts=2, rounds=1))
    >>> found >= 0 and network.weights == MOTIFS["2b"].network.weights
    True
    """
    given, draws = search or InputSearch(), stream(seed, "inputs")
    genes, lanes = network.genes, given.restarts
    weights = torch.tensor(network.weights)

    def weighed(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flat = inputs.flatten(0, 1)
        found = judge(weights.expand(len(flat), -1, -1), flat)
        return found.fitness.view(lanes, -1), found.reward.view(lanes, -1)

    pool = (2 * torch.rand(lanes, given.children, genes, generator=draws) - 1) * BOUND
    value, reward = weighed(pool)
    best, inputs = float(reward.max()), pool.flatten(0, 1)[reward.argmax()]
    for number in range(given.rounds):
        fittest = value.argsort(dim=1, descending=True, stable=True)[:, : given.parents]
        parents, value = pool.gather(1, fittest[:, :, None].expand(-1, -1, genes)), value.gather(1, fittest)
        chosen = torch.randint(parents.shape[1], (lanes, given.children), generator=draws)
        moves = torch.randn(lanes, given.children, genes, generator=draws) * given.sigma * 0.9**number
        moves = moves * (torch.rand(moves.shape, generator=draws) < given.share)
        children = (parents.gather(1, chosen[:, :, None].expand(-1, -1, genes)) + moves).clamp(-BOUND, BOUND)
        fresh, reward = weighed(children)
        if float(reward.max()) > best:
            best, inputs = float(reward.max()), children.flatten(0, 1)[reward.argmax()]
        pool, value = torch.cat([parents, children], 1), torch.cat([value, fresh], 1)
    return best, GeneNetwork(weights=network.weights, morphogen=tuple(inputs.tolist()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Discrimination:
    """What the same search makes of a motif and of its shuffles.

    Args:
        motif: reward of the best inputs found for the motif.
        shuffles: the same for each shuffle.
    """

    motif: float
    shuffles: tuple[float, ...]

    @property
    def reached(self) -> float:
        """The share of shuffles that are worth as much as the motif or more."""
        return sum(one >= self.motif for one in self.shuffles) / len(self.shuffles)


def discriminated(
    network: GeneNetwork,
    judge: Judge | None = None,
    *,
    seed: int,
    shuffles: int = 20,
    search: InputSearch | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Discrimination:
    """Search inputs for a motif and for shuffles of its weights, by the same means.

    Args:
        network: the motif; its own inputs are not used.
        judge: None: the strict reward; the plain one is reached by shuffles whose stripes fade.
        seed: of shuffles and searches.
        shuffles: 1 or more.
        search: None: `InputSearch()`.
        watch: told how many networks are done, the motif first.

    Raises:
        UsageError: no shuffle.
    """
    if shuffles < 1:
        raise UsageError(f"shuffles is {shuffles}; expected a whole number, 1 or more.")
    given, found = judge or Judge(reward=strict), list[float]()
    for number in range(shuffles + 1):
        one = network if number == 0 else shuffled(network, derive(seed, "shuffle", number))
        found.append(best_inputs(one, given, seed=derive(seed, "search", number), search=search)[0])
        if watch is not None:
            watch(number + 1, shuffles + 1)
    return Discrimination(motif=found[0], shuffles=tuple(found[1:]))
