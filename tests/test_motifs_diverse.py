"""Searches for many networks: MAP-Elites and the GFlowNet, against what they promise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tombola.errors import UsageError
from tombola.motifs import (
    MOTIFS,
    Budget,
    Found,
    GeneNetwork,
    Levels,
    enumerated,
    gflownet,
    map_elites,
    plain,
    read,
    rewards,
    scored,
    simulate,
    strict,
    topologies,
)
from tombola.motifs.flow import total_variation
from tombola.motifs.judge import Judge
from tombola.motifs.population import confirmed, mutated, random_networks
from tombola.motifs.simulation import Engine, stacked
from tombola.streams import stream


def test_a_judge_says_what_the_rewards_say() -> None:
    networks = [MOTIFS["22"].network, MOTIFS["1"].network, replace(MOTIFS["1"].network, morphogen=(0, 0, 0, 0))]
    for reward in (plain, strict):
        found = Judge(reward=reward)(*stacked(networks))
        assert found.reward.tolist() == rewards(networks, reward=reward).tolist()
        assert found.boundaries.tolist() == [17, 20, 0] and found.reward[2] == 0 and not found.profile[2].any()
        assert bool((found.fitness >= found.reward).all())


TWINS = GeneNetwork(weights=((100, -100), (-100, 100)), morphogen=(100, 100))
"""Two genes wired alike: only rounding tells them apart, and in float32 it grows into stripes."""


def test_stripes_of_rounding_are_worth_nothing() -> None:
    networks = [TWINS, MOTIFS["2b"].network]
    plainly, checked = Judge()(*stacked(networks)), Judge(checked=True)(*stacked(networks))
    exact = plain(read(simulate(networks, genes=(0,), engine=Engine.TORCH, dtype=torch.float64)[:, 0]))
    assert plainly.reward[0] > 20 and checked.reward.tolist() == exact.tolist() and exact[0] == 0
    assert checked.boundaries.tolist() == [0, 6] and not checked.profile[0].diff().abs().gt(1e-3).any()
    found = [Found(network=one, reward=43.4, boundaries=9) for one in networks]
    assert [one.reward for one in confirmed(found, Judge())] == exact.tolist() and confirmed([], Judge()) == []
    coarse = scored(TWINS).coarse
    assert coarse is not None and "rounding decides on its pattern" in coarse and "plain reward is 0.000" in coarse


def test_children_are_networks_and_some_lose_edges() -> None:
    draws = stream(0, "test")
    parents = random_networks(5, 600, draws)
    assert bool((parents[0].flatten(1) == 0).any()) and parents[0].abs().max() == 100
    weights, morphogen = mutated(*parents, draws)
    for numbers in (weights, morphogen):
        assert numbers.abs().max() <= 100 and bool((numbers == numbers.round()).all())
    before, after = ((part != 0).sum((1, 2)) for part in (parents[0], weights))
    assert 0.2 < (after < before).float().mean() < 0.8 and 0.02 < (after > before).float().mean() < 0.4
    changed = (weights != parents[0]).flatten(1).any(1) | (morphogen != parents[1]).any(1)
    assert changed.float().mean() > 0.9
    only_dropped = mutated(*parents, draws, share=0.0, grow=0.0, most=2)[0]
    lost = before - (only_dropped != 0).sum((1, 2))
    assert sorted(set(lost[before >= 2].tolist())) == [0, 1, 2]
    kept = only_dropped != 0
    assert bool((only_dropped[kept] == parents[0][kept]).all())


def test_elites_hold_the_best_of_each_cell() -> None:
    seen: list[tuple[int, int]] = []
    found = map_elites(
        budget=Budget(evaluations=1000), seed=1, genes=4, first=256, watch=lambda *told: seen.append(told)
    )
    assert found.evaluations == 1024 and not found.capped and seen[-1] == (1024, 1024)
    assert len({(one.edges, one.boundaries) for one in found.cells}) == len(found.cells) > 12
    again = Judge()(*stacked([one.network for one in found.cells]))
    assert again.reward.tolist() == [one.reward for one in found.cells]
    assert again.boundaries.tolist() == [one.boundaries for one in found.cells]
    top = max(one.reward for one in found.cells)
    assert found.above(top) == tuple(one for one in found.cells if one.reward == top)
    assert "-0.0" not in str(found)
    more = map_elites(budget=Budget(evaluations=1024), seed=1, genes=4, first=256)
    assert more == found and more != map_elites(budget=Budget(evaluations=1024), seed=2, genes=4, first=256)
    short = map_elites(budget=Budget(evaluations=600), seed=1, genes=4, first=256)
    best = {(one.edges, one.boundaries): one.reward for one in short.cells}
    later = {(one.edges, one.boundaries): one.reward for one in found.cells}
    assert best.keys() <= later.keys()  # a cell once taken stays taken
    assert all(later[cell] >= reward - 0.41 for cell, reward in best.items())  # the fitness adds 0.4 at most


def test_a_clock_stops_a_search() -> None:
    found = map_elites(budget=Budget(evaluations=10**9, seconds=1e-9), seed=0, genes=2)
    assert found.capped and found.evaluations == 64


def test_signs_are_counted_once() -> None:
    network = MOTIFS["2b"].network
    one = Found(network=network, reward=1.0, boundaries=6)
    assert one.edges == 4 and one.signs == ((1, -1), (1, 1))
    assert topologies([one, replace(one, network=network.transposed())]) == 2
    assert topologies([one, replace(one, network=replace(network, morphogen=(-5, 0)))]) == 1
    assert topologies([]) == 0


def hill(chosen: torch.Tensor) -> torch.Tensor:
    """Two far peaks and nothing between them."""
    return sum(
        (5.0 * (chosen == torch.tensor(peak)).all(1).double() for peak in ([0, 2], [2, 0])),
        torch.zeros(len(chosen), dtype=torch.float64),
    )


def test_the_flow_learns_the_exact_law() -> None:
    grid = Levels(genes=1, levels=3)
    truth = enumerated(grid, hill)
    assert truth.tolist() == [0, 0, 5, 0, 0, 0, 5, 0, 0]
    found = gflownet(grid, hill, budget=Budget(evaluations=40_000), seed=0, width=16, beta=0.5)
    exact = (truth + 0.1).sqrt()
    learnt = found.probabilities(grid.all())
    assert learnt.sum().item() == pytest.approx(1, abs=1e-5)
    assert total_variation(found, truth) < 0.05
    assert total_variation(found, truth) == pytest.approx(float((learnt - exact / exact.sum()).abs().sum() / 2))
    assert found.log_total == pytest.approx(exact.sum().log().item(), abs=0.1)
    drawn = found.draw(4000, seed=1)
    share = (hill(drawn) == 5).double().mean().item()
    assert share == pytest.approx((2 * 5.1**0.5 / exact.sum()).item(), abs=0.05)
    assert hill(found.seen).tolist() == found.rewards.tolist()
    assert len(found.seen.unique(dim=0)) == len(found.seen) == 9


def test_a_flow_is_the_same_for_a_seed() -> None:
    grid = Levels(genes=2, levels=3)
    one, two, other = (gflownet(grid, budget=Budget(evaluations=600), seed=seed, width=16) for seed in (3, 3, 4))
    assert one.evaluations == 640 and not one.capped
    assert torch.equal(one.seen, two.seen) and one.loss == two.loss and one.loss != other.loss
    assert torch.equal(one.draw(50, seed=0), two.draw(50, seed=0))
    weights, morphogen = grid.networks(one.seen)
    assert Judge()(weights, morphogen).reward.tolist() == one.rewards.tolist()


def test_a_grid_lists_every_network_once() -> None:
    grid = Levels(genes=2, levels=3)
    every = grid.all()
    assert every.shape == (729, 6) and len(every.unique(dim=0)) == 729
    weights, morphogen = grid.networks(torch.tensor([[0, 1, 2, 2, 1, 0]]))
    assert weights.tolist() == [[[-100, 0], [100, 100]]] and morphogen.tolist() == [[0, -100]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Budget(evaluations=0), "evaluations is 0; expected a whole number, 1 or more"),
        (lambda: Budget(evaluations=1, seconds=0), "seconds is 0; expected a number above 0"),
        (lambda: Levels(genes=0, levels=5), "genes is 0; expected a whole number within 1 to 64"),
        (lambda: Levels(genes=2, levels=1), "levels is 1; expected a whole number within 2 to 201"),
        (lambda: Levels(genes=3, levels=9).all(), "3 genes at 9 levels make 9.12 networks; at most 131,072"),
        (lambda: map_elites(budget=Budget(evaluations=1), seed=0, genes=99), "genes is 99; expected"),
        (lambda: map_elites(budget=Budget(evaluations=1), seed=0, first=0), "first is 0; expected 1 or more"),
        (
            lambda: gflownet(Levels(genes=1, levels=2), budget=Budget(evaluations=1), seed=0, beta=0),
            "beta is 0; expected a number above 0",
        ),
        (
            lambda: gflownet(Levels(genes=1, levels=2), budget=Budget(evaluations=1), seed=0, floor=0),
            "floor is 0; expected a number above 0",
        ),
    ],
)
def test_numbers_out_of_range(wrong: object, said: str) -> None:
    assert callable(wrong)
    with pytest.raises(UsageError, match=said):
        wrong()
