"""Optimal brain damage and surgeon: Hessians by autograd, refits by least squares, whole experiments."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Counting, numbers, random_mask, same_state, tiny_data, tiny_recipe
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.answers import Pruned
from tombola.criteria import Probe, criterion_of
from tombola.criteria.second_order import Obd
from tombola.criteria.surgeon import Obs, WoodFisher
from tombola.errors import UsageError
from tombola.experiment import prepare, run
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import Fit
from tombola.starts import Adjusted
from tombola.store import Store
from tombola.streams import seeded
from tombola.training.evaluation import evaluate
from tombola.training.state import load_state


def smooth(seed: int = 0) -> nn.Module:
    """A network with a Hessian everywhere: 4-3-2, tanh."""
    with seeded(seed):
        return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()


def examples(*sizes: int, width: int = 4, seed: int = 0) -> Probe:
    generator = torch.Generator().manual_seed(seed)
    batches = [
        (torch.randn(n, width, generator=generator).double(), torch.randint(2, (n,), generator=generator))
        for n in sizes
    ]
    return Probe(seed=seed, batches=batches, loss=F.cross_entropy)


def masked(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    return {n: w.detach() * mask[n] if n in mask else w.detach() for n, w in model.named_parameters()}


def hessian(model: nn.Module, mask: Mask, probe: Probe, name: str) -> Tensor:
    """Of the mean loss over all examples at once, by one masked tensor, (weights, weights)."""
    x, y = (torch.cat(parts) for parts in zip(*probe.batches, strict=True))
    at = masked(model, mask)

    def loss(flat: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(model, {**at, name: flat.view(at[name].shape)}, (x,)), y)

    found: Tensor = torch.autograd.functional.hessian(loss, at[name].flatten())
    return found


def fisher_rows(model: nn.Module, mask: Mask, probe: Probe, name: str) -> Tensor:
    """Gradients of single examples by one masked tensor, 0 at pruned places, (examples, weights)."""
    x, y = (torch.cat(parts) for parts in zip(*probe.batches, strict=True))
    at = masked(model, mask)

    def loss(flat: Tensor, one: Tensor, label: Tensor) -> Tensor:
        weights = {**at, name: flat.view(at[name].shape)}
        return F.cross_entropy(torch.func.functional_call(model, weights, (one[None],)), label[None])

    found: Tensor = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(at[name].flatten(), x, y)
    return found * mask[name].flatten()


class TestObd:
    @pytest.mark.parametrize("density", [1.0, 0.6])
    @pytest.mark.parametrize("sizes", [(20,), (5, 15)])
    def test_exact_is_the_diagonal_of_the_autograd_hessian(self, density: float, sizes: tuple[int, ...]) -> None:
        model, probe = smooth(), examples(*sizes)
        mask = random_mask(model, density)
        scores = Obd(floor=0.0)(model, mask, probe)
        for name in mask:
            curvature = hessian(model, mask, probe, name).diagonal().clamp(min=0).view(mask.shapes[name])
            expected = curvature * masked(model, mask)[name].square() / 2
            assert torch.allclose(scores[name], expected, rtol=1e-9, atol=1e-14)
        assert any(bool((hessian(model, mask, probe, name).diagonal() > 1e-3).any()) for name in mask)

    def test_the_estimate_is_exact_where_the_hessian_is_diagonal(self) -> None:
        """Random signs square to 1, so a single draw is enough."""
        layer = nn.Linear(4, 1, bias=False).double()
        x = torch.linalg.qr(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double())[0]
        probe = Probe(batches=[(x, torch.zeros(6, 1).double())], loss=F.mse_loss)
        drawn = Obd(exact=0, samples=1)(layer, Mask.dense(layer), probe)["weight"]
        assert torch.allclose(drawn, layer.weight.detach().square() / 6, rtol=1e-12)

    def test_the_estimate_has_the_variance_that_is_said(self) -> None:
        """Mean over draws within 5 standard errors of the diagonal; sum of squares beside it / samples."""
        model, samples = smooth(), 2000
        probe, mask = examples(20), Mask.dense(smooth())
        with torch.no_grad():
            model[0].weight.abs_()
        drawn = Obd(exact=0, samples=samples, floor=0.0)(model, mask, probe)
        parameters = dict(model.named_parameters())
        x, y = probe.batches[0]

        def loss(first: Tensor, last: Tensor) -> Tensor:
            weights = {**parameters, "0.weight": first, "2.weight": last}
            return F.cross_entropy(torch.func.functional_call(model, weights, (x,)), y)

        both = [parameters[name].detach() for name in mask]
        blocks = torch.autograd.functional.hessian(loss, tuple(both))
        rows = [torch.cat([b.reshape(both[i].numel(), -1) for b in blocks[i]], 1) for i in range(2)]
        whole = torch.cat(rows)
        diagonal = whole.diagonal()
        error = ((whole.square().sum(1) - diagonal.square()) / samples).sqrt()
        weights = torch.cat([w.flatten() for w in both])
        found = torch.cat([drawn[name].flatten() for name in mask]) * 2 / weights.square()
        assert bool(((found - diagonal.clamp(min=0)).abs() <= 5 * error + 1e-12).all())
        assert bool((error > 1e-4).any())

    def test_without_curvature_the_small_weights_go_first(self) -> None:
        """-x^2 curves down: at the floor all curvatures are one, and the order is that of |w|."""
        layer = nn.Linear(3, 1, bias=False).double()
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[-2.0, 0.5, 1.0]]))
        x = torch.tensor([[1.0, 3.0, 2.0]]).double()
        probe = Probe(batches=[(x, torch.zeros(1, 1).double())], loss=lambda out, y: -(out - y).square().mean())
        scores = Obd(floor=0.1)(layer, Mask.dense(layer), probe)["weight"]
        least = 0.1 * 2 * (1 + 9 + 4) / 3
        assert torch.allclose(scores, least * torch.tensor([[4.0, 0.25, 1.0]]).double() / 2)
        assert not bool(Obd(floor=0.0)(layer, Mask.dense(layer), probe)["weight"].any())

    def test_a_loss_that_is_linear_in_the_weights_has_none(self) -> None:
        layer = nn.Linear(3, 1)
        probe = Probe(batches=[(torch.ones(2, 3), torch.zeros(2))], loss=lambda out, y: out.mean())
        for exact in (0, 100):
            assert not bool(Obd(exact=exact)(layer, Mask.dense(layer), probe)["weight"].any())

    def test_attention_by_the_fused_kernel_is_differentiated_twice(self) -> None:
        class Attends(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner, self.outer = nn.Linear(4, 12), nn.Linear(4, 2)

            def forward(self, x: Tensor) -> Tensor:
                q, k, v = self.inner(x).view(len(x), 3, 1, 4).unbind(1)
                out: Tensor = self.outer(F.scaled_dot_product_attention(q[None], k[None], v[None])[0, :, 0])
                return out

        model = Attends()
        probe = Probe(batches=[(torch.randn(5, 4), torch.zeros(5, dtype=torch.long))], loss=F.cross_entropy)
        assert bool(Obd()(model, Mask.dense(model), probe)["inner.weight"].any())

    @pytest.mark.parametrize("option", ["exact=-1", "samples=0", "floor=2", "floor=nan"])
    def test_options_out_of_range(self, option: str) -> None:
        with pytest.raises(UsageError, match=option.split("=", 1)[0]):
            criterion_of(f"obd:{option}")


def regression(inputs: int = 6, n: int = 40, seed: int = 0) -> tuple[nn.Module, Probe]:
    """A fitted linear regression whose residuals are +1 and -1: its Fisher matrix is its Hessian, X^T X / n."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.ones(n).double()
    signs[: n // 2] = -1
    x = torch.randn(n, inputs, generator=generator).double() @ torch.randn(inputs, inputs, generator=generator).double()
    x = x - torch.outer(signs, signs @ x) / n  # residuals orthogonal to the inputs: the fit is the best one
    layer = nn.Linear(inputs, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(1, inputs, generator=generator))
    y = layer(x).detach() + signs[:, None]
    return layer, Probe(batches=[(x, y)], loss=lambda out, y: (out - y).square().mean() / 2)


def refit(probe: Probe, kept: list[int]) -> tuple[float, Tensor]:
    """The smallest loss with these inputs alone, and the weights that have it."""
    (x, y), loss = probe.batches[0], probe.loss
    weights = torch.linalg.lstsq(x[:, kept], y).solution
    assert loss is not None
    return float(loss(x[:, kept] @ weights, y)), weights[:, 0]


class TestObs:
    def test_each_score_is_what_the_best_refit_loses(self) -> None:
        layer, probe = regression()
        scores = Obs(damping=1e-13)(layer, Mask.dense(layer), probe)["weight"][0]
        whole, _ = refit(probe, list(range(6)))
        assert whole == pytest.approx(0.5)
        for gone in range(6):
            loss, _ = refit(probe, [j for j in range(6) if j != gone])
            assert float(scores[gone]) == pytest.approx(loss - whole, rel=1e-9)
        assert scores.argsort().tolist() != layer.weight[0].abs().argsort().tolist()

    @pytest.mark.parametrize("gone", [s for n in (1, 2, 4) for s in itertools.combinations(range(6), n)])
    def test_survivors_become_the_best_refit(self, gone: tuple[int, ...]) -> None:
        """Jointly for all that is removed: one after the other would not be enough."""
        layer, probe = regression()
        kept = [j for j in range(6) if j not in gone]
        after = Mask({"weight": torch.tensor([[j in kept for j in range(6)]])})
        found = Obs(damping=1e-13).adjusted(layer, Mask.dense(layer), after, probe)["weight"][0]
        assert torch.allclose(found[kept], refit(probe, kept)[1], rtol=1e-8)
        assert not bool(found[list(gone)].any())

    def test_a_second_cut_goes_by_what_is_left(self) -> None:
        """Weights that went before are no part of H, whatever values they have in the network."""
        layer, probe = regression()
        first = [0, 2, 3, 5]
        before = Mask({"weight": torch.tensor([[j in first for j in range(6)]])})
        x, weights = probe.batches[0][0], layer.weight.detach() * before["weight"]
        with torch.no_grad():
            layer.weight.masked_fill_(~before["weight"], 77.0)
        probe = Probe(batches=[(x, x @ weights.t() + 1)], loss=probe.loss)  # residuals of one size: H is X^T X / n
        scores = Obs(damping=1e-13)(layer, before, probe)["weight"][0]
        inverse = torch.linalg.inv(x[:, first].t() @ x[:, first] / len(x)).diagonal()
        assert torch.allclose(scores[first], weights[0, first].square() / (2 * inverse), rtol=1e-8)
        assert not bool(scores[[1, 4]].any())

    @pytest.mark.parametrize("density", [1.0, 0.7])
    @pytest.mark.parametrize("n", [3, 30])
    @pytest.mark.parametrize("block", [0, 1, 5, 100])
    def test_both_solutions_are_the_rank_one_recursion(self, block: int, n: int, density: float) -> None:
        """H^-1 of each block by Hassibi and Stork's recursion; dw = -H^-1_:Q ([H^-1]_QQ)^-1 w_Q."""
        model, probe, damping = smooth(), examples(n), 1e-3
        before = random_mask(model, density)
        after = Mask({name: before[name] & (torch.arange(before[name].numel()) % 3 > 0).view(before.shapes[name])
                      for name in before})  # fmt: skip
        chosen = WoodFisher(block=block, damping=damping)
        scores, adjusted = chosen(model, before, probe), chosen.adjusted(model, before, after, probe)
        for name in before:
            rows, weights = fisher_rows(model, before, probe, name), masked(model, before)[name].flatten()
            there, stays = before[name].flatten(), after[name].flatten()
            expected, moved, size = torch.zeros_like(weights), weights * stays, block or len(weights)
            for first in range(0, len(weights), size):
                part = slice(first, first + size)
                inverse = torch.eye(len(weights[part])).double() / damping
                for g in rows[:, part]:
                    h = inverse @ g
                    inverse -= torch.outer(h, h) / (n + g @ h)
                expected[part] = weights[part].square() / (2 * inverse.diagonal()) * there[part]
                gone = (there & ~stays)[part].nonzero()[:, 0]
                if len(gone):
                    answer = torch.linalg.solve(inverse[gone][:, gone], weights[part][gone])
                    moved[part] -= inverse[:, gone] @ answer * stays[part]
            assert torch.allclose(scores[name].flatten(), expected, rtol=1e-8, atol=1e-13)
            assert torch.allclose(adjusted[name].flatten(), moved, rtol=1e-8, atol=1e-11)

    def test_far_above_all_curvatures_damping_leaves_magnitude(self) -> None:
        model, probe = smooth(), examples(10)
        scores = Obs(damping=1e6)(model, Mask.dense(model), probe)
        for name, score in scores.items():
            assert torch.allclose(score, dict(model.named_parameters())[name].detach().square() * 1e6 / 2, rtol=1e-5)

    def test_groups_are_gradients_of_their_mean_loss(self) -> None:
        model, probe = smooth(), examples(4, 5)
        mask = Mask.dense(model)
        singles = fisher_rows(model, mask, probe, "0.weight")
        rows = torch.stack([singles[:2].mean(0), singles[2:4].mean(0), singles[4:6].mean(0), singles[6:8].mean(0),
                            singles[8]])  # fmt: skip
        inverse = torch.linalg.inv(rows.t() @ rows / 5 + 0.01 * torch.eye(12))
        expected = model[0].weight.detach().flatten().square() / (2 * inverse.diagonal())  # type: ignore[index]
        scores = Obs(damping=0.01, group=2)(model, mask, probe)["0.weight"]
        assert torch.allclose(scores.flatten(), expected, rtol=1e-9)

    def test_what_is_adjusted_has_the_weights_dtype_and_loses_less(self) -> None:
        """On a fitted regression in float32 the loss after OBS is below that after masking alone."""
        layer, probe = regression()
        x, y = (part.float() for part in probe.batches[0])
        layer.float()
        loss = probe.loss
        assert loss is not None
        given = Probe(batches=[(x, y)], loss=loss)
        cut = Pruner(criterion=Obs()).cut(layer, Mask.dense(layer), 3, given)
        assert cut.adjusted["weight"].dtype == torch.float32 and cut.mask.alive == 3
        plain, adjusted = layer.weight.detach() * cut.mask["weight"], cut.adjusted["weight"]
        assert float(loss(x @ adjusted.t(), y)) < float(loss(x @ plain.t(), y))

    def test_what_cannot_be_held_is_refused_before_it_is_computed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tombola.criteria.surgeon._MOST", 100)
        model, probe = smooth(), examples(30)
        with pytest.raises(UsageError, match=r"30 gradients of 18 weights.*group=6"):
            Obs()(model, Mask.dense(model), probe)
        assert Obs(group=6)(model, Mask.dense(model), probe)

    def test_examples_that_are_not_finite_are_refused(self) -> None:
        model, probe = smooth(), examples(30)
        probe.batches[0][0][3, 1] = torch.nan
        with pytest.raises(UsageError, match="obs has to invert"):
            Obs()(model, Mask.dense(model), probe)

    @pytest.mark.parametrize("name", ["obs", "woodfisher"])
    @pytest.mark.parametrize("option", ["block=-1", "group=0", "damping=0", "damping=nan", "damping=inf"])
    def test_options_out_of_range(self, name: str, option: str) -> None:
        with pytest.raises(UsageError, match=f"{name}.*{option.split('=', 1)[0]}"):
            criterion_of(f"{name}:{option}")


RESETS: dict[str, dict[str, Any]] = {"fine-tune": {}, "lr-rewind": {"rewind_to": 20}}


def go(place: Path, **changes: Any) -> Counting:
    """A one-shot experiment of one level with the criterion obs."""
    watcher = Counting()
    chosen: dict[str, Any] = {"criterion": "obs:damping=1e-4", "search": "oneshot", "levels": 1, "replicates": 1}
    recipe = tiny_recipe(**{**chosen, "controls": (), "rate": 0.5, **changes})
    results = run(recipe, data=tiny_data(), store=place, watcher=watcher)
    assert results.failures == () and watcher.failures == []
    return watcher


class TestExperiments:
    @pytest.mark.parametrize("reset", RESETS)
    def test_the_ticket_starts_from_the_adjusted_weights(self, tmp_path: Path, reset: str) -> None:
        """The cut is made again by hand; the ticket's first evaluation is that of the adjusted state, not of m * w."""
        watcher, store = go(tmp_path, reset=reset, **RESETS[reset]), Store(tmp_path)
        cut, ticket, dense = watcher.answers[1, 0, "cut"], watcher.trained(1), watcher.trained(0)
        assert isinstance(cut, Pruned) and cut.state is not None
        fits = {job.digest: job.request for job in watcher.jobs}
        fit, pruned = fits[ticket.request], fits[cut.request]
        assert isinstance(fit, Fit) and fit.start == Adjusted(prune=cut.request) and fit.mask == cut.mask
        assert fit.first == RESETS[reset].get("rewind_to", 0)

        experiment = prepare(tiny_recipe(levels=1, replicates=1), data=tiny_data())
        task, model = experiment.task, experiment.task.build(0)
        load_state(model, store.state(dense.states[60]))
        by_hand = Obs(damping=1e-4)
        probe = task.probe(pruned.seed, pruned.probe)  # type: ignore[union-attr]
        expected = by_hand.adjusted(model, pruned.mask, cut.mask, probe)  # type: ignore[union-attr, arg-type]
        state = store.state(cut.state)
        assert same_state({n: state[n] for n in expected}, expected)
        assert all(not bool(state[n][~cut.mask[n]].any()) for n in cut.mask)
        others = {n: t for n, t in store.state(dense.states[60]).items() if n not in expected}
        assert same_state({n: state[n] for n in others}, others)

        def measured(weights: dict[str, Tensor]) -> tuple[float, float]:
            load_state(model, weights)
            return evaluate(model, task.sets.test, task.sets, task.training)  # type: ignore[attr-defined]

        first = ticket.curve.points[0]
        assert first.step == fit.first and (first.test_loss, first.test_metric) == measured(state)
        plain = store.state(dense.states[60])
        assert first.test_loss != measured({n: t * cut.mask[n] if n in cut.mask else t for n, t in plain.items()})[0]

    def test_a_second_start_is_answered_from_the_store(self, tmp_path: Path) -> None:
        first, objects = go(tmp_path, reset="fine-tune"), numbers(tmp_path)
        assert len(first.jobs) == 3
        again = go(tmp_path, reset="fine-tune")
        assert again.jobs == [] and len(again.plans) == 3 and numbers(tmp_path) == objects

    @pytest.mark.parametrize("ticket_too", [False, True])
    @pytest.mark.parametrize("damaged", [False, True])
    def test_a_lost_adjusted_state_is_made_again(self, tmp_path: Path, damaged: bool, ticket_too: bool) -> None:
        first, objects = go(tmp_path, reset="fine-tune"), numbers(tmp_path)
        cut, ticket, store = first.answers[1, 0, "cut"], first.trained(1), Store(tmp_path)
        assert isinstance(cut, Pruned) and cut.state is not None
        path = store.object_path(cut.state)
        path.write_bytes(b"nothing") if damaged else path.unlink()
        if ticket_too:
            store.answer_path(ticket.request).unlink()
        again = go(tmp_path, reset="fine-tune")
        made = {cut.request, ticket.request} if ticket_too else {cut.request}
        assert {job.digest for job in again.jobs} == made and numbers(tmp_path) == objects
        assert again.trained(1).curve == ticket.curve

    def test_a_cut_that_comes_out_otherwise_is_no_answer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The ticket in the store was trained from the lost state, not from another one."""
        cut = go(tmp_path, reset="fine-tune").answers[1, 0, "cut"]
        assert isinstance(cut, Pruned)
        Store(tmp_path).object_path(str(cut.state)).unlink()
        exactly = Obs.adjusted

        def nearly(self: Obs, *given: Any) -> dict[str, Tensor]:
            return {name: value * 1.000001 for name, value in exactly(self, *given).items()}

        monkeypatch.setattr(Obs, "adjusted", nearly)
        watcher = Counting()
        recipe = tiny_recipe(criterion="obs:damping=1e-4", search="oneshot", levels=1, replicates=1, controls=(),
                             rate=0.5, reset="fine-tune")  # fmt: skip
        run(recipe, data=tiny_data(), store=tmp_path, watcher=watcher)
        assert any("bit for bit" in failure.cause for failure in watcher.failures)

    def test_every_level_of_imp_goes_on_from_adjusted_weights(self, tmp_path: Path) -> None:
        watcher, store = go(tmp_path, reset="fine-tune", search="imp", levels=2, rate=0.2), Store(tmp_path)
        starts = [job.request.start for job in watcher.jobs if isinstance(job.request, Fit)]
        cuts = [watcher.answers[level, 0, "cut"] for level in (1, 2)]
        assert starts[1:] == [Adjusted(prune=cut.request) for cut in cuts]  # type: ignore[union-attr]
        assert len({cut.state for cut in cuts if isinstance(cut, Pruned) and store.has(str(cut.state))}) == 2

    def test_rewinding_does_not_take_them(self, tmp_path: Path) -> None:
        watcher = go(tmp_path, reset="rewind")
        fits = [job.request for job in watcher.jobs if isinstance(job.request, Fit)]
        assert fits[0].start == fits[1].start
