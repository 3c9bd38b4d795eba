"""The reward around a network: every number that is shown is a network's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cli_helpers import good

from tombola.errors import UsageError
from tombola.motifs import MOTIFS, GeneNetwork, rewards
from tombola.motifs.landscape import cut, knockouts, landscape, neighbours

NETWORK = MOTIFS["1"].network


def with_weights(network: GeneNetwork, changed: dict[tuple[int, int], float]) -> GeneNetwork:
    rows = [[changed.get((i, j), weight) for j, weight in enumerate(row)] for i, row in enumerate(network.weights)]
    return replace(network, weights=tuple(map(tuple, rows)))


def test_knockouts_are_rewards_without_an_edge() -> None:
    found = knockouts(NETWORK)
    assert list(found) == list(NETWORK.edges)
    assert list(found.values()) == rewards([NETWORK.without([edge]) for edge in NETWORK.edges]).tolist()
    assert knockouts(NETWORK.without(NETWORK.edges)) == {}


def test_neighbours_differ_in_one_number() -> None:
    network = MOTIFS["2b"].network
    found = neighbours(network, step=25.0)
    weights = {edge: network.weights[edge[0]][edge[1]] for edge in network.edges}
    among = [
        with_weights(network, {edge: weight + step})
        for edge, weight in weights.items()
        for step in (25, -25)
        if abs(weight + step) <= 100
    ]
    among += [
        replace(network, morphogen=tuple(one + step * (gene == place) for gene, one in enumerate(network.morphogen)))
        for place in range(2)
        for step in (25, -25)
    ]
    assert len(among) == 10
    assert list(found.rewards) == rewards(among).tolist()
    assert found.reward == rewards([network]).item()
    assert found.neutral + found.better + found.worse == pytest.approx(1)
    small = neighbours(NETWORK, step=1.0)
    assert small.neutral > neighbours(NETWORK, step=25.0).neutral
    assert neighbours(NETWORK, step=1.0, slack=1.0).worse == 0
    assert neighbours(NETWORK, step=1.0, slack=0.0).neutral <= small.neutral


def test_a_cut_is_the_reward_of_each_pair() -> None:
    found = cut(NETWORK, (1, 0), (0, 0), points=3, reach=10)
    assert [*map(list, found.values)] == [[-85, -75, -65], [80, 90, 100]]
    for row, one in enumerate(found.values[0]):
        among = [with_weights(NETWORK, {(1, 0): one, (0, 0): other}) for other in found.values[1]]
        assert found.rewards[row].tolist() == rewards(among).tolist()
    assert found.rewards[1, 1].item() == rewards([NETWORK]).item()


def test_the_landscape_goes_by_the_edges_that_are_missed_most(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = landscape(NETWORK, points=5, watch=lambda *told: seen.append(told))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    least = sorted(found.without.values())[:2]
    assert sorted(found.without[edge] for edge in (found.plane.one, found.plane.other)) == least
    good("motif", "plot", "2b", "--landscape", "--out", tmp_path / "both.png")
    assert (tmp_path / "both.png").read_bytes()[:4] == b"\x89PNG"


def test_numbers_out_of_range() -> None:
    for wrong, said in (
        (lambda: neighbours(NETWORK, step=0), "step is 0; expected a number above 0 and at most 100"),
        (lambda: neighbours(NETWORK, slack=-1), "slack is -1; expected a share, 0 or more"),
        (lambda: cut(NETWORK, (0, 0), (0, 0)), r"both edges of the cut are \(0, 0\); expected two"),
        (lambda: cut(NETWORK, (0, 0), (0, 4)), r"the cut goes by edge \(0, 4\); the network has genes 0 to 3"),
        (lambda: cut(NETWORK, (0, 0), (0, 1), points=1), "points is 1; expected 2 or more"),
        (lambda: cut(NETWORK, (0, 0), (0, 1), reach=0), "reach is 0; expected a number above 0"),
        (lambda: landscape(NETWORK.without(NETWORK.edges[1:])), "the network has 1 edges; a cut needs two"),
    ):
        with pytest.raises(UsageError, match=said):
            wrong()
