"""Locks between processes: one computes, others go on; the kernel frees what a killed one held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tombola.errors import StoreError
from tombola.store import Store

HOLD = """
import sys
from pathlib import Path
from tombola.store.files import locked, shared
place = Path(sys.argv[2])
with (locked(place) if sys.argv[1] == "request" else shared(place, exclusive=False)) as got:
    print(got, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def holder(kind: str, place: Path) -> subprocess.Popen[str]:
    """Another process that holds a lock until its input ends."""
    command = [sys.executable, "-c", HOLD, kind, str(place)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)


@pytest.fixture
def other(store: Store) -> Iterator[subprocess.Popen[str]]:
    process = holder("request", store.root / "locks" / "abc")
    yield process
    finish(process)


def test_a_request_is_computed_by_one_process(store: Store, other: subprocess.Popen[str]) -> None:
    with store.lock("abc") as got, store.lock("def") as free:
        assert (got, free) == (False, True)
    assert (store.root / "locks" / "abc").exists(), "only the holder removes the file"
    finish(other)
    with store.lock("abc") as got:
        assert got
    assert list((store.root / "locks").iterdir()) == []


def test_kill_9_frees_the_lock(store: Store, other: subprocess.Popen[str]) -> None:
    os.kill(other.pid, signal.SIGKILL)
    assert other.wait(30) == -signal.SIGKILL
    assert (store.root / "locks" / "abc").exists(), "nobody could remove it"
    with store.lock("abc") as got:
        assert got
        with store.lock("abc") as again:
            assert not again
    assert list((store.root / "locks").iterdir()) == []


def test_a_lock_is_freed_when_its_holder_raises(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock("abc") as got:
        assert got
        raise ZeroDivisionError
    with store.lock("abc") as again:
        assert again


def test_a_lock_whose_file_was_removed_meanwhile_guards_nothing(store: Store) -> None:
    """We open the file, its holder removes it and ends, somebody else makes it anew: only one of us holds the lock."""
    path = store.root / "locks" / "abc"
    with store.lock("abc") as first:
        assert first
        path.unlink()
        with store.lock("abc") as second:
            assert second, "a new file is a new lock"
            path.unlink()
    with store.lock("abc") as third:
        assert third


def test_collecting_waits_for_runs_to_end(store: Store) -> None:
    process = holder("run", store.root / "format.json")
    with store.together(), pytest.raises(StoreError, match="A run is using the store"), store.alone():
        pytest.fail("alone beside two runs")
    finish(process)
    with store.alone(), store.lock("abc") as got:
        assert got


def test_what_a_killed_process_has_left_is_removed_and_what_is_held_stays(
    store: Store, other: subprocess.Popen[str]
) -> None:
    killed = holder("request", store.root / "locks" / "left")
    killed.kill()
    finish(killed)
    locks = store.root / "locks"
    assert sorted(path.name for path in locks.iterdir()) == ["abc", "left"]
    with store.together():
        assert [path.name for path in locks.iterdir()] == ["abc"]
        with store.lock("abc") as got:
            assert not got
