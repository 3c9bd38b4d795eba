"""A motif against its shuffles: the same search, the same weights in other places."""

from __future__ import annotations

import pytest

from tombola.errors import UsageError
from tombola.motifs import MOTIFS, Judge, rewards, strict
from tombola.motifs.discrimination import Discrimination, InputSearch, best_inputs, discriminated, shuffled

NETWORK = MOTIFS["2b"].network
SHORT = InputSearch(restarts=3, rounds=3, children=24)


def test_a_shuffle_has_the_same_weights_elsewhere() -> None:
    network = MOTIFS["22"].network
    one, again, other = shuffled(network, 1), shuffled(network, 1), shuffled(network, 2)
    assert one == again != other and one.weights != network.weights and one.morphogen == network.morphogen
    for found in (one, other):
        assert sorted(sum(found.weights, ())) == sorted(sum(network.weights, ()))


def test_the_best_inputs_are_worth_what_is_said() -> None:
    judge = Judge(reward=strict)
    best, network = best_inputs(NETWORK, judge, seed=0, search=SHORT)
    assert network.weights == NETWORK.weights and network.morphogen != NETWORK.morphogen
    assert best == rewards([network], reward=strict).item() > 0
    assert (best, network) == best_inputs(NETWORK, judge, seed=0, search=SHORT)
    begin, _ = best_inputs(NETWORK, judge, seed=0, search=InputSearch(restarts=3, rounds=0, children=24))
    assert begin <= best


def test_a_motif_is_searched_as_its_shuffles_are() -> None:
    seen: list[tuple[int, int]] = []
    search = InputSearch(restarts=2, rounds=1, children=10)
    found = discriminated(NETWORK, seed=0, shuffles=3, search=search, watch=lambda *told: seen.append(told))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)] and len(found.shuffles) == 3
    assert found == discriminated(NETWORK, seed=0, shuffles=3, search=search)
    assert found.motif >= 0 and len(set(found.shuffles)) >= 1
    assert Discrimination(motif=3.0, shuffles=(0.0, 3.0, 4.0, 2.9)).reached == 0.5


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: InputSearch(restarts=0), "restarts is 0; expected a whole number, 1 or more"),
        (lambda: InputSearch(rounds=-1), "rounds is -1; expected a whole number, 0 or more"),
        (lambda: InputSearch(sigma=0.0), "sigma is 0.0, share 0.5; expected both above 0"),
        (lambda: discriminated(NETWORK, seed=0, shuffles=0), "shuffles is 0; expected a whole number, 1 or more"),
    ],
)
def test_numbers_out_of_range(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(UsageError, match=said):
        make()
