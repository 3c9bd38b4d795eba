"""Random networks of every structure: shrunk strictly, the outputs stay the same, and no network gets larger."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from shrink_nets import KINDS, depends, masked_by_hand, network, random_mask, same
from torch import Tensor

from tombola import shrink

SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
WIDTHS = (16, 16, 24, 32, 48, 64, 64)  # so wide that a unit still has a weight
TURNS = 15


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Two threads on networks of this size wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def batch(size: int, seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(size, 3, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@cache
def judged(kind: str) -> list[tuple[bool, bool]]:
    """Shrink and compare networks of one kind; for each whether it depends on its input, and whether it got smaller."""
    found = []
    for turn in range(TURNS):
        number = turn * len(KINDS) + list(KINDS).index(kind)
        level = turn % len(SPARSITIES)
        dtype = (torch.float64, torch.float32)[turn % 2]
        model = network(kind, WIDTHS[level], number, dtype)
        mask = random_mask(model, 1 - SPARSITIES[level], number)
        x, other, wild = batch(2, 1, dtype), batch(2, 2, dtype), batch(5, number, dtype) * 3
        before = {name: value.clone() for name, value in model.state_dict().items()}
        small = shrink(model, mask, x, inputs=("keep", "gather")[turn % 3 == 2], strict=True)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        masked = masked_by_hand(model, mask)
        assert same(masked, small.model, x, other, wild), (kind, number)
        assert small.after == sum(p.numel() for p in small.model.parameters()) <= small.before
        assert small.before == sum(p.numel() for p in model.parameters())
        assert small.fallback == ""
        found.append((depends(masked, x, other), small.after < small.before))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_network_is_the_same_function(kind: str) -> None:
    assert len(judged(kind)) == TURNS


def test_the_networks_above_are_worth_it() -> None:
    found = [entry for kind in KINDS for entry in judged(kind)]
    assert len(found) >= 200
    assert sum(alive for alive, _ in found) >= len(found) / 2
    assert sum(smaller for _, smaller in found) >= len(found) / 2
