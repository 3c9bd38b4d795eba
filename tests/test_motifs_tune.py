"""The hill-climb of gene networks, and pruning with it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from cli_helpers import call, document, good

from tombola.errors import UsageError
from tombola.motifs import MOTIFS, Climb, Descent, GeneNetwork, rewards, smallest, strict, tune, tuned_greedy
from tombola.motifs.descent import tuned_magnitude
from tombola.motifs.dynamics import Dynamics
from tombola.motifs.hillclimb import Population, advanced, founded
from tombola.motifs.judge import Judge
from tombola.motifs.network import BOUND

TWO, NINE = MOTIFS["2b"].network, MOTIFS["9"].network
JUDGE = Judge(dynamics=Dynamics())


def start(network: GeneNetwork = TWO) -> Population:
    return founded(torch.tensor(network.weights), torch.tensor(network.morphogen), JUDGE)


def test_a_round_keeps_the_fittest_within_the_mask_and_the_bounds() -> None:
    mask = torch.tensor([[True, True], [False, True]])
    found = start()
    for number in range(3):
        before, found = found, advanced(found, mask, number, seed=4, climb=Climb(sigma=60.0, share=0.9), judge=JUDGE)
        assert len(found.fitness) == 6
        assert bool((found.fitness.diff() <= 0).all()) and found.fitness[0] >= before.fitness[0]
        assert bool((found.weights[:, 1, 0] == TWO.weights[1][0]).all())
        assert float(found.weights.abs().max()) <= BOUND >= float(found.morphogen.abs().max())
        again = JUDGE(found.weights, found.morphogen)
        assert torch.equal(again.fitness, found.fitness) and torch.equal(again.reward, found.reward)
    assert len({tuple(row) for row in found.morphogen.tolist()}) > 1


def test_noise_is_of_seed_and_round_alone() -> None:
    whole = torch.ones(2, 2, dtype=torch.bool)
    climb = Climb(parents=41)  # all of them go on

    def children(mask: torch.Tensor, number: int, seed: int) -> set[tuple[float, ...]]:
        return {
            tuple(row)
            for row in advanced(start(), mask, number, seed=seed, climb=climb, judge=JUDGE).morphogen.tolist()
        }

    first = children(whole, 5, 1)
    assert first == children(whole, 5, 1) == children(torch.eye(2, dtype=torch.bool), 5, 1)
    assert first != children(whole, 6, 1) and first != children(whole, 5, 2)


def test_moves_are_as_wide_and_as_many_as_said() -> None:
    five = MOTIFS["8"].network
    quiet = GeneNetwork(weights=tuple((0.0,) * 5 for _ in range(5)), morphogen=(0.0,) * 5)
    whole = torch.ones(5, 5, dtype=torch.bool)
    climb = Climb(parents=401, children=400, sigma=10.0)
    found = advanced(start(quiet), whole, 3, seed=0, climb=climb, judge=JUDGE)
    moved = found.weights[(found.weights != 0).any(2).any(1)]
    assert len(five.edges) and moved.ne(0).double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert moved[moved != 0].std().item() == pytest.approx(10 * 0.9**3, rel=0.03)


def test_tune_climbs_and_ends_where_it_is_enough() -> None:
    found = tune(NINE, reward=strict, rounds=6, seed=3)
    assert found.reward > rewards([NINE], reward=strict).item() and found.simulations == 241
    assert rewards([found.network], reward=strict).item() == found.reward
    assert set(found.network.edges) <= set(NINE.edges)
    assert tune(NINE, reward=strict, rounds=6, seed=3) == found != tune(NINE, reward=strict, rounds=6, seed=4)
    at_once = tune(NINE, rounds=6, enough=20.0)
    assert (at_once.rounds, at_once.network) == (0, NINE)
    assert tune(NINE, rounds=6, least=2, enough=20.0).rounds == 2


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^rounds is -1; expected 0 or more"):
        tune(TWO, rounds=-1)
    for wrong in ({"parents": 0}, {"children": 1.5}, {"sigma": math.nan}, {"cooling": 0.0}, {"share": 1.1}):
        with pytest.raises(UsageError, match=f"^{next(iter(wrong))} is "):
            Climb(**wrong)
    for wrong in ({"share": 0.0}, {"rate": 2.0}, {"settle": -1}, {"rounds": -1}, {"tries": 0}):
        with pytest.raises(UsageError, match=f"^{next(iter(wrong))} is "):
            Descent(**wrong)


def test_magnitude_with_tuning() -> None:
    steps = tuned_magnitude(MOTIFS["22"].network, descent=Descent(settle=1, rounds=3, tries=1))
    assert steps[0].network == MOTIFS["22"].network and steps[0].simulations == 1
    sizes = [step.edges for step in steps]
    assert sizes[:4] == [12, 11, 10, 9] and sizes == sorted(set(sizes), reverse=True)
    first = min(MOTIFS["22"].network.edges, key=lambda e: abs(MOTIFS["22"].network.weights[e[0]][e[1]]))
    assert first not in steps[1].network.edges
    enough = [step.reward >= Descent().share * steps[0].reward for step in steps]
    assert all(enough[:-1]) and [step.simulations for step in steps] == sorted({step.simulations for step in steps})
    assert steps[-1].reward == rewards([steps[-1].network]).item()


def test_greedy_with_tuning_on_motif_9() -> None:
    found = smallest(tuned_greedy(NINE, reward=strict))
    assert found is not None and found.edges <= 6 and found.reward >= 17.45


def test_a_silent_network_is_not_pruned() -> None:
    silent = GeneNetwork(weights=((50, 0), (10, 50)), morphogen=(0, 9))
    assert [step.reward for step in tuned_greedy(silent)] == [0.0]


def test_the_command(tmp_path: Path) -> None:
    called = good("motif", "prune", "2b", "--tune", "--seed", 2, "--json", tmp_path / "down.json")
    assert "Motif 2, two genes, greedy, tuned, plain reward:" in called.out
    found = document(tmp_path / "down.json")
    assert good("motif", "prune", "2b", "--tune", "--seed", 2, "--json", "-").json["steps"] == found["steps"]
    wrong = call("motif", "prune", "2b", "--tune", "--method", "exhaustive")
    assert wrong.code == 2 and "--tune goes with greedy and magnitude, not with exhaustive" in wrong.err
    drawn = [good("motif", "prune", "9", "--method", "random", "--seed", s, "--json", "-").json for s in (2, 2, 3)]
    assert drawn[0]["steps"] == drawn[1]["steps"] != drawn[2]["steps"]
