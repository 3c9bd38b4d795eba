"""Edges taken away: greedy and one-shot against all sub-networks of small motifs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache, partial

import pytest

from tombola.errors import UsageError
from tombola.motifs import MOTIFS, GeneNetwork, Step, by_criterion, exhaustive, rewards, smallest, strict
from tombola.motifs.pruned import SHARE


@cache
def truth(name: str) -> list[Step]:
    up_to = 7 if name == "2" else None  # of its 14 edges: half of the time
    return exhaustive(MOTIFS[name].network, MOTIFS[name].dynamics, up_to=up_to)


def edges(steps: list[Step]) -> int:
    found = smallest(steps)
    assert found is not None
    return found.edges


@pytest.mark.parametrize(("name", "fewest"), [("22", 4), ("1", 6), ("2", 7), ("2b", 4)])
def test_greedy_finds_the_true_smallest_motif(name: str, fewest: int) -> None:
    motif, best = MOTIFS[name], truth(name)
    assert edges(best) == fewest
    down = by_criterion(motif.network, "greedy", motif.dynamics)
    assert edges(down) == fewest
    others = [by_criterion(motif.network, name, motif.dynamics) for name in ("magnitude", "leave_one_out", "random")]
    for method in (down, *others):
        assert [step.edges for step in method] == list(range(len(method) - 1, -1, -1))
        assert all(method[-1 - step.edges].reward <= step.reward for step in best)
        assert method[0].network == motif.network and method[0].reward == best[0].reward


def test_exhaustive_is_the_best_of_all_sub_networks() -> None:
    network = MOTIFS["1"].network.without([(0, 2), (2, 0)])  # 7 edges, some of them without a path to gene 1
    best = exhaustive(network)
    assert [step.edges for step in exhaustive(network, up_to=3)] == [7, 3, 2, 1, 0]
    assert exhaustive(network, up_to=3)[1:] == [replace(step, simulations=65) for step in best[4:]]
    for step in best:
        among = [
            network.without(gone) for gone in itertools.combinations(network.edges, len(network.edges) - step.edges)
        ]
        found = rewards(among)
        assert step.reward == found.max().item()
        assert rewards([step.network]).item() == step.reward
    assert best[0].simulations == 2**7


def test_magnitude_is_a_poor_guide() -> None:
    steps = by_criterion(MOTIFS["22"].network, "magnitude")
    gone = [abs(a) for row in steps[3].network.weights for a in row if a]
    assert min(gone) == 25 and edges(steps) == 6
    assert edges(by_criterion(MOTIFS["2"].network, "magnitude")) == 10


@pytest.mark.parametrize(("strictly", "fewest"), [(False, 24), (True, 23)])
def test_motif_9(strictly: bool, fewest: int) -> None:
    network, options = MOTIFS["9"].network, {"reward": strict} if strictly else {}
    down = by_criterion(network, **options)
    assert edges(down) == fewest
    assert down[-1].simulations == sum(range(2, 47)) + 47 and len(down) == 47
    assert all(set(after.network.edges) < set(before.network.edges) for before, after in itertools.pairwise(down))
    one_shot = by_criterion(network, "magnitude", **options)
    assert edges(one_shot) >= 40 and one_shot[-1].simulations == 47
    ranked = by_criterion(network, "leave_one_out", **options)
    assert edges(ranked) == 27 and ranked[-1].simulations == 94


def test_steps_say_what_they_hold() -> None:
    network = MOTIFS["2b"].network
    for step in by_criterion(network):
        assert step.edges == len(step.network.edges)
        assert step.reward == rewards([step.network]).item()
        assert step.network.morphogen == network.morphogen
    seen: list[tuple[int, int]] = []
    by_criterion(network, watch=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 16), (7, 16), (9, 16), (14, 16), (14, 14)]
    for method, total in ((exhaustive, None), (partial(by_criterion, criterion="leave_one_out"), 10)):
        seen.clear()
        steps = method(network, watch=lambda done, total: seen.append((done, total)))
        assert seen[-1][0] == seen[-1][1] and total in (None, seen[-1][1]) and steps[-1].edges == 0


def test_the_smallest_is_asked_for_a_share() -> None:
    steps = truth("1")
    assert pytest.approx(0.868, abs=1e-4) == SHARE
    whole, least = smallest(steps, 1.0), smallest(steps, 1e-9)
    assert whole is not None and whole.reward >= steps[0].reward
    assert least is not None and least.edges < 6
    assert smallest([steps[-1]]) is None
    with pytest.raises(UsageError, match=r"share is 0; expected a fraction above 0"):
        smallest(steps, 0)


def test_too_many_sub_networks_are_refused() -> None:
    with pytest.raises(
        UsageError, match="the network has 46 edges and 70,368,744,177,664 such sub-networks; at most 65,536"
    ):
        exhaustive(MOTIFS["9"].network)


def test_a_network_without_edges_has_one_sub_network() -> None:
    empty = GeneNetwork(weights=((0, 0), (0, 0)), morphogen=(5, 0))
    for steps in (exhaustive(empty), by_criterion(empty)):
        assert [(step.edges, step.reward, step.network) for step in steps] == [(0, 0.0, empty)]
