"""What goes wrong and what becomes of it: damage, lost states, failures, divergence, interruptions."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Counting, Marked, numbers, tiny_data, tiny_recipe

from tombola.answers import Trained
from tombola.errors import FitFailed, StoreError
from tombola.executors.base import Job, Outcome
from tombola.executors.inline import Inline
from tombola.experiment import Experiment, Results, prepare, run, run_experiment
from tombola.requests import TICKET, Arm, Fit, Found, Round, Search
from tombola.runner import Runner
from tombola.starts import At, Init
from tombola.store import Store
from tombola.training.optimizers import Optimizer

LATER: dict[str, Any] = {"rewind_to": 20, "search_steps": 60}


def go(place: Path, **changes: Any) -> tuple[Results, Counting]:
    watcher = Counting()
    return run(tiny_recipe(**changes), data=tiny_data(), store=place, watcher=watcher), watcher


def marked(place: Path, lines: list[str] | None = None, **changes: Any) -> tuple[Results, Counting]:
    """The same with the user's network that can have a misfortune."""
    watcher = Counting()
    experiment = prepare(tiny_recipe(**changes), data=tiny_data(), model=Marked)
    store = Store(place, report=(lines if lines is not None else []).append)
    return run_experiment(experiment, store, watcher=watcher), watcher


def mark_of(seed: int, **changes: Any) -> str:
    """The mark of the network that an init seed gives."""
    network = prepare(tiny_recipe(**changes), data=tiny_data(), model=Marked).task.build(seed)
    assert isinstance(network, Marked)
    return repr(float(network.mark))


@pytest.fixture
def misfortune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], None]:
    """Sets which network shall meet with what at its seventh training step."""
    place = tmp_path / "mark"
    monkeypatch.setenv("TOMBOLA_TEST_MARK", str(place))
    return lambda seed, how: (place.write_text(f"{mark_of(seed)} {how}"), None)[1]


@pytest.mark.parametrize("changes", [{}, {"reset": "fine-tune"}, {"rewind_to": 20}, LATER], ids=str)
def test_lost_states_are_made_again_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    """All objects and masks of a finished experiment, and the answers of its cuts, are gone."""
    before, _ = go(tmp_path, replicates=1, **changes)
    objects = numbers(tmp_path)
    for path in [*(tmp_path / "objects").rglob("*.*"), *(tmp_path / "masks").rglob("*.*")]:
        path.unlink()
    for path in (tmp_path / "answers").rglob("*.json"):
        if json.loads(path.read_text())["kind"] == "pruned":
            path.unlink()
    after, watcher = go(tmp_path, replicates=1, **changes)
    assert after == before and numbers(tmp_path) == objects and watcher.failures == []
    assert len(watcher.jobs) >= 9
    _, third = go(tmp_path, replicates=1, **changes)
    assert third.jobs == []


@pytest.mark.parametrize("kind", ["answers", "objects", "masks", "experiments"])
@pytest.mark.parametrize("reset", ["rewind", "fine-tune"])
def test_damaged_files_are_computed_again_and_change_no_result(tmp_path: Path, kind: str, reset: str) -> None:
    chosen: dict[str, Any] = {"reset": reset, "rewind_to": 20 if reset == "rewind" else 0}
    before, _ = marked(tmp_path, replicates=1, **chosen)
    objects = numbers(tmp_path)
    for path in (tmp_path / kind).rglob("*.*"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - 9])
    for path in (tmp_path / "answers").rglob("*.json") if kind == "masks" else ():
        path.unlink()  # else nobody reads a mask again
    lines: list[str] = []
    after, watcher = marked(tmp_path, lines, replicates=1, **chosen)
    assert after == before and watcher.failures == []
    assert len(lines) == len(set(lines)) and (len(lines) >= 1 or (kind, reset) == ("masks", "rewind"))
    assert kind == "objects" or numbers(tmp_path) == objects
    _, third = marked(tmp_path, replicates=1, **chosen)
    assert third.jobs == []


def test_a_state_that_cannot_be_made_again_alike_is_an_error_with_its_cause(tmp_path: Path) -> None:
    go(tmp_path, replicates=1, controls=())
    store = Store(tmp_path)
    [(_, experiment)] = store.experiments()
    dense = next(row["request"] for row in experiment["rows"] if row["level"] == 0)
    answer = store.get(dense)
    assert isinstance(answer, Trained)
    path = store.answer_path(dense)
    content = json.loads(path.read_text())
    content["answer"]["states"] = [[0, answer.states[60]], [60, "0" * 64]]  # as if made on another machine
    from tombola.store.files import write_json

    write_json(path, {key: value for key, value in content.items() if key != "sha256"})
    results, watcher = go(tmp_path, replicates=1, controls=())
    assert len(watcher.failures) == 1 and "bit for bit" in watcher.failures[0].cause
    assert len(results.ended) == 1 and results.ended[0].place.level == 0


def test_one_failing_request_leaves_the_others_alone(tmp_path: Path, misfortune: Callable[[int, str], None]) -> None:
    plan = prepare(tiny_recipe(), data=tiny_data(), model=Marked).plans[0]
    misfortune(plan.redraw(0).seed, "raise")
    results, watcher = marked(tmp_path / "store")
    assert [(f.place.level, f.place.replicate, f.place.arm.name) for f in results.failures] == [
        (1, 0, "reinit"),
        (2, 0, "reinit"),
    ]
    for failure in results.failures:
        assert failure.cause.startswith("ZeroDivisionError: a user's mistake (helpers.py, line ")
    assert results.ended == () and watcher.failures == list(results.failures)
    arms = results.document["arms"]
    assert {name: len(rows) for name, rows in arms.items()} == {"ticket": 6, "shuffled": 4, "reinit": 2}
    store = Store(tmp_path / "store")
    [(_, content)] = store.experiments()
    assert content["state"] == "failed" and [f["arm"] for f in content["failures"]] == ["reinit", "reinit"]
    (tmp_path / "mark").unlink()
    again, second = marked(tmp_path / "store")
    assert len(second.jobs) == 2 and again.failures == () and len(again.document["arms"]["reinit"]) == 4


@pytest.mark.parametrize("how", ["raise", "nan"])
def test_a_dense_run_that_breaks_ends_its_replicate_alone(
    tmp_path: Path, misfortune: Callable[[int, str], None], how: str
) -> None:
    plan = prepare(tiny_recipe(), data=tiny_data(), model=Marked).plans[0]
    misfortune(plan.init().seed, how)
    results, watcher = marked(tmp_path / "store")
    arms = results.document["arms"]
    assert {name: len(rows) for name, rows in arms.items()}.items() >= {"reinit": 2, "shuffled": 2}.items()
    [ended] = results.ended
    assert (ended.place.replicate, ended.place.level) == (0, 0)
    if how == "raise":
        assert len(arms["ticket"]) == 3 and len(results.failures) == 1 and "ZeroDivisionError" in ended.cause
        return
    assert results.failures == () and "not finite at step 10" in ended.cause
    row = arms["ticket"][0]
    assert row["diverged"] and row["level"] == 0 and row["kept"] == 176
    for name in ("test_accuracy", "train_accuracy", "early_stop_step", "validation_loss_min"):
        assert row[name] is None
    assert not any(r["diverged"] for r in arms["ticket"][1:])
    assert "NaN" not in json.dumps(results.document, allow_nan=False)
    answer = watcher.trained(0)
    assert answer.diverged_at == 10 and list(answer.states) == [0]
    again, second = marked(tmp_path / "store")
    assert second.jobs == [] and again == results


@pytest.mark.parametrize("rewind_to", [0, 20])
def test_an_experiment_that_diverges_everywhere_says_so_once_a_replicate(tmp_path: Path, rewind_to: int) -> None:
    for _ in range(2):
        results, _ = go(tmp_path, optimizer=Optimizer(name="sgd", lr=1e30), rewind_to=rewind_to)
        assert [(e.place.replicate, e.place.level) for e in results.ended] == [(0, 0), (1, 0)]
        assert results.failures == () and [r["diverged"] for r in results.document["arms"]["ticket"]] == [True, True]


class Wide(Inline):
    """Takes two jobs at a time, as a pool does, and computes one after the other."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.jobs: list[Job] = []

    def free(self) -> int:
        return 2 - len(self.jobs)

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, seconds: float) -> list[Outcome]:
        if self.jobs:
            super().submit(self.jobs.pop(0))
        return super().wait(seconds)


def drive(place: Path, search: Callable[[Experiment], Search]) -> Runner:
    """Run one search of a test's own."""
    experiment = prepare(tiny_recipe(), data=tiny_data())
    store, watcher = Store(place), Counting()
    executor = Wide(experiment.task, store, on_progress=watcher.progress)
    runner = Runner(
        experiment.task.fingerprint, {0: search(experiment)}, store=store, executor=executor, watcher=watcher
    )
    runner.run()
    return runner


def plain(**changes: Any) -> Fit:
    return Fit(**{"start": Init(seed=1), "mask": None, "last": 12, "order": 1, "noise": 1, **changes})


def test_a_start_that_cannot_be_is_a_failure_and_no_endless_loop(tmp_path: Path) -> None:
    def strange(experiment: Experiment) -> Search:
        answers = yield Round(level=0, ask={TICKET: plain()})
        base = answers[TICKET]
        assert isinstance(base, Trained)
        never = {
            Arm(name="unknown"): plain(start=At(fit="0" * 32, step=3)),
            Arm(name="beyond"): plain(start=At(fit=base.request, step=99)),
            Arm(name="between"): plain(start=At(fit=base.request, step=5)),
        }
        yield Round(level=1, aside=never)
        return Found(mask=experiment.plans[0].dense)

    runner = drive(tmp_path, strange)
    causes = {failure.place.arm.name: failure.cause for failure in runner.failures}
    assert causes.keys() == {"unknown", "beyond"}
    assert "does not have" in causes["unknown"] and "never came there" in causes["beyond"]
    assert [row.place.arm.name for row in runner.rows] == ["ticket", "between"]


def test_a_search_may_catch_a_failure_and_go_on(tmp_path: Path) -> None:
    caught: list[str] = []

    def patient(experiment: Experiment) -> Search:
        with pytest.raises(FitFailed) as failure:
            yield Round(level=3, ask={TICKET: plain(start=At(fit="0" * 32, step=3)), Arm(name="other"): plain()})
        caught.append(str(failure.value))
        answers = yield Round(level=4, ask={TICKET: plain(last=15)})
        assert isinstance(answers[TICKET], Trained)
        return Found(mask=experiment.plans[0].dense)

    runner = drive(tmp_path, patient)
    assert len(caught) == 1 and caught[0].startswith("replicate 0, level 3, ticket: it starts from step 3")
    assert len(runner.failures) == 1 and runner.ended == [] and len(runner.rows) == 2


def test_one_request_in_two_places_of_which_the_source_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both wait for a state that cannot be made again; both fail, once each."""

    def failing(*args: object, **named: object) -> None:
        raise ZeroDivisionError("no")

    def twice(experiment: Experiment) -> Search:
        answers = yield Round(level=0, ask={TICKET: plain()})
        base = answers[TICKET]
        assert isinstance(base, Trained)
        Store(tmp_path).object_path(base.states[12]).unlink()
        monkeypatch.setattr("tombola.supervised.Supervised.fit", failing)
        both = plain(start=At(fit=base.request, step=12), first=12, last=14)
        yield Round(level=1, aside={TICKET: both, Arm(name="again"): both})
        return Found(mask=experiment.plans[0].dense)

    runner = drive(tmp_path, twice)
    assert sorted(failure.place.arm.name for failure in runner.failures) == ["again", "ticket"]
    assert all("ZeroDivisionError" in failure.cause for failure in runner.failures)


def test_an_interruption_ends_the_run_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting(Counting):
        def progress(self, request: str, step: int) -> None:
            super().progress(request, step)
            if len(self.steps) == 200:
                raise KeyboardInterrupt

    whole, _ = go(tmp_path / "whole", replicates=1)
    watcher = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        run(tiny_recipe(replicates=1), data=tiny_data(), store=tmp_path / "store", watcher=watcher)
    [(_, content)] = Store(tmp_path / "store").experiments()
    assert content["state"] == "stopped" and 0 < len(content["rows"]) < 9
    assert list((tmp_path / "store" / "locks").iterdir()) == []
    after, second = go(tmp_path / "store", replicates=1)
    assert after == whole and len(second.jobs) + len(content["rows"]) == 9
    assert numbers(tmp_path / "store") == numbers(tmp_path / "whole")
    [(_, content)] = Store(tmp_path / "store").experiments()
    assert content["state"] == "finished" and len(content["rows"]) == 9


def test_a_full_disk_ends_the_run_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        written.append(target)
        if len(written) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, target)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", full)
        with pytest.raises(StoreError, match="the disk is full") as caught:
            go(tmp_path, replicates=1)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1
    after, _ = go(tmp_path, replicates=1)
    assert after.failures == () and len(after.document["arms"]["ticket"]) == 3


@pytest.fixture(autouse=True)
def no_thread_count_is_left() -> Iterator[None]:
    """The executor in this process puts torch's thread count back."""
    import torch

    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before
