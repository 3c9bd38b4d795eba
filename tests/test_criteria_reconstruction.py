"""What layers read: Wanda, SparseGPT and folding, against brute force on layers small enough for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.criteria import Probe, criterion_of
from tombola.criteria.calibration import grams_of, reads_of
from tombola.criteria.folding import LowVariance, LowVarianceUnits
from tombola.criteria.looking import as_matrix, layers_of, patches
from tombola.criteria.reconstruction import SparseGpt, Wanda
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.streams import seeded


class Conv1D(nn.Module):
    """The layer of Transformers' GPT-2: weight (inputs, units)."""

    def __init__(self, units: int, inputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, units)), nn.Parameter(torch.randn(units))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 4), (5,)),
    "positions": (lambda: nn.Linear(5, 4), (3, 5)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 2, stride=2), (3, 7)),
    "conv2d": (lambda: nn.Conv2d(2, 4, 3, padding=1), (2, 5, 4)),
    "same": (lambda: nn.Conv2d(2, 4, (2, 3), padding="same", padding_mode="circular"), (2, 5, 4)),
    "grouped": (lambda: nn.Conv2d(4, 6, 2, groups=2, dilation=2), (4, 5, 5)),
    "depthwise": (lambda: nn.Conv1d(3, 6, 3, groups=3, padding=2), (3, 6)),
    "gpt2": (lambda: Conv1D(4, 5), (3, 5)),
}


def one_layer(kind: str, n: int = 12, **drawn: Any) -> tuple[nn.Module, Probe]:
    made, shape = LAYERS[kind]
    with seeded(0):
        model = nn.Sequential(made()).double()
        x = torch.randn(n, *shape).double() * torch.rand(shape).double() + torch.randn(shape).double()
    return model, Probe(batches=[(x[:5], torch.zeros(5)), (x[5:], torch.zeros(n - 5))], loss=F.mse_loss, **drawn)


def dense(model: nn.Module) -> Mask:
    """Without asking which layers are known to be prunable: `Conv1D` is one of Transformers'."""
    return Mask({n: torch.ones(w.shape, dtype=torch.bool) for n, w in model.named_parameters() if w.ndim > 1})


def some(model: nn.Module, share: float) -> Mask:
    generator = torch.Generator().manual_seed(0)
    return Mask({n: torch.rand(kept.shape, generator=generator) < share for n, kept in dense(model).items()})


def inputs(probe: Probe) -> Tensor:
    return torch.cat([x for x, _ in probe.batches])


def outputs(model: nn.Module, probe: Probe, new: Mapping[str, Tensor]) -> Tensor:
    """Of the network with some parameters replaced."""
    return torch.func.functional_call(model, {**dict(model.named_parameters()), **new}, (inputs(probe),)).detach()


def weight_of(model: nn.Module, name: str = "0.weight") -> Tensor:
    return dict(model.named_parameters())[name].detach().clone()


def error(model: nn.Module, probe: Probe, weight: Tensor) -> float:
    """||W X - W' X||^2."""
    whole = outputs(model, probe, {})
    return float((whole - outputs(model, probe, {"0.weight": weight})).square().sum())


@pytest.mark.parametrize("kind", LAYERS)
class TestWhatLayersRead:
    def test_patches_times_the_matrix_are_the_outputs(self, kind: str) -> None:
        model, probe = one_layer(kind)
        layer, x = model.get_submodule("0"), inputs(probe)
        found = patches(layer, x) @ as_matrix(layer, weight_of(model)).mT  # (groups, n, units)
        with torch.no_grad():
            out = model(x) - model(torch.zeros_like(x))
        if isinstance(layer, nn.modules.conv._ConvNd):
            out = out.movedim(1, -1)
        assert torch.allclose(found.movedim(0, 1).reshape(out.shape), out, rtol=1e-10, atol=1e-12)

    def test_moments_and_grams_are_those_of_all_patches(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """However the batches are cut, and into however small parts."""
        model, probe = one_layer(kind)
        layer, mask, rows = (
            model.get_submodule("0"),
            dense(model),
            patches(model.get_submodule("0"), inputs(probe)),
        )
        for room in (1, 1 << 24):
            monkeypatch.setattr("tombola.criteria.calibration._ROOM", room)
            read = reads_of(model, mask, probe, "mine")["0.weight"]
            assert torch.allclose(read.mean, rows.mean(1), rtol=1e-10)
            assert torch.allclose(read.variance, rows.var(1, correction=0), rtol=1e-10)
            assert torch.allclose(read.squares, rows.square().sum(1), rtol=1e-10)
            out = rows @ as_matrix(layer, weight_of(model)).mT
            assert torch.allclose(read.output, out.var(1, correction=0), rtol=1e-9)
            assert torch.allclose(grams_of(model, mask, probe, "mine")["0.weight"], rows.mT @ rows, rtol=1e-10)

    def test_squared_wanda_is_what_one_removal_adds_to_the_error(self, kind: str) -> None:
        model, probe = one_layer(kind)
        weight = weight_of(model)
        scores = Wanda(per_output=False)(model, dense(model), probe)["0.weight"]
        for place in range(0, weight.numel(), 7):
            without = weight.clone()
            without.view(-1)[place] = 0
            assert float(scores.view(-1)[place] ** 2) == pytest.approx(error(model, probe, without), rel=1e-9)

    def test_wanda_takes_evenly_from_all_rows(self, kind: str) -> None:
        model, probe = one_layer(kind)
        layer, mask = model.get_submodule("0"), dense(model)
        after = Pruner(criterion=Wanda())(model, mask, mask.alive // 2, probe)
        left = as_matrix(layer, after["0.weight"]).sum(-1).flatten()
        assert int(left.max() - left.min()) <= 1
        plain = as_matrix(layer, Wanda(per_output=False)(model, mask, probe)["0.weight"])
        kept = as_matrix(layer, after["0.weight"])
        assert bool((plain.where(kept, torch.inf).amin(-1) >= plain.where(~kept, -torch.inf).amax(-1)).all())

    def test_sparsegpt_is_exact_where_what_goes_stands_before_what_stays(self, kind: str) -> None:
        """Each row is least squares on the columns that stay, with the same damping; the other way round nothing is
        made up for."""
        model, probe = one_layer(kind)
        layer, mask, shape = model.get_submodule("0"), dense(model), weight_of(model).shape
        gram = grams_of(model, mask, probe, "mine")["0.weight"]
        added = 0.05 * gram.diagonal(dim1=1, dim2=2).mean(1)
        damped = gram + added[:, None, None] * torch.eye(gram.shape[-1])
        rows = as_matrix(layer, weight_of(model))
        columns = torch.arange(gram.shape[-1])
        for stays in (columns >= 2, columns < 2):
            after = Mask({"0.weight": flat_mask(layer, stays.expand(rows.shape), shape)})
            found = as_matrix(layer, SparseGpt(damp=0.05, block=3).adjusted(model, mask, after, probe)["0.weight"])
            expected = rows * stays
            if stays[-1]:
                across = damped[:, stays][:, :, ~stays] @ rows[..., ~stays].mT
                expected[..., stays] += torch.linalg.solve(damped[:, stays][:, :, stays], across).mT
            assert torch.allclose(found, expected, rtol=1e-8, atol=1e-11)


def flat_mask(layer: nn.Module, kept: Tensor, shape: torch.Size) -> Tensor:
    return kept[0].t().contiguous() if isinstance(layer, Conv1D) else kept.reshape(shape)


class TestWanda:
    def test_with_orthogonal_inputs_the_errors_of_a_mask_add_up(self) -> None:
        """Then wanda's order within a row is the best one for ||W X - W' X||^2."""
        layer = nn.Sequential(nn.Linear(5, 4, bias=False)).double()
        x = torch.linalg.qr(torch.randn(9, 5).double())[0] * torch.tensor([1.0, 5.0, 0.2, 2.0, 3.0])
        probe = Probe(batches=[(x, torch.zeros(9))], loss=F.mse_loss)
        scores = Wanda(per_output=False)(layer, dense(layer), probe)["0.weight"]
        mask = some(layer, 0.5)["0.weight"]
        assert float(scores[~mask].square().sum()) == pytest.approx(error(layer, probe, weight_of(layer) * mask))

    def test_rows_are_measured_by_the_last_that_they_keep_of_their_survivors(self) -> None:
        layer = nn.Linear(4, 2)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[4.0, -1.0, 2.0, 9.0], [0.1, 0.3, 0.2, 0.4]]))
        mask = Mask({"weight": torch.tensor([[True, True, True, False], [True, False, False, True]])})
        probe = Probe(batches=[(torch.ones(2, 4), torch.zeros(2))], loss=F.mse_loss)
        by_budget = {
            4: [[2.0, 0.5, 1.0, 0.0], [1.0, 0.0, 0.0, 4.0]],
            2: [[1.0, 0.25, 0.5, 0.0], [0.25, 0.0, 0.0, 1.0]],
        }
        for keep, expected in by_budget.items():
            found = Wanda()(layer, mask, replace(probe, keep=keep))["weight"]
            assert torch.allclose(found, torch.tensor(expected))

    def test_inputs_are_those_of_the_masked_network(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1)).double()
        mask = Mask({"0.weight": torch.tensor([[False, False], [True, True]]), "1.weight": torch.ones(1, 2).bool()})
        probe = Probe(batches=[(torch.randn(6, 2).double(), torch.zeros(6))], loss=F.mse_loss)
        found = Wanda(per_output=False)(model, mask, probe)["1.weight"]
        assert float(found[0, 0]) == 0 and float(found[0, 1]) > 0


def procedure(weight: Tensor, gram: Tensor, alive: Tensor, counts: list[int], block: int) -> tuple[Tensor, Tensor]:
    """SparseGPT by its definition, with an inverse of what is left after every column; weights and what stays.

    Args:
        counts: how many go in each block.
    """
    weight, stays, width = weight * alive, alive.clone(), weight.shape[1]
    inverses = [torch.linalg.inv(gram[i:, i:]) for i in range(width)]
    for column in range(width):
        if column % block == 0:
            part = slice(column, min(column + block, width))
            diagonal = torch.stack([inverses[j][0, 0] for j in range(width)[part]])
            cost = (weight[:, part].square() / diagonal).where(alive[:, part], torch.inf)
            going = cost.flatten().argsort()[: counts[column // block]]
            chosen = stays[:, part].reshape(-1)
            chosen[going] = False
            stays[:, part] = chosen.view(cost.shape)
        inverse = inverses[column]
        gone = weight[:, column] * ~stays[:, column]
        weight[:, column:] -= torch.outer(gone / inverse[0, 0], inverse[0])
    return weight * stays, stays


class TestSparseGpt:
    @pytest.mark.parametrize("density", [1.0, 0.7])
    @pytest.mark.parametrize("block", [1, 3, 4, 128])
    def test_mask_and_weights_are_the_procedures_own(self, block: int, density: float) -> None:
        with seeded(0):
            model = nn.Sequential(nn.Linear(8, 7, bias=False)).double()
            x = torch.randn(40, 8).double() @ torch.randn(8, 8).double()
        mask = some(model, density)
        there, keep = mask["0.weight"], mask.alive * 5 // 8
        seen = [int(there[:, : first + block].sum()) for first in range(0, 8, block)]
        gone = [n - round(keep / mask.alive * n) for n in seen]
        counts = [b - a for a, b in zip([0, *gone], gone, strict=False)]
        probe = Probe(batches=[(x, torch.zeros(40))], loss=F.mse_loss, keep=keep)
        chosen = SparseGpt(block=block)
        cut = Pruner(criterion=chosen).cut(model, mask, keep, probe)
        gram = x.t() @ x
        gram += 0.01 * gram.diagonal().mean() * torch.eye(8)
        weights, stays = procedure(weight_of(model), gram, there, counts, block)
        assert torch.equal(cut.mask["0.weight"], stays) and int(stays.sum()) == keep
        assert torch.allclose(cut.adjusted["0.weight"], weights, rtol=1e-8, atol=1e-11)
        scores = chosen(model, mask, probe)["0.weight"]
        assert float(scores[stays].min()) > 1 >= float(scores[there & ~stays].max()) > 0
        assert not bool(scores[~there].any())

    def test_the_error_is_below_plain_masking_and_near_the_best(self) -> None:
        with seeded(0):
            model = nn.Sequential(nn.Linear(32, 16, bias=False)).double()
            x = torch.randn(200, 32).double() @ (torch.eye(32) + 0.16 * torch.randn(32, 32)).double()
        probe, mask = Probe(batches=[(x, torch.zeros(200))], loss=F.mse_loss), dense(model)
        cut = Pruner(criterion=SparseGpt(block=8)).cut(model, mask, 256, probe)
        best, weight = torch.zeros(16, 32).double(), weight_of(model)
        for row in range(16):
            kept = cut.mask["0.weight"][row]
            best[row, kept] = torch.linalg.lstsq(x[:, kept], x @ weight[row]).solution
        masked = error(model, probe, weight * cut.mask["0.weight"])
        found, least = error(model, probe, cut.adjusted["0.weight"]), error(model, probe, best)
        assert least < found < 1.6 * least < masked
        for other in (Pruner(), Pruner(criterion=Wanda())):
            assert found < 0.9 * error(model, probe, weight * other(model, mask, 256, probe)["0.weight"])

    def test_inputs_that_are_always_zero_go_first_and_harm_nothing(self) -> None:
        model = nn.Sequential(nn.Linear(6, 4, bias=False)).double()
        x = torch.randn(20, 6).double()
        x[:, 2] = 0
        probe, mask = Probe(batches=[(x, torch.zeros(20))], loss=F.mse_loss), dense(model)
        cut = Pruner(criterion=SparseGpt(damp=0.0)).cut(model, mask, 20, probe)
        assert not bool(cut.mask["0.weight"][:, 2].any())
        nothing = Probe(batches=[(x * 0, torch.zeros(20))], loss=F.mse_loss, keep=12)
        for damp in (0.0, 0.01):
            kept = Pruner(criterion=SparseGpt(damp=damp))(model, mask, 12, nothing)
            assert kept == Pruner()(model, mask, 12)  # |w| is all that is left to go by

    def test_the_dtype_stays_and_what_is_gone_stays_gone(self) -> None:
        model, probe = one_layer("conv2d")
        model.bfloat16()
        probe = Probe(batches=[(x.bfloat16(), y) for x, y in probe.batches], loss=F.mse_loss)
        before = some(model, 0.8)
        cut = Pruner(criterion=SparseGpt()).cut(model, before, before.alive // 2, probe)
        value = cut.adjusted["0.weight"]
        assert value.dtype == torch.bfloat16 and not bool(value[~cut.mask["0.weight"]].any())

    def test_what_it_cannot_do_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, probe = one_layer("linear")
        mask = dense(model)
        with pytest.raises(UsageError, match="keep="):
            SparseGpt()(model, mask, probe)
        few = Probe(batches=[(torch.ones(2, 5).double(), torch.zeros(2))], loss=F.mse_loss, keep=3)
        with pytest.raises(UsageError, match=r"singular.*larger damp"):
            SparseGpt(damp=0.0)(model, mask, few)
        monkeypatch.setattr("tombola.criteria.calibration.WIDEST", 4)
        with pytest.raises(UsageError, match=r"'0\.weight' has a fan-in of 5; expected at most 4"):
            SparseGpt()(model, mask, few)
        for option in ("block=0", "damp=-1", "damp=nan"):
            with pytest.raises(UsageError, match=option.split("=", maxsplit=1)[0]):
                criterion_of(f"sparsegpt:{option}")

    def test_a_layer_that_is_never_called_is_named(self) -> None:
        class Past(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.Linear(3, 2)

            def forward(self, x: Tensor) -> Tensor:
                return F.linear(x, self.inner.weight)

        model, probe = Past(), Probe(batches=[(torch.ones(2, 3), torch.zeros(2))], loss=F.mse_loss, keep=3)
        for name in ("wanda", "sparsegpt", "low_variance", "low_variance_units"):
            with pytest.raises(UsageError, match=rf"{name}.*'inner\.weight' was never called"):
                criterion_of(name)(model, dense(model), probe)


def constant(kind: str) -> tuple[nn.Module, Probe, Mask]:
    """One layer whose first channel or input is one number throughout; the mask without what reads it."""
    model, probe = one_layer(kind)
    channel = -1 if isinstance(model.get_submodule("0"), nn.Linear | Conv1D) else 1
    batches = [(x.clone(), y) for x, y in probe.batches]
    for x, _ in batches:
        x.select(channel, 0).fill_(1234.56789)
    after = torch.ones(weight_of(model).shape, dtype=torch.bool)
    after.select(0 if isinstance(model.get_submodule("0"), Conv1D) else 1, 0).fill_(False)
    if kind == "grouped":  # the second group's first channel is another one
        after[3:] = True
    return model, Probe(batches=batches, loss=F.mse_loss), Mask({"0.weight": after})


EXACT = ("linear", "positions", "conv1d", "same", "grouped", "gpt2")


class TestLowVariance:
    @pytest.mark.parametrize("kind", LAYERS)
    @pytest.mark.parametrize("relative", [False, True])
    def test_scores_are_the_variances_of_the_terms(self, kind: str, relative: bool) -> None:
        model, probe = one_layer(kind)
        mask = some(model, 0.7)
        layer = model.get_submodule("0")
        rows = patches(layer, inputs(probe))[:, None]  # (groups, 1, n, fan-in)
        terms = rows * as_matrix(layer, weight_of(model) * mask["0.weight"])[:, :, None]
        expected = terms.var(2, correction=0)
        if relative:
            expected = expected / terms.sum(3).var(2, correction=0)[..., None]
        found = LowVariance(relative=relative)(model, mask, probe)["0.weight"]
        assert torch.allclose(as_matrix(layer, found), expected, rtol=1e-8, atol=1e-14)

    @pytest.mark.parametrize("kind", EXACT)
    def test_at_zero_variance_folding_is_exact(self, kind: str) -> None:
        """A large constant, so that means and variances without cancellation are put to the test."""
        model, probe, after = constant(kind)
        scores = LowVariance()(model, dense(model), probe)["0.weight"]
        assert not bool(scores[~after["0.weight"]].any()) and bool((scores[after["0.weight"]] > 0).all())
        cut = Pruner(criterion=LowVariance()).cut(model, dense(model), after.alive, probe)
        assert cut.mask == after and list(cut.adjusted) == ["0.bias"]
        new = {"0.weight": weight_of(model) * after["0.weight"], **cut.adjusted}
        whole = outputs(model, probe, {})
        assert float((outputs(model, probe, new) - whole).abs().max()) <= 1e-12 * float(whole.abs().max())
        assert float((outputs(model, probe, {"0.weight": new["0.weight"]}) - whole).abs().max()) > 1

    def test_zero_padding_is_what_a_constant_channel_varies_by(self) -> None:
        """At the borders of a padded layer the constant is missing: its weights have a variance, and folding errs."""
        model, probe, after = constant("conv2d")
        scores = LowVariance()(model, dense(model), probe)["0.weight"]
        gone = ~after["0.weight"]
        assert float(scores[:, 0, 1, 1].max()) == 0  # the centre never reads the padding
        assert bool((scores[:, 0, 0] > 0).all())
        new = LowVariance().adjusted(model, dense(model), after, probe)
        there = outputs(model, probe, {"0.weight": weight_of(model) * after["0.weight"], **new})
        missed = (there - outputs(model, probe, {})).movedim(1, -1).reshape(-1, 4)
        assert gone.any() and float(missed.abs().max()) > 1
        assert float(missed.mean(0).abs().max()) < 1e-9  # right on average

    def test_means_stay_what_they_were_whatever_is_removed(self) -> None:
        model, probe = one_layer("linear")
        before = some(model, 0.8)
        cut = Pruner(criterion=LowVariance(relative=True)).cut(model, before, before.alive // 2, probe)
        first = outputs(model, probe, {"0.weight": weight_of(model) * before["0.weight"]})
        new = {"0.weight": weight_of(model) * cut.mask["0.weight"], **cut.adjusted}
        assert torch.allclose(outputs(model, probe, new).mean(0), first.mean(0), rtol=1e-10)

    def test_terms_that_cancel_to_a_constant_have_finite_shares(self) -> None:
        layer = nn.Linear(2, 2).double()
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
        x = torch.randn(8, 1).double().expand(8, 2)
        probe = Probe(batches=[(x, torch.zeros(8))], loss=F.mse_loss)
        found = LowVariance(relative=True)(layer, dense(layer), probe)["weight"]
        assert bool(found.isfinite().all()) and float(found[0].min()) > 1e6 and not bool(found[1].any())

    def test_a_layer_without_bias_gets_none(self) -> None:
        layer = nn.Linear(3, 2, bias=False)
        probe = Probe(batches=[(torch.randn(4, 3), torch.zeros(4))], loss=F.mse_loss)
        assert Pruner(criterion=LowVariance()).cut(layer, dense(layer), 3, probe).adjusted == {}


class TestLowVarianceUnits:
    @pytest.mark.parametrize("relative", [False, True])
    def test_scores_are_the_variances_of_activations(self, relative: bool) -> None:
        with seeded(0):
            model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
            x = torch.randn(10, 2, 4, 4).double()
        model.double().eval()
        probe = Probe(batches=[(x[:4], torch.zeros(4)), (x[4:], torch.zeros(6))], loss=F.mse_loss)
        found = LowVarianceUnits(relative=relative)(model, dense(model), probe)
        with torch.no_grad():
            units = model[:3](x).movedim(1, -1).reshape(-1, 3)
        expected = units.var(0, correction=0) / (units.square().mean(0) if relative else 1.0)
        rows = found["0.weight"].flatten(1)
        assert torch.allclose(rows, expected[:, None].expand(rows.shape), rtol=1e-9)
        size = model[4].weight.detach().abs()  # the output layer goes weight by weight
        assert torch.allclose(found["4.weight"] / found["4.weight"].max(), size / size.max(), rtol=1e-9)

    def test_a_constant_unit_goes_and_nothing_changes(self) -> None:
        """One is constant because ReLU is never on, one because its inputs are; both go on from their biases."""
        with seeded(0):
            model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
            x = torch.randn(20, 3).double()
        x[:, 2] = 3.0
        with torch.no_grad():
            model[0].weight[3, :2] = 0.0
            model[0].bias.copy_(torch.tensor([5.0, -100.0, 5.0, 5.0]))
        probe, mask = Probe(batches=[(x, torch.zeros(20))], loss=F.mse_loss), dense(model)
        chosen = LowVarianceUnits()
        scores = chosen(model, mask, probe)["0.weight"]
        assert (scores == 0).all(1).tolist() == [False, True, False, True]
        cut = Pruner(criterion=chosen).cut(model, mask, mask.total - 6, probe)
        assert cut.mask["0.weight"].any(1).tolist() == [True, False, True, False]
        new = {n: weight_of(model, n) * cut.mask[n] for n in mask} | dict(cut.adjusted)
        assert float((outputs(model, probe, new) - outputs(model, probe, {})).abs().max()) <= 1e-12


def test_what_is_adjusted_is_for_the_layers_of_the_mask_alone() -> None:
    with seeded(0):
        model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    mask = Mask({"0.weight": torch.ones(5, 4, dtype=torch.bool)})
    probe = Probe(batches=[(torch.randn(6, 4), torch.zeros(6))], loss=lambda out, y: out.square().mean())
    names = {}
    for name in ("obs", "woodfisher", "sparsegpt", "low_variance", "low_variance_units"):
        names[name] = set(Pruner(criterion=criterion_of(name)).cut(model, mask, 10, probe).adjusted)
    assert names == {
        **{name: {"0.weight"} for name in ("obs", "woodfisher", "sparsegpt")},
        **{name: {"0.bias"} for name in ("low_variance", "low_variance_units")},
    }
    assert list(layers_of(model, mask, "mine")) == ["0.weight"]
