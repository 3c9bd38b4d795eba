"""A GFlowNet over networks whose numbers are on a grid: it learns to draw each as often as its reward demands."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tombola.errors import UsageError
from tombola.motifs.judge import Judge
from tombola.motifs.levels import Levels, Worth
from tombola.motifs.population import Budget, Watch
from tombola.streams import derive, seeded, stream

__all__ = ["Flow", "gflownet", "total_variation"]

_ON_POLICY, _OFF_POLICY = 64, 64
_EXPLORE = 0.05  # share of uniform choices while drawing
_REPLAYED = 2048  # best networks that are remembered


class _Policy(nn.Module):
    """The odds of each level of each choice, by the choices before it; and log Z."""

    def __init__(self, choices: int, levels: int, width: int) -> None:
        super().__init__()
        self.choices, self.levels = choices, levels
        self.body = nn.Sequential(nn.Linear(choices * levels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, choices * levels)
        self.log_total = nn.Parameter(torch.zeros(()))

    def odds(self, chosen: Tensor, place: int) -> Tensor:
        """n x levels log probabilities of the choice at a place; what is chosen there and behind it is not seen."""
        seen = nn.functional.one_hot(chosen, self.levels).float()
        seen[:, place:] = 0
        logits = self.head(self.body(seen.flatten(1))).view(-1, self.choices, self.levels)[:, place]
        odds: Tensor = logits.log_softmax(-1)
        return odds

    def forward(self, chosen: Tensor) -> Tensor:
        """n log probabilities of whole networks."""
        seen = nn.functional.one_hot(chosen, self.levels).float()[:, None].expand(-1, self.choices, -1, -1)
        before = torch.ones(self.choices, self.choices).tril(-1)[None, :, :, None]
        logits = self.head(self.body((seen * before).flatten(2))).unflatten(-1, (self.choices, self.levels))
        own = logits.diagonal(dim1=1, dim2=2).movedim(-1, 1).log_softmax(-1)
        each: Tensor = own.gather(-1, chosen[:, :, None])[..., 0]
        return each.sum(-1)

    @torch.no_grad()
    def draw(self, count: int, draws: torch.Generator, explore: float) -> Tensor:
        """Networks, count x choices, choice by choice; a share of the choices is uniform."""
        chosen = torch.zeros(count, self.choices, dtype=torch.long)
        for place in range(self.choices):
            odds = self.odds(chosen, place).exp() * (1 - explore) + explore / self.levels
            chosen[:, place] = torch.multinomial(odds, 1, generator=draws)[:, 0]
        return chosen


@dataclass(slots=True)
class _Known:
    """Rewards of all networks that were looked at; the best of them."""

    worth: Worth
    rewards: dict[bytes, float] = field(default_factory=dict)
    best: Tensor | None = None
    best_rewards: Tensor | None = None

    def of(self, chosen: Tensor) -> Tensor:
        """Their rewards; each network is simulated once."""
        names = [row.tobytes() for row in chosen.to(torch.int16).numpy()]
        fresh = {name: place for place, name in enumerate(names) if name not in self.rewards}
        if fresh:
            new = chosen[list(fresh.values())]
            rewards = self.worth(new)
            self.rewards.update(zip(fresh, rewards.tolist(), strict=True))
            self._remember(new[rewards > 0], rewards[rewards > 0])
        return torch.tensor([self.rewards[name] for name in names], dtype=torch.float64)

    def _remember(self, chosen: Tensor, rewards: Tensor) -> None:
        if self.best is not None and self.best_rewards is not None:
            chosen, rewards = torch.cat([self.best, chosen]), torch.cat([self.best_rewards, rewards])
        order = rewards.argsort(descending=True, stable=True)[:_REPLAYED]
        self.best, self.best_rewards = chosen[order], rewards[order]

    def replay(self, count: int, draws: torch.Generator, power: float) -> Tensor | None:
        """Networks of the best, drawn by a root of their rewards so that the lesser ones come too."""
        if self.best is None or self.best_rewards is None or not len(self.best):
            return None
        return self.best[torch.multinomial(self.best_rewards**power, count, replacement=True, generator=draws)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """What was learnt.

    Args:
        grid: the networks.
        beta, floor: as asked.
        log_total: the learnt log of the sum of (reward + floor)^beta over all networks.
        loss: mean of the last hundred.
        evaluations: networks that were looked at, those seen before included.
        seen: networks (rows of choices) that were simulated, in order, and their rewards.
        rewards: of `seen`.
        capped: whether the clock ended the search.
        policy: the learnt odds.
    """

    grid: Levels
    beta: float
    floor: float
    log_total: float
    loss: float
    evaluations: int
    seen: Tensor
    rewards: Tensor
    capped: bool
    policy: _Policy

    def draw(self, count: int, seed: int) -> Tensor:
        """Networks as the learnt law has them, count x choices."""
        return self.policy.draw(count, stream(seed, "flow samples"), 0.0)

    @torch.no_grad()
    def probabilities(self, chosen: Tensor) -> Tensor:
        """How often each is drawn, float64."""
        return torch.cat([self.policy(part) for part in chosen.split(4096)]).double().exp()


def gflownet(
    grid: Levels,
    worth: Worth | None = None,
    *,
    budget: Budget,
    seed: int,
    beta: float = 2.0,
    floor: float = 0.1,
    width: int = 128,
    watch: Watch | None = None,
) -> Flow:
    """Learn to draw networks with probability proportional to (reward + floor)^beta.

    Choice by choice, so that one way leads to each network, trajectory balance asks for
    log Z + sum_k log P(choice k | those before) = beta log(reward + floor); the loss is the mean square of the
    difference. Half of the networks of a step are drawn by the policy, with 5 % of uniform choices; a quarter are
    replayed from the best, and a quarter are replayed ones with one or two choices drawn anew.

    Args:
        grid: the networks.
        worth: None: the plain reward under the usual dynamics.
        budget: when it ends, counted in networks looked at; a network is simulated once, however often it comes.
        seed: of the policy and of every draw.
        beta: above 0; a larger one draws the best more often.
        floor: above 0, so that all networks have some probability.
        width: of the two hidden layers.
        watch: told how far it is.

    Raises:
        UsageError: numbers out of range.

    >>> found = gflownet(Levels(genes=1, levels=3), lambda chosen: chosen.sum(1).double(),
    ...                  budget=Budget(evaluations=20_000), seed=0, width=16)
    >>> total_variation(found, found.grid.all().sum(1).double()) < 0.1
    True

    Source: trajectory balance: Malkin et al. (2022, arXiv 2201.13259); GFlowNets: Bengio et al. (2021, arXiv
    2106.04399). Replay with mutated neighbours is ours: drawn by the policy alone, rare rewards are hardly found.
    """
    for name, number in (("beta", beta), ("floor", floor)):
        if not 0 < number < math.inf:
            raise UsageError(f"{name} is {number}; expected a number above 0.")
    known = _Known(worth or grid.worth(Judge()))
    draws = stream(seed, "flow")
    with seeded(derive(seed, "flow", "policy")):
        policy = _Policy(grid.choices, grid.levels, width)
    others = [*policy.body.parameters(), *policy.head.parameters()]
    optimizer = torch.optim.Adam([{"params": others, "lr": 2e-3}, {"params": [policy.log_total], "lr": 0.1}])
    steps = math.ceil(budget.evaluations / (_ON_POLICY + _OFF_POLICY))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.02 + 0.98 * max(0.0, 1 - step / steps))
    done, losses, began = 0, list[float](), time.monotonic()
    while not losses or not budget.over(done, began=began):
        chosen = _looked_at(policy, known, grid, draws)
        target = beta * (known.of(chosen) + floor).log()
        loss = ((policy.log_total + policy(chosen) - target.float()) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(others, 10.0)
        optimizer.step()
        schedule.step()
        losses = [*losses[-99:], loss.item()]
        done += len(chosen)
        if watch is not None:
            watch(done, max(done, budget.evaluations))
    names = b"".join(known.rewards)
    seen = torch.frombuffer(bytearray(names), dtype=torch.int16).long().view(-1, grid.choices)
    return Flow(
        grid=grid,
        beta=beta,
        floor=floor,
        log_total=policy.log_total.item(),
        loss=sum(losses) / len(losses),
        evaluations=done,
        seen=seen,
        rewards=torch.tensor(list(known.rewards.values()), dtype=torch.float64),
        capped=done < budget.evaluations,
        policy=policy,
    )


def _looked_at(policy: _Policy, known: _Known, grid: Levels, draws: torch.Generator) -> Tensor:
    """The networks of a step."""
    own = policy.draw(_ON_POLICY, draws, _EXPLORE)
    replayed = known.replay(_OFF_POLICY, draws, 1.0)
    if replayed is None:
        return torch.cat([own, torch.randint(grid.levels, (_OFF_POLICY, grid.choices), generator=draws)])
    mutants = replayed[_OFF_POLICY // 2 :].clone()
    for _ in range(2):
        places = torch.randint(grid.choices, (len(mutants), 1), generator=draws)
        mutants.scatter_(1, places, torch.randint(grid.levels, (len(mutants), 1), generator=draws))
    return torch.cat([own, replayed[: _OFF_POLICY // 2], mutants])


def total_variation(found: Flow, rewards: Tensor) -> float:
    """Half the sum of |p - q| over all networks: q is the law that was asked for, p the one that was learnt.

    Args:
        found: what was learnt.
        rewards: of every network, as `enumerated` gives them.

    Returns:
        Within 0 (the same law) to 1.
    """
    exact = (rewards + found.floor) ** found.beta
    learnt = found.probabilities(found.grid.all())
    return float((exact / exact.sum() - learnt).abs().sum() / 2)
