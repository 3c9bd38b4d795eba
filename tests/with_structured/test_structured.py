"""Structured pruning by the package that it is handed over to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tombola.errors import UsageError
from tombola.shrinking import structured

X = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """Two convolutions around which the input of the second goes, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu()
        return self.last((x + self.second(x)).mean((2, 3)))


def test_channels_go_through_a_residual_sum_and_the_model_stays() -> None:
    model = Residual().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = structured(model, X, 0.5, protect=[model.last])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (small.first.out_channels, small.norm.num_features, small.second.out_channels) == (4, 4, 4)
    assert tuple(small.last.weight.shape) == (4, 4)
    assert tuple(small(X).shape) == tuple(model(X).shape)


def test_the_channels_with_the_largest_weights_stay() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        for scale, unit in enumerate((3, 0, 5, 1, 2, 4), start=1):
            model[0].weight[unit] = float(scale)
            model[2].weight[:, unit] = float(scale)
    small = structured(model, torch.ones(2, 4), 1 / 3, protect=[model[2]])
    assert sorted(small[0].weight[:, 0].tolist()) == [3.0, 4.0, 5.0, 6.0]


def test_a_foreign_module_is_refused() -> None:
    with pytest.raises(UsageError, match="names a module that is not part of the model"):
        structured(Residual(), X, protect=[nn.Linear(8, 4)])
