"""Silenced units against brute force; correlations of both ends of a weight against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from criteria_helpers import network, probe
from helpers import random_mask
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.criteria import Probe
from tombola.criteria import hebbian as hebbian_module
from tombola.criteria.hebbian import Hebbian
from tombola.criteria.looking import as_matrix, patches
from tombola.criteria.sensitivity import Measure, OutputSensitivity
from tombola.errors import UsageError
from tombola.masks import Mask


@pytest.fixture(autouse=True)
def drawn() -> None:
    """The same draws whatever ran before."""
    torch.manual_seed(0)


def kl(z: Tensor, other: Tensor) -> float:
    p, q = z.softmax(1), other.softmax(1)
    return float((p * (p / q).log()).sum(1).mean())


def masked(model: nn.Module, mask: Mask) -> nn.Sequential:
    with torch.no_grad():
        for name in mask:
            model.get_parameter(name).mul_(mask[name])
    assert isinstance(model, nn.Sequential)
    return model


@pytest.mark.parametrize("to_mean", [False, True])
@pytest.mark.parametrize("kind", ["double", "conv"])
@torch.no_grad()
def test_silenced_units_by_brute_force(kind: str, to_mean: bool) -> None:
    model = network(kind).double().eval()
    mask, seen = random_mask(model, 0.8), probe(model, kind, size=9)
    found = {
        measure: OutputSensitivity(measure=measure, to_mean=to_mean)(model, mask, seen)["0.weight"]
        for measure in Measure
    }
    net, until = masked(model, mask), 2 if kind == "double" else 3
    x = torch.cat([x for x, _ in seen.batches])
    active, out = net[:until](x), net(x)
    for unit in range(6):
        changed = active.clone()
        changed[:, unit] = active[:, unit].mean() if to_mean else 0.0
        other = net[until:](changed)
        expected = {Measure.KL: kl(out, other), Measure.SQUARE: float((out - other).square().mean())}
        for measure, scores in found.items():
            if mask["0.weight"][unit].any():
                assert scores[unit].flatten().tolist() == pytest.approx([expected[measure]] * scores[unit].numel())


@torch.no_grad()
def test_batches_of_different_sizes_count_by_their_examples() -> None:
    model, whole = network("conv").double(), torch.randn(10, 2, 4, 4, dtype=torch.float64)
    labels = torch.zeros(10).long()
    found = [
        OutputSensitivity()(
            model,
            Mask.dense(model),
            Probe(batches=list(zip(whole.split(cut), labels.split(cut), strict=True)), loss=F.cross_entropy),
        )
        for cut in ([10], [1, 9])
    ]
    assert torch.allclose(found[0]["0.weight"], found[1]["0.weight"], rtol=1e-9)


@torch.no_grad()
def test_a_layer_that_is_used_twice_is_silenced_both_times() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor, silent: int | None = None) -> Tensor:
            for _ in range(2):
                x = torch.sigmoid(self.fc(x))
                if silent is not None:
                    x[:, silent] = 0.0
            out: Tensor = self.head(x)
            return out

    model, x = Twice().double(), torch.randn(6, 4, dtype=torch.float64)
    seen = Probe(batches=[(x, torch.zeros(6).long())], loss=F.cross_entropy)
    scores = OutputSensitivity()(model, Mask.dense(model), seen)["fc.weight"]
    assert scores[:, 0].tolist() == pytest.approx([kl(model(x), model(x, unit)) for unit in range(4)])


def test_one_output_has_no_classes() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    seen = Probe(batches=[(torch.randn(5, 3), torch.zeros(5, 1))], loss=F.mse_loss)
    with pytest.raises(UsageError, match=r"shape \(5, 1\); .*measure=square"):
        OutputSensitivity()(model, Mask.dense(model), seen)
    assert OutputSensitivity(measure=Measure.SQUARE)(model, Mask.dense(model), seen)


def test_units_without_weights_cost_nothing() -> None:
    model, calls = network("double"), []
    mask = Mask({"0.weight": torch.arange(6)[:, None].expand(6, 8) < 2, "2.weight": torch.ones(4, 6) > 0})
    seen = probe(model, "double")
    Counting.calls = calls
    OutputSensitivity()(Counting(*model), mask, seen)
    assert len(calls) == 2 * (1 + 2)  # of each batch: one as it is, one for each unit that is alive


class Counting(nn.Sequential):
    """Counts its forward passes, those of its copies too."""

    calls: list[int]

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        out: Tensor = super().forward(x)
        return out


HEBBIAN: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...], tuple[int, ...]]] = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), (5,), (0, 2, 2, 3)),
    "sequence": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), (6, 5), (0, 2, 2, 3)),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3, groups=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 2, stride=2)
        ),
        (4, 5, 5),
        (0, 3, 3, 4),
    ),
    "pooled before the nonlinearity": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(4, 3, 2)),
        (2, 6, 6),
        (0, 1, 3, 4),
    ),
}


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("kind", HEBBIAN)
@torch.no_grad()
def test_hebbian_is_numpys_correlation(kind: str, product: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    build, shape, (first, behind, second, end) = HEBBIAN[kind]
    model = build().double().eval()
    x = torch.randn(20, *shape, dtype=torch.float64) + 1
    mask = Mask.dense(model)
    seen = Probe(batches=[(part, torch.zeros(len(part)).long()) for part in x.split([7, 13])], loss=F.cross_entropy)
    found = Hebbian(product=product)(model, mask, seen)
    for at, until in ((first, behind), (second, end)):
        layer, out = model[at], model[:until](x)
        rows = patches(layer, model[:at](x))
        units = (out.movedim(1, -1) if isinstance(layer, nn.Conv2d) else out).reshape(rows.shape[1], -1)
        columns = units.reshape(rows.shape[1], len(rows), -1).movedim(1, 0)
        scores = as_matrix(layer, found[f"{at}.weight"])
        for group in range(len(rows)):
            a, b = columns[group].t().numpy(), rows[group].t().numpy()
            with np.errstate(invalid="ignore"):  # a unit that is dead on these examples: 0
                correlation = np.nan_to_num(abs(np.corrcoef(a, b)[: len(a), len(a) :]))
            expected = a @ b.T / a.shape[1] if product else correlation
            assert np.allclose(scores[group].numpy(), expected, atol=1e-10)
    monkeypatch.setattr(hebbian_module, "_NUMBERS", 1)  # patches of one example at a time
    again = Hebbian(product=product)(model, mask, seen)
    assert all(torch.allclose(again[n], found[n], rtol=1e-10, atol=1e-12) for n in mask)


@torch.no_grad()
def test_an_end_that_never_moves_scores_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    model[0].bias.copy_(torch.tensor([-1e6, 1e6]))  # dead, and far from zero
    x = torch.randn(30, 3, dtype=torch.float64)
    x[:, 1] = 1e4 / 3
    seen = Probe(batches=[(x, torch.zeros(30).long())], loss=F.cross_entropy)
    scores = Hebbian()(model, Mask.dense(model), seen)
    assert scores["0.weight"][0].tolist() == [0.0, 0.0, 0.0]
    assert scores["0.weight"][1, 1] == 0
    assert scores["2.weight"][:, 0].tolist() == [0.0, 0.0]
    assert bool((scores["0.weight"][1, [0, 2]] > 0).all())
