"""Two processes under `torchrun` find one ticket: the same masks, clean gradients before the all-reduce, resumable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


def torchrun(store: Path, out: Path, die: int = 0, how: str = "together") -> list[dict[str, Any]]:
    """What each rank has written; empty where the run was killed."""
    out.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(TESTS / "ddp_worker.py"), str(store), str(out), str(die), how]
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode != 0) == bool(die), done.stderr[-3000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)] if not die else []


def test_two_processes_find_one_ticket_and_go_on_after_a_kill(tmp_path: Path) -> None:
    torchrun(tmp_path / "a", tmp_path / "killed", die=3)
    resumed = torchrun(tmp_path / "a", tmp_path / "resumed")
    whole = torchrun(tmp_path / "b", tmp_path / "whole")
    for one, two in (resumed, whole):
        assert one == two and one["dirty"] == 0 and one["checked"] > 1000
        assert one["metrics"] == [0.0] * 4  # rank 0's word counts
    assert (resumed[0]["runs"], whole[0]["runs"]) == (2, 4)
    for name in ("mask", "metrics", "weights", "trained"):
        assert resumed[0][name] == whole[0][name], name


def test_processes_that_train_apart_are_refused(tmp_path: Path) -> None:
    for found in torchrun(tmp_path / "a", tmp_path / "apart", how="alone"):
        assert "of rank 1 and of rank 0 differ" in found["error"] and "level 0" in found["error"]
