"""`find_ticket` and its store: what is not trained again, damage, kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from finding_helpers import KIND, Counted, by_hand, factory, loss, train
from helpers import same_state
from own_loops import built
from torch import nn

from tombola import Ticket, find_ticket
from tombola.errors import StoreError


def test_finished_levels_are_not_trained_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"rate": 0.3, "rewind_to": 2, "controls": ("reinit", "shuffled"), "store": tmp_path}
    counted = Counted()
    first = find_ticket(factory, counted, loss, levels=3, key="a", **settings)
    assert counted.runs == 6
    second = find_ticket(factory, counted, loss, levels=3, key="a", **settings)
    assert counted.runs == 6 and first.mask == second.mask and first.history == second.history
    assert same_state(first.trained or {}, second.trained or {}) and same_state(first.weights, second.weights)
    deeper = find_ticket(factory, counted, loss, levels=4, key="a", **settings)
    assert counted.runs == 9  # one level and its controls
    free = find_ticket(factory, Counted(), loss, levels=4, **{**settings, "store": None})
    assert deeper.mask == free.mask and same_state(deeper.trained or {}, free.trained or {})
    for change in ({"key": "b"}, {"key": "a", "rewind_to": 3}, {"key": "a", "after_rewind": "restart"}):
        runs = counted.runs
        find_ticket(factory, counted, loss, levels=1, **{**settings, "controls": (), **change})
        assert counted.runs == runs + (1 if "after_rewind" in change else 2), change
    runs = counted.runs
    find_ticket(lambda: built(KIND, seed=9), counted, loss, levels=1, key="a", **{**settings, "controls": ()})
    assert counted.runs > runs  # other start weights


def test_a_metric_that_is_missing_is_measured_without_training(tmp_path: Path) -> None:
    counted = Counted()
    find_ticket(built(KIND), counted, levels=1, store=tmp_path)
    ticket = find_ticket(built(KIND), counted, loss, levels=1, store=tmp_path)
    assert counted.runs == 2 and [row.metric for row in ticket.history] == by_hand(1, 0.2)[2]


@pytest.mark.parametrize("how", ["truncated", "altered", "gone", "no json"])
def test_damaged_levels_are_trained_again(tmp_path: Path, how: str) -> None:
    counted = Counted()
    first = find_ticket(built(KIND), counted, loss, levels=1, store=tmp_path)
    suffix = "json" if how == "no json" else "safetensors"
    for path in (tmp_path / "tickets").rglob(f"*.{suffix}"):
        data = path.read_bytes()
        if how in ("gone", "no json"):
            path.unlink()
        else:
            path.write_bytes(data[:-9] if how == "truncated" else data[:-4] + b"\x00\x00\x80\x3f")
    second = find_ticket(built(KIND), counted, loss, levels=1, store=tmp_path)
    assert counted.runs == 4 and same_state(first.trained or {}, second.trained or {})
    assert not [p for p in tmp_path.rglob("*") if p.suffix in {".pt", ".pth", ".pkl", ".pickle"}]


def test_another_process_on_the_same_ticket_is_refused(tmp_path: Path) -> None:
    def nested(model: nn.Module) -> None:
        with pytest.raises(StoreError, match="wait until it has ended"):
            find_ticket(built(KIND), train, levels=1, store=tmp_path)
        train(model)

    find_ticket(built(KIND), nested, levels=1, store=tmp_path)
    find_ticket(built(KIND), train, levels=1, store=tmp_path)


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
import finding_helpers as t
from tombola import find_ticket
runs = 0
def train(model):
    global runs
    runs += 1
    if runs == 3:
        t.sgd(model, t.BATCHES[:4], [], lambda *_: None)
        os.kill(os.getpid(), signal.SIGKILL)
    t.train(model)
find_ticket(t.factory, train, t.loss, levels=4, rate=0.3, rewind_to=2, store={store!r}, key="k")
"""


def test_after_kill_9_it_goes_on_with_the_level_that_was_killed(tmp_path: Path) -> None:
    code = SCRIPT.format(tests=str(Path(__file__).parent), store=str(tmp_path / "a"))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    def go(store: str) -> tuple[Ticket, int]:
        counted = Counted()
        ticket = find_ticket(factory, counted, loss, levels=4, rate=0.3, rewind_to=2, store=tmp_path / store, key="k")
        return ticket, counted.runs

    (resumed, after), (whole, all_of_them) = go("a"), go("b")
    assert (after, all_of_them) == (3, 5)
    assert resumed.mask == whole.mask
    assert [row.metric for row in resumed.history] == [row.metric for row in whole.history]
