"""Two processes under `torchrun` find one ticket: the same masks, clean gradients before the all-reduce, resumable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent


def torchrun(*tickets: tuple[Path, Path, int, str]) -> subprocess.CompletedProcess[str]:
    """Two processes that find tickets one after the other: (store, folder, training to die in, how)."""
    words = [str(word) for ticket in tickets for word in ticket]
    for _, out, _, _ in tickets:
        out.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command += [str(TESTS / "ddp_worker.py"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What each rank has written: resumed after a kill in the third training, undisturbed, and trained apart."""
    place = tmp_path_factory.mktemp("ddp")
    assert torchrun((place / "a", place / "killed", 3, "together")).returncode != 0
    assert not list((place / "killed").iterdir())
    names = {"resumed": ("a", "together"), "whole": ("b", "together"), "apart": ("c", "alone")}
    done = torchrun(*((place / store, place / name, 0, how) for name, (store, how) in names.items()))
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: [json.loads((place / name / f"{rank}.json").read_text()) for rank in (0, 1)] for name in names}


def test_two_processes_find_one_ticket_and_go_on_after_a_kill(found: dict[str, list[dict[str, Any]]]) -> None:
    resumed, whole = found["resumed"], found["whole"]
    for one, two in (resumed, whole):
        assert one == two and one["dirty"] == 0 and one["checked"] > 1000
        assert one["metrics"] == [0.0] * 4  # rank 0's word counts
    assert (resumed[0]["runs"], whole[0]["runs"]) == (2, 4)
    for name in ("mask", "metrics", "weights", "trained"):
        assert resumed[0][name] == whole[0][name], name


def test_processes_that_train_apart_are_refused(found: dict[str, list[dict[str, Any]]]) -> None:
    for one in found["apart"]:
        assert "of rank 1 and of rank 0 differ" in one["error"] and "level 0" in one["error"]
