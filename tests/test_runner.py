"""Whole experiments on tiny data: what is computed, what is found again, and what it is made of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Bench, Counting, Marked, numbers, same_state, tiny_data, tiny_recipe, train_by_hand
from torch import Tensor

from tombola.answers import Curve, Pruned, Trained
from tombola.errors import UsageError
from tombola.experiment import prepare, run
from tombola.models.fully_connected import mlp
from tombola.requests import Fit, Prune
from tombola.starts import At, Init, Moment
from tombola.store import Store
from tombola.streams import derive
from tombola.training.enforce import apply_mask
from tombola.training.evaluation import evaluate
from tombola.training.optimizers import LrSchedule, Optimizer

Rows = list[dict[str, Any]]


def go(place: Path, **changes: Any) -> tuple[dict[str, list[dict[str, Any]]], Counting, Any]:
    """Run the tiny recipe; its arms, what the watcher saw, and the results."""
    watcher = Counting()
    results = run(tiny_recipe(**changes), data=tiny_data(), store=place, watcher=watcher)
    assert results.failures == () and watcher.failures == []
    return results.document["arms"], watcher, results


def column(rows: Iterable[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def kept_by_hand(weights: Tensor, keep: int) -> Tensor:
    """True at the `keep` largest magnitudes."""
    places = weights.abs().flatten().argsort(descending=True)[:keep]
    return torch.zeros(weights.numel(), dtype=torch.bool).index_fill(0, places, True).view(weights.shape)


def test_the_same_command_twice_computes_nothing_the_second_time(tmp_path: Path) -> None:
    _, first, results = go(tmp_path / "store")
    objects = numbers(tmp_path / "store")
    assert len(first.jobs) == len({job.digest for job in first.jobs}) == 2 * (1 + 2 * 4)
    assert len(first.steps) == 2 * (1 + 2 * 3) * 60
    _, second, again = go(tmp_path / "store")
    assert again == results and second.jobs == [] and second.steps == []
    assert len(second.plans) == 18 and all(stored for _, stored in second.plans)
    assert numbers(tmp_path / "store") == objects
    _, _, elsewhere = go(tmp_path / "other")
    assert elsewhere.document == results.document and numbers(tmp_path / "other") == objects


def test_rows_counts_and_controls(tmp_path: Path) -> None:
    arms, watcher, _ = go(tmp_path, draws=2)
    assert {name: len(rows) for name, rows in arms.items()} == {"ticket": 6, "reinit": 8, "shuffled": 4}
    counts = [{"fc1.weight": 128, "output.weight": 48}, {"fc1.weight": 102, "output.weight": 43}]
    counts.append({"fc1.weight": 82, "output.weight": 39})
    for rows in arms.values():
        for row in rows:
            assert row["kept_per_layer"] == counts[row["level"]] and row["prunable"] == 176
            assert row["kept"] == sum(counts[row["level"]].values()) and row["density"] == row["kept"] / 176
            assert row["early_stop_step"] in range(10, 61, 10) and not row["diverged"]
            assert 0 <= row["test_accuracy_at_early_stop"] <= 1 and 0.5 < row["train_accuracy"] <= 1
    by_place = {(r["level"], r["replicate"]): r["mask_digest"] for r in arms["ticket"]}
    assert by_place[0, 0] == by_place[0, 1] and len(set(by_place.values())) == 5
    for row in arms["reinit"]:
        assert row["mask_digest"] == by_place[row["level"], row["replicate"]]
    for row in arms["shuffled"]:
        assert row["mask_digest"] != by_place[row["level"], row["replicate"]]
    assert len(set(column(arms["shuffled"], "mask_digest"))) == 4
    fits = {name: set(column(rows, "fit_digest")) for name, rows in arms.items()}
    assert [len(fits[name]) for name in ("ticket", "reinit", "shuffled")] == [6, 8, 4]
    starts = {job.digest: job.request.start for job in watcher.jobs}
    seeds = {name: {starts[digest].seed for digest in found} for name, found in fits.items()}  # type: ignore[union-attr]
    assert seeds["ticket"] == seeds["shuffled"] and len(seeds["ticket"]) == 2
    assert len(seeds["reinit"]) == 4 and not seeds["reinit"] & seeds["ticket"]
    masks = [a.mask for a in watcher.answers.values() if isinstance(a, Pruned)]
    first, second = (watcher.answers[level, 0, "cut"] for level in (1, 2))
    assert len(masks) == 4 and isinstance(first, Pruned) and isinstance(second, Pruned)
    assert second.mask.within(first.mask) and not first.mask.within(second.mask)


def test_paired_arms_see_the_same_order_and_noise(tmp_path: Path) -> None:
    _, watcher, _ = go(tmp_path)
    streams = {(job.request.order, job.request.noise) for job in watcher.jobs if isinstance(job.request, Fit)}
    assert len(streams) == 2
    assert {job.request.last for job in watcher.jobs if isinstance(job.request, Fit)} == {60}


@pytest.mark.parametrize("k", [0, 20])
def test_a_ticket_starts_from_the_masked_weights_of_step_k(tmp_path: Path, k: int) -> None:
    """theta_k is trained anew by a plain loop; the first evaluation of the ticket is that of m * theta_k."""
    recipe = tiny_recipe(rewind_to=k, replicates=1, optimizer=Optimizer(name="sgd", lr=0.05, momentum=0.9))
    watcher = Counting()
    arms = run(recipe, data=tiny_data(), store=tmp_path, watcher=watcher).document["arms"]
    plan = prepare(recipe, data=tiny_data()).plans[0]
    bench = Bench(lambda: mlp((8, 16, 3), seed=plan.init().seed), recipe.training())
    theta, _ = train_by_hand(
        bench,
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
        steps=k,
        order=derive(plan.seed, "order"),
    )
    store, dense = Store(tmp_path), watcher.trained(0)
    assert same_state(store.state(dense.states[k]), dict(theta.state_dict()))
    for level in (1, 2):
        cut, ticket = watcher.answers[level, 0, "cut"], watcher.trained(level)
        assert isinstance(cut, Pruned) and ticket.curve.points[0].step == ticket.first == k
        masked = bench.fresh(dict(theta.state_dict()))
        apply_mask(masked, cut.mask)
        loss, accuracy = evaluate(masked, bench.sets.test, bench.sets, bench.training)
        assert (ticket.curve.points[0].test_loss, ticket.curve.points[0].test_metric) == (loss, accuracy)
        assert (watcher.trained(level, "shuffled").curve.points[0].test_loss == loss) is False
        end = store.state(ticket.states[60])
        assert all(float(end[name][~cut.mask[name]].abs().max()) == 0 for name in cut.mask)
        reinit = watcher.trained(level, "reinit")
        assert (
            reinit.first == 0 and reinit.curve.points[0].test_loss != watcher.trained(level).curve.points[0].test_loss
        )
    assert ("reinit-rewound" in arms) == (k > 0)
    if k:
        assert watcher.trained(1, "reinit-rewound").first == k and len(arms["reinit-rewound"]) == 2
        fresh = watcher.trained(0, "fresh")
        assert fresh.last == k and not same_state(store.state(fresh.states[k]), store.state(dense.states[k]))


@pytest.mark.parametrize("score_at", ["end", "early-stop", "init", "20"])
def test_weights_are_scored_where_the_recipe_says(tmp_path: Path, score_at: str) -> None:
    changes: dict[str, Any] = {"score_at": score_at, "controls": (), "replicates": 1, "optimizer": Optimizer(lr=0.3)}
    _, watcher, _ = go(tmp_path, **changes)
    store, mask = Store(tmp_path), None
    for level, counts in ((1, {"fc1.weight": 102, "output.weight": 43}), (2, {"fc1.weight": 82, "output.weight": 39})):
        before, cut = watcher.trained(level - 1), watcher.answers[level, 0, "cut"]
        assert isinstance(cut, Pruned) and before.curve.early_stop is not None
        step = {"end": 60, "early-stop": before.curve.early_stop.step, "init": 0, "20": 20}[score_at]
        assert step in before.states or score_at == "init"
        state = store.state((watcher.trained(0) if score_at == "init" else before).states[step])
        for name, keep in counts.items():
            assert torch.equal(cut.mask[name], kept_by_hand(state[name] * (mask[name] if mask else 1), keep))
        mask = cut.mask
    stops = [watcher.trained(level).curve.early_stop for level in (0, 1)]
    assert any(stop is not None and stop.step < 60 for stop in stops), "else early-stop and end would be one"


def test_one_shot_has_the_counts_of_imp_at_every_level(tmp_path: Path) -> None:
    iterative, _, _ = go(tmp_path, levels=4, controls=())
    single, watcher, _ = go(tmp_path, levels=4, controls=(), search="oneshot")
    assert column(single["ticket"], "kept_per_layer") == column(iterative["ticket"], "kept_per_layer")
    same = [a == b for a, b in zip(*(column(x["ticket"], "mask_digest") for x in (single, iterative)), strict=True)]
    assert same[:4] == [True] * 4 and not any(same[4:]), "level 1 is one cut in both"
    assert len([job for job in watcher.jobs if isinstance(job.request, Fit) and job.request.mask is None]) == 0
    cuts = [job.request for job in watcher.jobs if isinstance(job.request, Prune)]
    assert len(cuts) == 6 and all(cut.mask.density == 1 for cut in cuts)


@pytest.mark.parametrize("search_steps", [20, 60])
def test_short_searches_train_whole_tickets_aside(tmp_path: Path, search_steps: int) -> None:
    arms, watcher, _ = go(tmp_path, search_steps=search_steps, replicates=1)
    assert {name: len(rows) for name, rows in arms.items()} == {"ticket": 3, "reinit": 2, "shuffled": 2}
    assert [watcher.trained(level, "search").last for level in (0, 1)] == [search_steps] * 2
    assert (2, 0, "search") not in watcher.answers, "nothing is scored after the last level"
    assert [watcher.trained(level).last for level in (0, 1, 2)] == [60] * 3
    cut = watcher.answers[1, 0, "cut"]
    state = Store(tmp_path).state(watcher.trained(0, "search").states[search_steps])
    assert isinstance(cut, Pruned) and torch.equal(cut.mask["fc1.weight"], kept_by_hand(state["fc1.weight"], 102))


def test_fine_tuning_goes_on_from_the_end_at_the_last_rate(tmp_path: Path) -> None:
    schedule = LrSchedule(name="step", milestones=(30,), factor=0.1)
    _, watcher, _ = go(tmp_path, reset="fine-tune", replicates=1, controls=("shuffled",), lr_schedule=schedule)
    bench = Bench(lambda: mlp((8, 16, 3)), tiny_recipe().training())
    store = Store(tmp_path)
    for level in (1, 2):
        cut = watcher.answers[level, 0, "cut"]
        assert isinstance(cut, Pruned)
        before = bench.fresh(store.state(watcher.trained(level - 1).states[60]))
        apply_mask(before, cut.mask)
        loss, _ = evaluate(before, bench.sets.test, bench.sets, bench.training)
        assert watcher.trained(level).curve.points[0].test_loss == loss
    tickets = [
        job.request for job in watcher.jobs if isinstance(job.request, Fit) and isinstance(job.request.start, At)
    ]
    assert {fit.held_rate for fit in tickets} == {60} and schedule.at(60, 60) == pytest.approx(0.1)


def test_experiments_share_their_dense_trainings(tmp_path: Path) -> None:
    def dense(watcher: Counting) -> list[Fit]:
        return [job.request for job in watcher.jobs if isinstance(job.request, Fit) and job.request.mask is None]

    _, first, _ = go(tmp_path)
    assert len(dense(first)) == 2
    _, longer, _ = go(tmp_path, levels=3)
    assert dense(longer) == [] and len(longer.jobs) == 2 * 4
    _, wider, _ = go(tmp_path, replicates=3)
    assert len(dense(wider)) == 1 and len(wider.jobs) == 1 + 2 * 4
    _, single, _ = go(tmp_path, search="oneshot")
    assert dense(single) == []
    _, other, _ = go(tmp_path, criterion="random")
    assert dense(other) == []


def test_a_wish_that_comes_later_is_trained_again_only_so_far(tmp_path: Path) -> None:
    _, before, _ = go(tmp_path, replicates=1, controls=())
    fit = before.trained(0).request
    assert sorted(before.trained(0).states) == [0, 60]
    objects = numbers(tmp_path)
    _, after, _ = go(tmp_path, replicates=1, controls=(), rewind_to=20)
    assert after.trained(0).request == fit and sorted(after.trained(0).states) == [0, 20, 60]
    assert after.steps[:20] == list(range(1, 21)) and len(after.steps) == 20 + 2 * 40
    assert objects.items() <= numbers(tmp_path).items()
    _, again, _ = go(tmp_path, replicates=1, controls=(), rewind_to=20)
    assert again.jobs == []
    bench = Bench(lambda: mlp((8, 16, 3), seed=derive(derive(0, "replicate", 0), "init")), tiny_recipe().training())
    plan = prepare(tiny_recipe(), data=tiny_data()).plans[0]
    _, events, _ = bench.train(plan.fit(plan.init(), None, keep=(20,)))
    assert same_state(Store(tmp_path).state(after.trained(0).states[20]), events.states[20])


def test_a_users_network_by_import_path_and_as_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_networks.py").write_text(
        "from torch import nn\n\ndef small():\n    return nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    chosen: dict[str, Any] = {"replicates": 1, "levels": 1}
    results = run(tiny_recipe(**chosen), model="my_own_networks:small", data=tiny_data(), store=tmp_path / "store")
    assert [row["prunable"] for row in results.document["arms"]["ticket"]] == [55, 55]
    watcher = Counting()
    again = run(tiny_recipe(**chosen), model="my_own_networks:small", data=tiny_data(), store="store", watcher=watcher)
    assert again.document == results.document and watcher.jobs == []
    own = run(tiny_recipe(**chosen), model=Marked, data=tiny_data(), store=tmp_path / "store")
    assert [row["kept"] for row in own.document["arms"]["ticket"]] == [176, 145]
    for wrong, message in (("my_own_networks:big", "has no 'big'"), ("no_such_module:x", "cannot be imported")):
        with pytest.raises(UsageError, match=message):
            run(tiny_recipe(), model=wrong, data=tiny_data(), store=tmp_path / "store")


def test_data_are_known_by_content(tmp_path: Path) -> None:
    prints = [prepare(tiny_recipe(), data=tiny_data(seed=seed)).task.fingerprint for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]
    moved = tiny_data()
    moved.x_test[3, 3] += 1e-3
    assert prepare(tiny_recipe(), data=moved).task.fingerprint != prints[0]
    assert prepare(tiny_recipe(batch_size=21), data=tiny_data()).task.fingerprint != prints[0]
    names = [prepare(tiny_recipe(name=name), data=tiny_data()).digest for name in ("a", "b")]
    assert names[0] == names[1] != prepare(tiny_recipe(seed=1), data=tiny_data()).digest


def test_protected_layers_stay_whole_and_out_of_the_density(tmp_path: Path) -> None:
    arms, watcher, _ = go(tmp_path, protect=("output*",), replicates=1)
    assert [row["density"] for row in arms["ticket"][1:]] == [102 / 128, 82 / 128]
    assert set(arms["ticket"][1]["kept_per_layer"]) == {"fc1.weight"} and watcher.trained(1).prunable == 128


def test_steps_outside_a_training_are_refused() -> None:
    trained = Trained(request="x", first=5, last=9, curve=Curve())
    assert trained.at(Moment.INIT).step == 5 and trained.at(Moment.END).step == trained.at(Moment.EARLY_STOP).step == 9
    for step in (4, 10):
        with pytest.raises(UsageError, match="lies outside"):
            trained.at(step)
    with pytest.raises(UsageError, match="expected 0 <= first <= last"):
        Fit(start=Init(seed=1), mask=None, first=6, last=5, order=1, noise=1)
