"""Engines: one loop around all of them, a choice without surprise, and a look-up that never mixes them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Bench, Counting, Recorder, numbers, random_mask, same_state, tiny_data, tiny_recipe
from hypothesis import given
from hypothesis import strategies as st
from test_training import settings, small

from tombola.answers import Trained
from tombola.errors import UsageError
from tombola.executors.base import Done, Failed, Job
from tombola.executors.work import compute
from tombola.experiment import Results, run
from tombola.lookup import look_up, request_digest
from tombola.masks import Mask
from tombola.requests import Arm, Fit, Place
from tombola.starts import Init, Moment
from tombola.store import Store
from tombola.supervised import Supervised
from tombola.training.engine import check_engine
from tombola.training.loop import Stopped
from tombola.training.order import Order
from tombola.training.reference import Reference
from tombola.training.state import state_of
from tombola.turns import turn


class Coarse(Reference):
    """Another engine: by its name, and by seven steps at a time; it stands in for the native trainer."""

    stride = 7
    provenance = {"engine": "native", "variant": "coarse"}  # noqa: RUF012
    calls: list[tuple[int, int]] = []  # noqa: RUF012

    def advance(self, first: int, last: int) -> None:
        self.calls.append((first, last))
        super().advance(first, last)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> type[Coarse]:
    """A native trainer that knows every network."""
    monkeypatch.setattr("tombola.native.why_not", lambda *_: None)
    monkeypatch.setattr("tombola.native.Native", Coarse)
    monkeypatch.setattr(Coarse, "calls", [])
    return Coarse


@pytest.fixture
def lost(native: type[Coarse], monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes the native trainer away."""
    return lambda: monkeypatch.setattr("tombola.native.why_not", lambda *_: "layer 'fc1' is too odd")


def go(place: Path, **changes: Any) -> tuple[Results, Counting]:
    """Run the tiny recipe, one replicate."""
    watcher = Counting()
    named = {key: changes.pop(key) for key in ("engine", "watcher") if key in changes}
    recipe = tiny_recipe(replicates=1, **changes)
    return run(recipe, data=tiny_data(), store=place, **{"watcher": watcher, **named}), watcher


def made_by(place: Path, results: Results) -> set[Any]:
    """The engines of an experiment's trainings."""
    store = Store(place)
    answers = [store.get(row["request"]) for row in store.noted(results.experiment)["rows"]]
    return {answer.provenance["engine"] for answer in answers if isinstance(answer, Trained)}


@given(st.integers(1, 30), st.integers(1, 70), st.integers(0, 9), st.integers(0, 40), st.integers(0, 40))
def test_a_span_is_its_batches_one_behind_the_other(n: int, batch: int, seed: int, first: int, count: int) -> None:
    examples = torch.arange(100, 100 + n)
    spanned = Order(examples, batch=batch, seed=seed).span(first, first + count)
    single = Order(examples, batch=batch, seed=seed)
    wanted = [place for step in range(first, first + count) for place in single.batch(step).tolist()]
    assert spanned.tolist() == wanted and spanned.dtype == examples.dtype


@pytest.mark.parametrize("masked", [False, True])
def test_an_engine_of_many_steps_a_call_is_seen_at_every_due_step(native: type[Coarse], masked: bool) -> None:
    bench = Bench(small(dropout=0.3), settings(steps=40))
    mask = random_mask(bench.fresh()) if masked else None
    fit = bench.fit(mask=mask, first=2, last=39, keep=(4, 13, 30, Moment.EARLY_STOP))
    measured, events, model = bench.train(fit)
    again, found, other = bench.train(fit, engine=native)
    assert again.points == measured.points and (again.train_loss, again.train_metric) == (
        measured.train_loss,
        measured.train_metric,
    )
    assert found.states.keys() == events.states.keys()
    assert all(same_state(found.states[step], events.states[step]) for step in events.states)
    assert same_state(state_of(other), state_of(model))
    ends = [2, *(last for _, last in native.calls)]
    assert [first for first, _ in native.calls] == ends[:-1] and ends[-1] == 39
    assert {4, 10, 13, 20, 30} <= set(ends) and all(b - a <= 7 for a, b in itertools.pairwise(ends))
    assert len(native.calls) == 1 + 1 + 1 + 1 + 2 + 2  # 2-4, -10, -13, -20, -30 in two, -39 in two
    assert (measured.provenance, again.provenance) == ({"engine": "torch"}, Coarse.provenance)


def test_a_checkpoint_of_another_engine_is_left_aside() -> None:
    class Told(Recorder):
        told = 0

        def anew(self) -> None:
            self.told += 1

    bench = Bench(small(), settings(steps=30))
    measured, whole, _ = bench.train()
    for maker, user in itertools.product((Reference, Coarse), repeat=2):
        first, second = Recorder(stop_at=12), Told()
        with pytest.raises(Stopped):
            bench.train(events=first, engine=maker)
        [checkpoint] = first.checkpoints
        again, _, _ = bench.train(events=second, resume=checkpoint, engine=user)
        assert again.points == measured.points and same_state(second.states[30], whole.states[30])
        assert second.told == (maker is not user)
    notes = json.loads(checkpoint.notes)
    assert notes.pop("engine") == Coarse.provenance
    old = type(checkpoint)(step=checkpoint.step, tensors=checkpoint.tensors, notes=json.dumps(notes))
    told = Told()
    bench.train(events=told, resume=old)  # from before engines had names: the reference loop's
    assert told.told == 0


def test_what_another_engine_kept_does_not_enter_the_answer(tmp_path: Path, native: type[Coarse]) -> None:
    """Its checkpoint is followed by a run with other wishes, by the reference loop."""
    task = Supervised(dataset=tiny_data(), model="lenet-300-100", training=settings(steps=30))
    store, seen = Store(tmp_path), list[int]()
    fit = Fit(start=Init(seed=0), mask=None, last=30, order=0, noise=0, keep=(3,))
    job = Job(digest="0" * 32, request=fit)
    common: dict[str, Any] = {"progress": seen.append, "device": "cpu"}
    with pytest.raises(Stopped):
        compute(task, store, job, stopping=lambda: bool(seen) and seen[-1] >= 20, **common)
    saved = store.checkpoint(job.digest)
    assert saved is not None and list(saved[1]) == [3]
    later = Job(digest=job.digest, request=Fit(start=Init(seed=0), mask=None, last=30, order=0, noise=0, keep=(4,)))
    torch_task = Supervised(dataset=tiny_data(), model="lenet-300-100", training=settings(steps=30), engine="torch")
    outcome = compute(torch_task, store, later, stopping=lambda: False, **common)
    assert isinstance(outcome, Done) and isinstance(outcome.answer, Trained)
    assert sorted(outcome.answer.states) == [4, 30] and outcome.answer.provenance["engine"] == "torch"


def test_the_choice_of_an_engine(native: type[Coarse], lost: Callable[[], None]) -> None:
    def task(engine: Any) -> Supervised:
        return Supervised(dataset=tiny_data(), model="lenet-300-100", training=settings(), engine=engine)

    assert [task(engine).not_native for engine in ("auto", "native", "torch")] == [None, None, "torch was asked for"]
    before = task("auto")
    assert before.not_native is None
    lost()
    assert before.not_native is None  # a ticket is trained as its dense network was
    assert task("auto").not_native == "layer 'fc1' is too odd"
    with pytest.raises(UsageError, match=r"cannot train this: layer 'fc1' is too odd. Use --engine auto"):
        _ = task("native").not_native
    assert len({task(engine).fingerprint for engine in ("auto", "native", "torch")}) == 1
    with pytest.raises(UsageError, match=r"engine is 'natve'; expected one of auto, native, torch. Did you mean"):
        task("natve")
    for name in ("auto", "native", "torch"):
        check_engine(name)


def test_an_explicit_engine_is_part_of_the_digest(tmp_path: Path) -> None:
    fit = Fit(start=Init(seed=0), mask=None, last=3, order=0, noise=0)
    digests = {engine: request_digest("task", fit, engine) for engine in ("auto", "native", "torch")}
    assert len(set(digests.values())) == 3 and digests["auto"] == request_digest("task", fit)
    for store in (None, Store(tmp_path)):
        for engine, digest in digests.items():
            job, answer = look_up(store, "task", fit, engine)
            assert (job.digest, job.engine, answer) == (digest, None if engine == "auto" else engine, None)


def test_auto_accepts_what_any_engine_has_made_and_an_explicit_one_its_own_alone(
    tmp_path: Path, native: type[Coarse]
) -> None:
    """An interrupted explicit run is continued by auto; replayed, it has the same digests, and nothing is computed."""

    class Interrupting(Counting):
        def progress(self, request: str, step: int) -> None:
            super().progress(request, step)
            if self.steps.count(60) == 4:
                raise KeyboardInterrupt

    changes: dict[str, Any] = {"rewind_to": 20}  # so that later requests refer to the dense fit
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, engine="native", watcher=Interrupting(), **changes)
    kept = len(list((tmp_path / "answers").rglob("*.json")))
    assert kept >= 4
    auto, first = go(tmp_path, **changes)
    assert sum(stored for _, stored in first.plans) == kept and auto.failures == ()
    assert len(first.jobs) == len(first.plans) - kept and {job.engine for job in first.jobs} == {None}
    requests = [row["request"] for row in Store(tmp_path).noted(auto.experiment)["rows"]]
    again, second = go(tmp_path, **changes)
    assert again == auto and second.jobs == []
    assert [row["request"] for row in Store(tmp_path).noted(auto.experiment)["rows"]] == requests
    explicit, third = go(tmp_path, engine="native", **changes)
    assert {job.engine for job in third.jobs} == {"native"} and len(third.jobs) == len(first.jobs)
    assert explicit.experiment != auto.experiment and made_by(tmp_path, explicit) == {"native"}
    other, fourth = go(tmp_path, engine="torch", **changes)
    assert len(fourth.jobs) == len(fourth.plans) and {job.engine for job in fourth.jobs} == {"torch"}
    assert len({other.experiment, explicit.experiment, auto.experiment}) == 3
    assert made_by(tmp_path, other) == {"torch"}
    _, fifth = go(tmp_path, **changes)
    assert fifth.jobs == []  # auto still takes what it took


def test_a_state_is_made_again_by_the_engine_that_made_its_fit(
    tmp_path: Path, native: type[Coarse], lost: Callable[[], None]
) -> None:
    before, _ = go(tmp_path, engine="native")
    objects = numbers(tmp_path)
    for path in (tmp_path / "objects").rglob("*.safetensors"):
        path.unlink()
    native.calls.clear()
    auto, watcher = go(tmp_path)
    assert auto.failures == () and native.calls and auto.document["arms"] == before.document["arms"]
    assert {job.engine for job in watcher.jobs if isinstance(job.request, Fit)} == {"native"}
    assert {name: data for name, data in numbers(tmp_path).items() if name in objects} == objects
    for path in (tmp_path / "objects").rglob("*.safetensors"):
        path.unlink()
    lost()
    failed, watcher = go(tmp_path)
    assert watcher.failures and "made by the engine 'native'" in watcher.failures[0].cause
    assert "layer 'fc1' is too odd" in watcher.failures[0].cause and failed.ended


def test_an_engine_that_is_not_known_here_is_named(tmp_path: Path) -> None:
    task = Supervised(dataset=tiny_data(), model="lenet-300-100", training=settings())
    fit = Fit(start=Init(seed=0), mask=None, last=3, order=0, noise=0)
    job = Job(digest="0" * 32, request=fit, engine="abacus")
    outcome = compute(task, Store(tmp_path), job, progress=lambda _: None, stopping=lambda: False, device="cpu")
    assert isinstance(outcome, Failed) and "there is no engine 'abacus'" in outcome.cause


def test_a_fit_says_who_trained_it_and_why(tmp_path: Path, native: type[Coarse], lost: Callable[[], None]) -> None:
    def said(place: str, **named: Any) -> dict[str, Any]:
        _, watcher = go(tmp_path / place, levels=1, controls=(), **named)
        found = watcher.trained(0).provenance
        assert {"tombola", "torch", "python", "processor", "device", "threads"} <= found.keys()
        return {key: found[key] for key in ("engine", "variant", "not_native") if key in found}

    assert said("a") == said("b", engine="native") == Coarse.provenance
    assert said("c", engine="torch") == {"engine": "torch", "not_native": "torch was asked for"}
    lost()
    assert said("d") == {"engine": "torch", "not_native": "layer 'fc1' is too odd"}
    with pytest.raises(UsageError, match="cannot train this"):
        go(tmp_path / "e", engine="native")
    assert not (tmp_path / "e").exists()


def test_what_is_waited_for_comes_first_and_then_the_longest() -> None:

    def fit(kept: int | None, last: int = 10, at_most: int | None = None) -> Fit:
        mask = None if kept is None else Mask({"w": torch.arange(100) < kept})
        return Fit(start=Init(seed=0, at_most=at_most), mask=mask, last=last, order=0, noise=0)

    def at(level: int, replicate: int = 0, arm: str = "ticket") -> Place:
        return Place(level=level, replicate=replicate, arm=Arm(name=arm))

    turns = [
        turn(fit(5), at(1, 1), True),
        turn(fit(90), at(2, 0), True),
        turn(fit(None), at(9), False),
        turn(fit(80), at(1, arm="reinit"), False),
        turn(fit(80), at(1, arm="shuffled"), False),
        turn(fit(None, at_most=70), at(1, arm="small-dense"), False),
        turn(fit(60, last=11), at(3), False),
        turn(fit(60), at(2), False),
        turn(fit(None, last=0), at(1), False),
    ]
    assert turns == sorted(turns)
