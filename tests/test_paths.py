"""Weights on a path, by what flows: as the analysis by `torch.export` finds them, and as experiments report them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tombola import Mask, run
from tombola.criteria.paths import on_path
from tombola.shrinking import Effective, effective
from tombola.shrinking.effective import follow
from tombola.streams import seeded


class Branches(nn.Module):
    """Padding, batch norm, groups, a residual sum, pooling, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.grouped, self.narrow = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.Conv2d(8, 4, 1)
        self.last = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu()
        x = torch.max_pool2d(self.narrow(x + self.grouped(x).relu()), 2).relu()
        return self.last(x.flatten(1))


REACHED: dict[str, Callable[[Mask], Effective]] = {}
NETS = {
    "mlp": (nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), torch.ones(1, 7)),
    "branches": (Branches(), torch.ones(1, 3, 8, 8)),
}


@pytest.mark.parametrize("kind", NETS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), density=st.sampled_from([0.6, 0.2, 0.08]))
def test_what_flows_is_what_the_graph_says(kind: str, seed: int, density: float) -> None:
    net, x = NETS[kind]
    dense, generator = Mask.dense(net), torch.Generator().manual_seed(seed)
    mask = Mask({name: torch.rand(shape, generator=generator) < density for name, shape in dense.shapes.items()})
    expected = REACHED.setdefault(kind, follow(net, dense, x))(mask)
    assert not expected.whole
    assert on_path(net, mask, x) == expected.mask


def test_the_model_is_not_touched() -> None:
    net, x = NETS["branches"]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    on_path(net.train(), Mask.dense(net), x)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_network_without_a_path_has_none_and_one_that_is_not_followed_says_so() -> None:
    net, x = NETS["mlp"]
    cut = Mask({name: kept if "2" not in name else torch.zeros_like(kept) for name, kept in Mask.dense(net).items()})
    found = on_path(net, cut, x)
    assert found is not None and found.alive == 0 == effective(net, cut, x).mask.alive  # type: ignore[union-attr]
    for other, shape in ((nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1)), (1, 4)), (attention(), (1, 3, 8))):
        assert on_path(other, Mask.dense(other), torch.ones(shape)) is None


def attention() -> nn.Module:
    with seeded(0):
        return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


def test_experiments_report_it_beside_the_density(tmp_path: Path) -> None:
    found = run("digits-lenet", store=tmp_path, levels=1, rate=0.97, replicates=1, steps=5, controls=("shuffled",))
    dense, ticket = found.document["arms"]["ticket"]
    shuffled = found.document["arms"]["shuffled"][0]
    assert dense["effective"] == dense["kept"]
    assert 0 < shuffled["effective"] < shuffled["kept"] == ticket["kept"]
    assert 0 < ticket["effective"] <= ticket["kept"]
