"""Several processes: worker pools, workers that are killed, two runs on one store, kill -9 of everything."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Counting, Marked, ended, numbers, tiny_data, tiny_recipe
from torch import nn

from tombola.errors import UsageError
from tombola.executors.base import Job
from tombola.executors.pool import Pool, _Worker
from tombola.experiment import Results, prepare, run
from tombola.store import Store

RUN = """
import json, sys
from helpers import Counting, Marked, tiny_data, tiny_recipe
from tombola.experiment import run
if __name__ == "__main__":
    watcher = Counting()
    store, workers = sys.argv[1], int(sys.argv[2])
    found = run(tiny_recipe(), model=Marked, data=tiny_data(), store=store, workers=workers, watcher=watcher)
    print(json.dumps({"document": found.document, "failures": len(found.failures), "steps": len(watcher.steps)}))
"""
FITS, CUTS = 2 * (1 + 2 * 3), 2 * 2


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The document and the objects of the experiment that all tests here run, made in one process."""
    place = tmp_path_factory.mktemp("undisturbed")
    return go(place).document, numbers(place)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[list[str]]:
    """A command that runs the same experiment in another process."""
    path = tmp_path / "script.py"
    path.write_text(RUN)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    yield [sys.executable, str(path), str(tmp_path / "store")]
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def go(place: Path, **named: Any) -> Results:
    return run(tiny_recipe(), model=Marked, data=tiny_data(), store=place, **named)


def answers(place: Path) -> int:
    return len(list((place / "answers").rglob("*.json")))


def test_two_workers_find_what_one_process_finds_and_a_killed_one_fails_one_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[dict[str, Any], dict[str, bytes]]
) -> None:
    document, objects = undisturbed
    experiment = prepare(tiny_recipe(), data=tiny_data(), model=Marked)
    network = experiment.task.build(experiment.plans[1].redraw(0).seed)
    assert isinstance(network, Marked)
    (tmp_path / "mark").write_text(f"{float(network.mark)!r} kill")
    monkeypatch.setenv("TOMBOLA_TEST_MARK", str(tmp_path / "mark"))
    watcher = Counting()
    first = go(tmp_path / "store", workers=2, watcher=watcher)
    assert [(f.place.replicate, f.place.arm.name) for f in first.failures] == [(1, "reinit")]
    assert "was killed by SIGKILL" in first.failures[0].cause and first.ended == ()
    assert answers(tmp_path / "store") == FITS + CUTS - 1 and len(watcher.jobs) == FITS + CUTS
    second = Counting()
    after = go(tmp_path / "store", watcher=second)
    assert after.failures == () and len(second.jobs) == 1
    assert after.document == document and numbers(tmp_path / "store") == objects


def test_two_runs_on_one_store_share_the_work(
    tmp_path: Path, script: list[str], undisturbed: tuple[dict[str, Any], dict[str, bytes]]
) -> None:
    """Every step of every fit is done by one of them, none by both."""
    both = [
        subprocess.Popen([*script, "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    found = []
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and err == ""
        found.append(json.loads(out))
    document, objects = undisturbed
    assert [run["document"] for run in found] == [document] * 2 and [run["failures"] for run in found] == [0, 0]
    assert sum(run["steps"] for run in found) == FITS * 60
    assert numbers(tmp_path / "store") == objects and answers(tmp_path / "store") == FITS + CUTS
    assert not any(path.name.startswith(".") for path in (tmp_path / "store").rglob("*"))
    assert list((tmp_path / "store" / "locks").iterdir()) == []
    assert [content["state"] for _, content in Store(tmp_path / "store").experiments()] == ["finished"]


def test_kill_9_and_the_same_command_again(
    tmp_path: Path, script: list[str], undisturbed: tuple[dict[str, Any], dict[str, bytes]]
) -> None:
    """First the parent alone is killed, whose workers must end by themselves; then everything at once."""
    store = tmp_path / "store"
    for least in (2, 8):
        given = ["nice", *script, "2"]  # on a busy machine it must not end before who watches it has looked
        process = subprocess.Popen(given, start_new_session=True, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 100
        with ended(process.pid):
            while answers(store) < least and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            workers = children(process.pid)
            assert len(workers) >= 2
            if least == 2:
                os.kill(process.pid, signal.SIGKILL)
                while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
                    time.sleep(0.005)
                assert not any(alive(pid) for pid in workers)
        assert process.wait(30) == -signal.SIGKILL and least <= answers(store) < FITS + CUTS
        while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.005)
    document, objects = undisturbed
    watcher = Counting()
    before = answers(store)
    after = go(store, watcher=watcher)
    assert after.document == document and numbers(store) == objects
    assert len(watcher.jobs) == FITS + CUTS - before and list((store / "locks").iterdir()) == []


def children(parent: int) -> list[int]:
    """Processes whose parent this is."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def test_a_pool_without_workers_waits_and_a_dead_idle_worker_gets_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = prepare(tiny_recipe(), data=tiny_data())
    pool = Pool(experiment.task, Store(tmp_path), workers=2, on_progress=lambda request, step: None)
    assert (pool.free(), pool.wait(0.01)) == (2, [])
    context = multiprocessing.get_context("spawn")
    never_started, started = context.Process(), []
    idle = _Worker(never_started, context.Pipe()[0])
    monkeypatch.setattr(
        Pool, "_start", lambda self: started.append(_Worker(never_started, context.Pipe()[0])) or started[0]
    )
    pool._workers.append(idle)
    pool.submit(Job(digest="0" * 32, request=experiment.plans[0].fit(experiment.plans[0].init(), None)))
    assert idle.job is None and started[0].job is not None


def test_what_cannot_be_sent_to_workers_is_refused(tmp_path: Path) -> None:
    def local() -> nn.Module:
        return nn.Linear(8, 3)

    with pytest.raises(UsageError, match="cannot be sent to worker processes"):
        run(tiny_recipe(), model=local, data=tiny_data(), store=tmp_path, workers=2)
    with pytest.raises(UsageError, match="workers is 0"):
        run(tiny_recipe(), data=tiny_data(), store=tmp_path, workers=0)
    assert run(tiny_recipe(levels=1, replicates=1), model=local, data=tiny_data(), store=tmp_path).failures == ()
