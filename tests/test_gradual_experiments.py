"""Pruning while training, in experiments: the search, its store, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gradual_helpers import dynamics
from helpers import Counting, Recorder, random_mask, tiny_data, tiny_recipe

from tombola.answers import Curve, Point, Trained
from tombola.errors import UsageError
from tombola.executors.base import Done, Job
from tombola.executors.work import compute
from tombola.experiment import Experiment, prepare, run, run_experiment
from tombola.models.fully_connected import mlp
from tombola.preview import preview
from tombola.requests import Fit, Gradual, ProbeSpec
from tombola.resets import FineTune
from tombola.starts import Init, Moment
from tombola.store import Store
from tombola.store.collect import collect
from tombola.streams import derive
from tombola.tickets import stored_ticket
from tombola.training.loop import Stopped

CHOSEN: dict[str, Any] = {"search": "gradual", "schedule": "cubic:final=0.2,every=10", "allocation": "global"}
BUDGETS = ((10, 95), (20, 53), (30, 37), (40, 35))  # 0.2 + 0.8 (27, 8, 1, 0) / 64 of 176


def go(place: Path, **changes: Any) -> tuple[Counting, Any]:
    watcher = Counting()
    results = run(tiny_recipe(**{**CHOSEN, "replicates": 1, **changes}), data=tiny_data(), store=place, watcher=watcher)
    assert results.failures == ()
    return watcher, results


def ready(**changes: Any) -> Experiment:
    return prepare(tiny_recipe(**{**CHOSEN, **changes}), data=tiny_data())


@pytest.mark.parametrize("criterion", ["magnitude", "snip", "movement_pruning", "magnitude_increase"])
def test_an_experiment_trains_the_ticket_of_a_pruned_training(criterion: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"criterion": criterion, "probe": ProbeSpec(size=30), "rewind_to": 20}
    plan = ready(replicates=1, **changes).plans[0]
    assert (plan.cuts, plan.keeps) == (BUDGETS, (35,))
    watcher, results = go(tmp_path, controls=("reinit", "shuffled", "inverted"), **changes)
    store, pruned, ticket = Store(tmp_path), watcher.trained(1, "gradual"), watcher.trained(1)
    assert pruned.mask is not None and pruned.mask.alive == 35 and ticket.mask is None
    assert pruned.mask.digest == pruned.mask_digest == ticket.mask_digest
    assert pruned.kept == ticket.kept == pruned.mask.kept and pruned.effective == ticket.effective
    assert pruned.provenance["engine"] == "torch"
    end, rewound = store.state(pruned.states[60]), store.state(watcher.trained(0).states[20])
    assert not any(bool(end[name][~kept].any()) for name, kept in pruned.mask.items())
    assert pruned.curve.settled == 40 and pruned.curve.early_stop is not None and pruned.curve.early_stop.step >= 40
    arms = results.document["arms"]
    assert set(arms) == {"ticket", "gradual", "reinit", "reinit-rewound", "shuffled", "inverted"}
    assert [row["kept"] for row in arms["ticket"]] == [176, 35] and [row["kept"] for row in arms["gradual"]] == [35]
    assert (
        watcher.trained(1, "inverted").mask_digest
        == watcher.trained(1, "cut-inverted").mask_digest
        != pruned.mask_digest
    )
    assert store.get(pruned.request) == pruned
    taken = stored_ticket(store, results.experiment, level=1).ticket
    assert taken.mask == pruned.mask
    for name, kept in taken.mask.items():
        assert torch.equal(taken.weights[name], rewound[name] * kept)
    assert collect(store).files == 0
    again, same = go(tmp_path, controls=("reinit", "shuffled", "inverted"), **changes)
    assert again.jobs == [] and same == results


def test_fine_tuning_goes_on_from_the_pruned_training(tmp_path: Path) -> None:
    watcher, results = go(tmp_path, reset="fine-tune", controls=())
    store, pruned = Store(tmp_path), watcher.trained(1, "gradual")
    (fit,) = [job.request for job in watcher.jobs if job.digest == watcher.trained(1).request]
    assert isinstance(fit, Fit) and fit.start == pruned.at(Moment.END) and fit.held_rate == 60
    taken = stored_ticket(store, results.experiment, level=1).ticket
    end = store.state(pruned.states[60])
    assert all(torch.equal(taken.weights[name], end[name]) for name in taken.mask)


@pytest.mark.parametrize("stop", [5, 20, 33])
def test_an_interrupted_training_goes_on_in_its_store(stop: int, tmp_path: Path) -> None:
    task, seen = ready(controls=()).task, [0]
    fit = Fit(start=Init(seed=1), mask=None, last=60, order=2, noise=3, dynamics=dynamics(keeps=BUDGETS), keep=(15, 25))

    def made(store: Store, last: int) -> Trained:
        done = compute(
            task,
            store,
            Job(digest="a" * 32, request=fit),
            progress=seen.append,
            stopping=lambda: seen[-1] == last,
            device="cpu",
        )
        assert isinstance(done, Done) and isinstance(done.answer, Trained)
        return done.answer

    whole, store = made(Store(tmp_path / "whole"), 99), Store(tmp_path / "stopped")
    with pytest.raises(Stopped):
        made(store, stop)
    count = len(seen)
    rest = made(store, 99)
    assert len(seen) - count == 60 - stop
    assert (rest.mask, rest.states, rest.curve, rest.kept) == (whole.mask, whole.states, whole.curve, whole.kept)


def test_what_the_store_lost_is_made_again(tmp_path: Path) -> None:
    first, results = go(tmp_path, controls=())
    pruned, store = first.trained(1, "gradual"), Store(tmp_path)
    store.object_path(pruned.states[60]).unlink()
    again, same = go(tmp_path, controls=())
    assert same == results and [job.digest for job in again.jobs] == [pruned.request]
    assert pruned.mask is not None
    store.object_path(store.keep_mask(pruned.mask)).unlink()
    assert Store(tmp_path, report=lambda line: None).get(pruned.request) is None
    third, same = go(tmp_path, controls=())
    assert same == results and pruned.request in [job.digest for job in third.jobs]
    made = third.trained(1, "gradual")
    assert (made.mask, made.states, made.curve) == (pruned.mask, pruned.states, pruned.curve)


def test_a_state_on_the_way_is_made_by_the_cuts_up_to_it(tmp_path: Path) -> None:
    """Before the first cut, between two, and at one."""
    experiment, store = ready(replicates=1, controls=()), Store(tmp_path)
    run_experiment(experiment, store)
    plan = experiment.plans[0]
    thinning = Gradual(pruner=plan.pruner, keeps=plan.cuts, seed=derive(plan.seed, "prune"))
    steps = (7, 20, 25)
    whole = plan.fit(plan.init(), plan.dense, dynamics=thinning, keep=steps)

    def made(fit: Fit, name: str) -> Trained:
        done = compute(
            experiment.task,
            store,
            Job(digest=name * 32, request=fit),
            progress=lambda step: None,
            stopping=lambda: False,
            device="cpu",
        )
        assert isinstance(done, Done) and isinstance(done.answer, Trained)
        return done.answer

    wanted = made(whole, "a").states
    plain = made(plan.fit(plan.init(), plan.dense, dynamics=thinning), "b")
    assert plain.states == {60: wanted[60]}
    for step in reversed(steps):  # each is another training, as far as its step
        assert (
            made(plan.fit(plan.init(), plan.dense, dynamics=thinning, keep=(step,)), "b").states[step] == wanted[step]
        )
    assert {name: len(value.unique()) > 20 for name, value in store.state(wanted[7]).items() if "weight" in name} == {
        "fc1.weight": True,
        "output.weight": True,
    }


def test_an_answer_without_a_mask_is_stored_as_before(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fit = Fit(start=Init(seed=1), mask=None, last=3, order=0, noise=0)
    mask = random_mask(mlp((8, 16, 3)), 0.3)
    for answer in (
        Trained(request="a" * 32, first=0, last=3, curve=Curve()),
        Trained(
            request="b" * 32, first=0, last=3, curve=Curve((Point(step=2),), 2), mask=mask, mask_digest=mask.digest
        ),
    ):
        store.put(answer.request, fit, answer)
        assert store.get(answer.request) == answer
        text = store.answer_path(answer.request).read_text()
        assert ('"mask": "' in text) == ('"settled"' in text) == (answer.mask is not None)


@pytest.mark.parametrize(
    "further", [{}, {"search_steps": 40}, {"rewind_to": 20, "draws": 2}, {"controls": ("inverted",)}]
)
def test_a_preview_counts_what_is_run(further: dict[str, Any], tmp_path: Path) -> None:
    experiment = ready(**further)
    foretold = preview(experiment, None)
    watcher = Counting()
    results = run_experiment(experiment, Store(tmp_path), watcher=watcher)
    assert results.failures == ()
    fits = [job.request for job in watcher.jobs if isinstance(job.request, Fit)]
    assert (foretold.fits, foretold.steps) == (len(fits), sum(fit.last - fit.first for fit in fits))
    again = preview(experiment, Store(tmp_path))
    assert (again.fits, again.stored) == (foretold.fits, foretold.fits)
    reported = sum(map(len, results.document["arms"].values()))
    assert sum(foretold.levels.values()) == reported
    fit = next(fit for fit in fits if fit.dynamics is not None)
    assert fit.last == further.get("search_steps", 60) and fit.settled == (30 if "search_steps" in further else 40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schedule": "geometric"},
            r"gradual prunes while it trains, and the schedule geometric goes by level; .* cubic:final=0\.05,every=50",
        ),
        ({"schedule": "cubic:final=0.2"}, "the schedule cubic:final=0.2 goes by level"),
        (
            {"search": "imp"},
            "goes by training step, and the search imp by level; use --search gradual, or leave every, begin and",
        ),
        ({"search": "oneshot", "schedule": "linear:final=0.2,every=10"}, "the search oneshot by level"),
        ({"score_at": "end"}, "not at score_at end; leave score_at at auto"),
        ({"schedule": "cubic:final=0.2,every=50"}, "prunes every 50 steps from 0 to 45, in a training of 60"),
        ({"schedule": "cubic:final=0.2,every=10,end=61"}, "to 61, in a training of 60"),
        ({"search_steps": 12}, "in a training of 12"),
        ({"schedule": "cubic:final=0.001,every=10"}, "name a higher density in the schedule"),
        ({"schedule": "cubic:final=0.2,every=x"}, "every is 'x'; expected a whole number"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_training(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ready(**changes)


def test_the_native_engine_declines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tombola.native.why_not", lambda *given: None)
    with pytest.raises(UsageError, match=r"prunes while it trains\. Use --engine auto"):
        prepare(tiny_recipe(**CHOSEN), data=tiny_data(), engine="native")
    task = prepare(tiny_recipe(), data=tiny_data(), engine="native").task
    fit = Fit(start=Init(seed=0), mask=None, last=9, order=1, noise=1, dynamics=dynamics(keeps=((3, 50),)))
    with pytest.raises(UsageError, match="it prunes while it trains"):
        task.fit(fit, dict(task.build(0).state_dict()), events=Recorder())
    task = prepare(tiny_recipe(), data=tiny_data()).task
    measured = task.fit(fit, dict(task.build(0).state_dict()), events=Recorder())
    assert measured.provenance == {"engine": "torch", "not_native": "it prunes while it trains"}


def test_a_pruned_training_does_not_look_at_the_reset() -> None:
    """What becomes of survivors is asked after it, so that experiments share it."""
    plans = [ready(reset=reset).plans[0] for reset in ("rewind", "fine-tune")]
    assert isinstance(plans[1].reset, FineTune) and plans[0].cuts == plans[1].cuts
