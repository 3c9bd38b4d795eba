"""Whole experiments with stacked fits: the same tickets, stopped and resumed, short of memory, made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Counting, numbers, tiny_data, tiny_recipe
from torch import nn

from tombola.answers import Trained
from tombola.errors import Hint, UsageError
from tombola.executors import Stacked
from tombola.executors.base import Busy, Done, Failed, Job, Outcome
from tombola.executors.choosing import stacks
from tombola.experiment import Results, prepare, run, run_experiment
from tombola.lookup import request_digest
from tombola.models.net import Net
from tombola.requests import Fit, Request
from tombola.starts import Init
from tombola.store import Store
from tombola.supervised import Supervised
from tombola.tasks import Stacking
from tombola.training.scale import check_stack
from tombola.training.settings import Training
from tombola.training.together import train_many


def task(**changes: Any) -> Supervised:
    named: dict[str, Any] = {"dataset": tiny_data(), "model": "mlp", "net": Net(hidden=(6,)), "checkpoint_seconds": 60}
    return Supervised(**{**named, "training": Training(steps=12, batch_size=20, eval_every=5), **changes})


def fit(order: int = 0, **changes: Any) -> Fit:
    named: dict[str, Any] = {"start": Init(seed=order), "mask": None, "last": 12, "order": order, "noise": order}
    return Fit(**{**named, **changes})


class Bench:
    """A stacking executor over a store, and jobs by digest."""

    def __init__(self, folder: Path, width: int = 4, **changes: Any) -> None:
        self.task, self.store, self.steps = task(**changes), Store(folder), list[int]()
        self.executor = Stacked(
            self.task, self.store, width=width, on_progress=lambda name, step: self.steps.append(step)
        )

    def job(self, request: Request, **further: Any) -> Job:
        return Job(digest=request_digest(self.task.fingerprint, request), request=request, **further)

    def submit(self, *requests: Request, **further: Any) -> list[str]:
        jobs = [self.job(request, **further) for request in requests]
        for job in jobs:
            self.executor.submit(job)
        return [job.digest for job in jobs]

    def ends(self) -> list[list[Outcome]]:
        """What each call of `wait` ends, until nothing is left."""
        found: list[list[Outcome]] = []
        while outcomes := self.executor.wait(0.1):
            found.append(outcomes)
        return found

    def engines(self, *names: str) -> list[tuple[Any, Any]]:
        answers = [self.store.get(name) for name in names]
        return [(a.provenance["engine"], a.provenance.get("stack")) for a in answers if isinstance(a, Trained)]


def go(place: Path, stack: Any, **changes: Any) -> tuple[Results, Counting]:
    watcher = Counting()
    return run(tiny_recipe(**changes), data=tiny_data(), store=place, stack=stack, watcher=watcher), watcher


def test_an_experiment_with_stacks_finds_the_same_tickets(tmp_path: Path) -> None:
    short: dict[str, Any] = {"net": Net(hidden=(6,), dropout=0.2), "steps": 20, "levels": 1}
    results, stacked = go(tmp_path / "stacked", 4, **short)
    alone = run(tiny_recipe(**short), data=tiny_data(), store=tmp_path / "alone", engine="torch")
    for arm, rows in alone.document["arms"].items():
        found = results.document["arms"][arm]
        assert [row["kept"] for row in rows] == [row["kept"] for row in found]
    widths = {a.provenance.get("stack") for a in stacked.answers.values() if isinstance(a, Trained)}
    assert "4" in widths and not results.failures
    again, _ = go(tmp_path / "stacked", 1, **short)
    assert again.computed == 0 and again.document == results.document  # how it was computed is no part of what it is


def test_what_is_waited_for_goes_first_and_others_fill_the_lanes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, width=3)
    aside = bench.submit(*(fit(n) for n in range(3)), aside=True)
    late = bench.submit(fit(9, first=2))
    waited = bench.submit(fit(5), fit(6))
    found = [[outcome.digest for outcome in ended] for ended in bench.ends()]
    assert found == [late, [*waited, aside[0]], aside[1:]]
    assert bench.engines(*late, *waited, *aside) == [("torch", None), *[("stacked", "3")] * 3, *[("stacked", "2")] * 2]
    assert bench.executor.free() == 48 and bench.steps
    bench.submit(*(fit(n) for n in range(3)))
    assert all(isinstance(outcome, Done) for outcome in bench.executor.wait(0.1))  # from the store


def test_a_fit_that_somebody_computes_is_left_to_them(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    names = bench.submit(fit(0), fit(1), fit(2))
    with bench.store.lock(names[1]):
        outcomes = {type(outcome): outcome.digest for outcome in bench.executor.wait(0.1)}
    assert outcomes[Busy] == names[1] and bench.engines(names[0], names[2]) == [("stacked", "2")] * 2


def test_too_little_memory_halves_the_stack_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, tried = Bench(tmp_path, width=8), list[int]()
    whole = Supervised.fit_many

    def scarce(self: Supervised, fits: Sequence[Fit], *rest: Any, **named: Any) -> Any:
        tried.append(named["width"])
        if named["width"] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return whole(self, fits, *rest, **named)

    monkeypatch.setattr(Supervised, "fit_many", scarce)
    names = bench.submit(*(fit(n) for n in range(6)))
    with pytest.warns(Hint, match="6 fits at once do not fit in the device's memory; going on with 3 at a time"):
        assert bench.executor.wait(0.1) == []
    with pytest.warns(Hint, match="3 fits at once do not fit .* going on with 2 at a time"):
        assert bench.executor.wait(0.1) == []
    assert [len(ended) for ended in bench.ends()] == [2] * 3
    assert tried == [6, 3, 2, 2, 2] and bench.engines(*names) == [("stacked", "2")] * 6


def test_no_memory_for_two_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("tombola.training.stacking.Stack", none)
    bench = Bench(tmp_path)
    assert bench.task.why_not_stacked() == "the device has no memory for two at once"
    names = bench.submit(fit(0), fit(1))
    assert [len(ended) for ended in bench.ends()] == [1, 1] and bench.engines(*names) == [("torch", None)] * 2


def test_data_that_the_device_does_not_hold_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    subject = task()
    monkeypatch.setattr("tombola.supervised.prepare", none)
    monkeypatch.setattr(subject, "_sets", None)
    with pytest.raises(UsageError, match="does not fit into the memory of cpu, where it stays"):
        _ = subject.sets


def test_a_fit_that_memory_does_not_hold_at_all_fails_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("tombola.supervised.train", none)
    bench = Bench(tmp_path)
    [name] = bench.submit(fit(0))
    [[failed]] = bench.ends()
    assert isinstance(failed, Failed) and failed.digest == name
    assert failed.cause.startswith("the device's memory does not hold it; use a smaller --batch-size")


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], None]:
    """Ctrl-C at this step of a stack, as the executor sees it."""
    asked: list[bool] = []

    def stopped(*given: Any, events: Sequence[Any], **named: Any) -> Any:
        for one in events:
            progress = one.progress
            one.progress = lambda at, told=progress: (asked.append(at >= step), told(at))
            one.stopping = lambda: bool(asked and asked[-1])
        return train_many(*given, events=events, **named)

    monkeypatch.setattr("tombola.supervised.train_many", stopped)
    return lambda: monkeypatch.setattr("tombola.supervised.train_many", train_many)


def test_a_stopped_stack_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, half = Bench(tmp_path / "whole", width=3), Bench(tmp_path / "half", width=3)
    asked = [fit(n, keep=(4, 9)) for n in range(3)]
    names = whole.submit(*asked)
    whole.ends()
    undo = stop_at(monkeypatch, 7)
    half.submit(*asked)
    with pytest.raises(KeyboardInterrupt):
        half.executor.wait(0.1)
    undo()
    assert all(half.store.checkpoint(name) for name in names)
    half = Bench(tmp_path / "half", width=2)  # narrower now: what was begun goes on as it was begun
    half.submit(*asked)
    half.ends()
    assert half.engines(*names) == [("stacked", "3")] * 3
    assert numbers(tmp_path / "half") == numbers(tmp_path / "whole")
    assert not any(half.store.checkpoint(name) for name in names)


def test_a_state_that_is_lacking_is_made_again_by_a_stack_of_the_same_width(tmp_path: Path) -> None:
    bench = Bench(tmp_path, width=3)
    names = bench.submit(*(fit(n) for n in range(3)))
    bench.ends()
    bench.submit(fit(1, keep=(4,)))
    [[done]] = bench.ends()
    assert isinstance(done, Done) and isinstance(done.answer, Trained)
    assert sorted(done.answer.states) == [4, 12] and bench.engines(names[1]) == [("stacked", "3")]
    other = Bench(tmp_path / "other", width=3)
    _, second, _ = other.submit(fit(0), fit(1, keep=(4,)), fit(2))
    other.ends()
    wanted = other.store.get(second)
    assert isinstance(wanted, Trained) and wanted.states == done.answer.states


def odd() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), nn.Dropout(0.5), nn.Linear(6, 3))


def test_a_network_that_does_not_stack_trains_by_itself(tmp_path: Path) -> None:
    bench = Bench(tmp_path, model=odd, net=Net())
    names = bench.submit(fit(0), fit(1))
    assert [len(ended) for ended in bench.ends()] == [1, 1] and bench.engines(*names) == [("torch", None)] * 2
    with pytest.raises(UsageError, match="cannot be trained as one: its Dropout draws from torch's generator"):
        bench.task.fit_many([fit(0)], [{}], events=[])
    assert isinstance(bench.task, Stacking) and not stacks(bench.task, 2, "cpu")
    assert stacks(task(), 2, "cpu") and not stacks(task(), "auto", "cpu") and not stacks(task(), 1, "cpu")
    assert task().lanes() == 1
    assert task(engine="torch").why_not_stacked() == "the torch engine was asked for"


@pytest.mark.parametrize("stack", [0, -1, True, 2.0, "many"])
def test_what_is_no_width(stack: Any) -> None:
    with pytest.raises(UsageError, match="expected a whole number, 1 or more, or auto"):
        check_stack(stack, engine="auto", workers=None)


def test_a_width_that_does_not_go_with_the_rest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the native engine trains one fit at a time"):
        check_stack(2, engine="native", workers=1)
    with pytest.raises(UsageError, match="a stack trains in one process"):
        run_experiment(prepare(tiny_recipe(), data=tiny_data()), Store(tmp_path), workers=2, stack=2)
    check_stack("auto", engine="native", workers=2)
