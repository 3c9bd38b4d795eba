"""Novelty search: an archive that stays small and far apart."""

from __future__ import annotations

import pytest
import torch

from tombola.errors import UsageError
from tombola.motifs import Budget, Judge, novelty_search
from tombola.motifs.novelty import crowded, distances
from tombola.motifs.simulation import stacked


def test_the_most_similar_member_is_forgotten() -> None:
    profiles = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.9], [0.5, 0.5], [1.0, 0.0]])
    assert crowded(profiles) == 2  # nearer to the rest than its twin
    assert crowded(torch.tensor([[0.0], [5.0], [0.0]])) in {0, 2}
    assert crowded(profiles[:1]) == 0
    assert distances(profiles[:1], profiles).tolist()[0] == pytest.approx([0, 1, 0.95, 0.5, 0.5])


def test_an_archive_is_bounded_and_true() -> None:
    found = novelty_search(budget=Budget(evaluations=900), seed=0, genes=3, capacity=30)
    assert len(found.archive) == 30 and found.evaluations == 960 and not found.capped
    again = Judge()(*stacked([one.network for one in found.archive]))
    assert torch.equal(again.profile, found.profiles)
    assert again.reward.tolist() == [one.reward for one in found.archive]
    assert again.boundaries.tolist() == [one.boundaries for one in found.archive]
    assert found.archive == novelty_search(budget=Budget(evaluations=960), seed=0, genes=3, capacity=30).archive


def test_members_lie_further_apart_than_at_first() -> None:
    first, later = (
        novelty_search(budget=Budget(evaluations=count), seed=1, genes=3, capacity=40) for count in (64, 1280)
    )
    assert later.apart > first.apart


def test_numbers_out_of_range() -> None:
    budget = Budget(evaluations=1)
    with pytest.raises(UsageError, match="capacity is 1; expected a whole number, 2 or more"):
        novelty_search(budget=budget, seed=0, genes=2, capacity=1)
    with pytest.raises(UsageError, match="nearest is 0; expected a whole number, 1 or more"):
        novelty_search(budget=budget, seed=0, genes=2, nearest=0)
