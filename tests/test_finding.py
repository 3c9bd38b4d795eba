"""`find_ticket`: what it trains, in which order, what it leaves behind, and what it takes from a store."""

from __future__ import annotations

import copy
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import same_state
from own_loops import MODULES, STEPS, batches_for, built, mlp, sgd
from test_enforce_edges import hooks_of
from torch import Tensor, nn
from torch.nn import functional as F

from tombola import Mask, Ticket, TombolaError, enforce, find_ticket, prune, rewind
from tombola.allocation import Layerwise
from tombola.errors import Hint, StoreError, UsageError
from tombola.levels import now
from tombola.training.state import state_of

KIND = MODULES["mlp"]
BATCHES = batches_for(KIND)


def factory() -> nn.Module:
    return mlp()


def train(model: nn.Module) -> None:
    sgd(model, BATCHES, [], lambda *_: None)


def loss(model: nn.Module) -> float:
    with torch.no_grad():
        return -sum(float(F.cross_entropy(model(x), y)) for x, y in BATCHES) / len(BATCHES)


class Counted:
    """The loop, and how often it was run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, model: nn.Module) -> None:
        self.runs += 1
        train(model)


def by_hand(levels: int, rate: float, *, tune: bool = False) -> tuple[nn.Module, Mask, list[float]]:
    """Iterative magnitude pruning with nothing but the pieces."""
    model = built(KIND)
    start, mask, metrics = copy.deepcopy(model.state_dict()), Mask.dense(model), []
    keep = mask.total
    for level in range(levels + 1):
        if level:
            keep -= round(rate * keep)
            mask = prune(model, mask, density=keep / mask.total)
            rewind(model, model.state_dict() if tune else start, mask)
        with enforce(model, None, mask):
            train(model)
        metrics.append(loss(model))
    return model, mask, metrics


@pytest.mark.parametrize("reset", ["rewind", "fine-tune"])
def test_it_is_iterative_pruning_by_hand(reset: Any) -> None:
    model = built(KIND)
    start = state_of(model)
    ticket = find_ticket(model, train, loss, levels=3, rate=0.3, reset=reset)
    other, mask, metrics = by_hand(3, 0.3, tune=reset == "fine-tune")
    assert ticket.mask == mask and ticket.trained is not None
    assert same_state(ticket.trained, state_of(other)) and same_state(ticket.trained, state_of(model))
    assert [row.metric for row in ticket.history] == metrics
    assert [(row.level, row.kept, row.steps, row.arm) for row in ticket.history] == [
        (level, kept, STEPS, "ticket") for level, kept in enumerate((164, 115, 81, 57))
    ]
    kept = {n: torch.where(mask[n], w, 0) if n in mask else w for n, w in start.items()}
    assert same_state(ticket.weights, kept) == (reset == "rewind")
    fresh = ticket.apply(built(KIND, seed=5))
    with enforce(fresh, None, ticket.mask):
        train(fresh)
    assert same_state(state_of(fresh), ticket.trained)


def test_the_same_call_gives_the_same_ticket_and_leaves_random_state_alone() -> None:
    def noisy(model: nn.Module) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1 + 0.1 * random.random() + 0.1 * np.random.rand())
        for _ in range(STEPS):
            optimizer.zero_grad()
            F.dropout(model(torch.randn(8, 6)), 0.5).square().mean().backward()
            optimizer.step()

    def everything() -> tuple[Any, ...]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    wanted = everything()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = find_ticket(factory, noisy, levels=2, rate=0.4)
    assert everything() == wanted
    second = find_ticket(factory, noisy, levels=2, rate=0.4)
    assert first.trained is not None and second.trained is not None
    assert first.mask == second.mask and same_state(first.trained, second.trained)


def test_no_hook_and_no_flag_is_left_whatever_happens() -> None:
    model = built(KIND)
    other = torch.optim.SGD(model.parameters(), lr=0.1)
    before = hooks_of(model, other)
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        calls = []

        def failing(trained: nn.Module, error: type[BaseException] = error, calls: list[int] = calls) -> None:
            train(trained)
            calls.append(hooks_of(model, other))
            if len(calls) == 2:
                raise error("the user's")

        with pytest.raises(error, match="the user's"):
            find_ticket(model, failing, levels=2, rate=0.4, rewind_to=2)
        assert calls[1] > before and hooks_of(model, other) == before and now() is None

    def freezing(trained: nn.Module) -> None:
        assert trained.training and all(p.requires_grad and p.grad is None for p in trained.parameters())
        assert now() is not None
        train(trained)
        trained.eval()
        trained.requires_grad_(False)

    find_ticket(model, freezing, levels=2, rate=0.4)
    assert hooks_of(model, other) == before and now() is None
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())


def test_controls_and_replicates_stand_in_the_history() -> None:
    ticket = find_ticket(factory, train, loss, levels=2, rate=0.4, controls=("reinit", "shuffled"), replicates=3)
    rows = [(row.replicate, row.level, row.arm) for row in ticket.history]
    one = [(0, "ticket"), (1, "ticket"), (2, "ticket"), (2, "reinit"), (2, "shuffled")]
    assert rows == [(replicate, *row) for replicate in range(3) for row in one]
    assert {row.kept for row in ticket.history if row.level == 2} == {59}
    assert len({row.metric for row in ticket.history}) == len(rows)  # arms and replicates all differ
    verdict = ticket.metadata["verdict"]
    assert verdict["word"] in {"winning", "matching", "losing", "inconclusive"} and verdict["replicates"] == 3
    alone = find_ticket(factory, train, loss, levels=2, rate=0.4)
    assert alone.mask == ticket.mask and alone.metadata["verdict"]["word"] == "inconclusive"
    assert find_ticket(factory, train, levels=1).metadata["verdict"] is None


def test_controls_are_what_they_are_called() -> None:
    seen: list[dict[str, Tensor]] = []

    def watched(model: nn.Module) -> None:
        seen.append(state_of(model))
        train(model)

    ticket = find_ticket(factory, watched, levels=1, rate=0.5, controls=("reinit", "shuffled"))
    dense, start, reinit, other = seen
    assert same_state(start, dict(ticket.weights))
    for name in ticket.mask:
        kept = ticket.mask[name]
        assert not bool(reinit[name][~kept].any()) and not torch.equal(reinit[name][kept], dense[name][kept])
        places = other[name] != 0
        assert int(places.sum()) == int(kept.sum()) and torch.equal(other[name][places], dense[name][places])
    assert any(not torch.equal(other[name] != 0, ticket.mask[name]) for name in ticket.mask)


class Judged:
    """A metric that depends on the density alone, and counts how often it is asked."""

    def __init__(self, least: float) -> None:
        self.least, self.densities = least, list[float]()

    def __call__(self, model: nn.Module) -> float:
        weights = [w for n, w in model.named_parameters() if "weight" in n]
        density = sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)
        self.densities.append(density)
        return 1.0 if density >= self.least else 0.0


@pytest.mark.parametrize("least", [0.9, 0.5, 0.2, 0.1, 0.03])
def test_min_metric_finds_what_level_by_level_would_in_fewer_trainings(least: float) -> None:
    counted, judged = Counted(), Judged(least)
    ticket = find_ticket(built(KIND), counted, judged, min_metric=1.0, levels=16, allocation=Layerwise(output=1.0))
    ladder = [164]
    for _ in range(16):
        ladder.append(ladder[-1] - round(0.2 * ladder[-1]))
    wanted = max(level for level, keep in enumerate(ladder) if keep / 164 >= least - 0.005)
    found = max(row.level for row in ticket.history if row.metric == 1.0)
    assert abs(found - wanted) <= 1 and ticket.mask.density >= least
    assert counted.runs == len(judged.densities) == len(ticket.history) <= 8
    assert ticket.metadata["level"] == found


def test_a_search_goes_on_below_a_level_that_failed_after_a_leap() -> None:
    """Level 2 fails when it is cut from the dense network, and holds when it is cut from level 1."""
    from tombola.ladder import sparsest

    walk, tried, good = sparsest(3), list[tuple[int, int]](), None
    try:
        while True:
            tried.append(next(walk) if good is None else walk.send(good))
            good = tried[-1] not in {(0, 2), (2, 3)}
    except StopIteration as end:
        assert end.value == 2
    assert tried == [(0, 2), (0, 1), (1, 2), (2, 3)]


def test_without_levels_it_goes_down_to_a_tenth() -> None:
    ticket = find_ticket(built(KIND), train, rate=0.4, allocation=Layerwise(rate=0.4, output=1.0))
    assert 0.06 <= ticket.mask.density <= 0.1 and ticket.history[-1].level == 5


def test_without_levels_it_ends_where_a_tensor_would_be_emptied() -> None:
    def growing(model: nn.Module) -> None:
        train(model)
        with torch.no_grad():
            model[2].weight.mul_(100)  # type: ignore[index,operator,union-attr]

    with pytest.warns(Hint, match=r"Level 2 cannot be cut.*would empty.*The ticket is that of level 1"):
        ticket = find_ticket(built(KIND), growing, rate=0.4)
    assert ticket.history[-1].level == 1 and ticket.mask.alive == 98
    with pytest.raises(UsageError, match="would empty"):
        find_ticket(built(KIND), growing, rate=0.4, levels=3)


def test_protected_tensors_stay_dense() -> None:
    for protect in ("4.*", ["4.*"], lambda name, weight: name == "4.weight"):
        ticket = find_ticket(built(KIND), train, levels=1, rate=0.5, protect=protect)
        assert list(ticket.mask) == ["0.weight", "2.weight"] and ticket.mask.alive == 70
        assert int((ticket.weights["4.weight"] != 0).sum()) == 24


def test_wrappers_leave_no_prefix_in_the_ticket() -> None:
    wrapped = find_ticket(torch.compile(built(KIND), backend="eager"), train, levels=1, rate=0.5)
    plain = find_ticket(built(KIND), train, levels=1, rate=0.5)
    assert wrapped.mask == plain.mask and same_state(dict(wrapped.weights), dict(plain.weights))


def test_the_hint_about_adam_is_given_once() -> None:
    from tombola.errors import hint

    def slow(model: nn.Module) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for x, y in BATCHES:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    hint.cache_clear()
    with pytest.warns(Hint, match="fused=True") as given:
        find_ticket(built(KIND), slow, levels=2, rate=0.4)
    assert len([one for one in given if one.category is Hint]) == 1


def test_trainings_of_unequal_length_are_pointed_out() -> None:
    lengths = iter((8, 8, 5))

    def stopping(model: nn.Module) -> None:
        sgd(model, BATCHES[: next(lengths)], [], lambda *_: None)

    with pytest.warns(Hint, match="level 2 made 5 steps and level 0 8"):
        find_ticket(built(KIND), stopping, levels=2, rate=0.4)


# --- the store


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
import test_finding as t
from tombola import find_ticket
runs = 0
def train(model):
    global runs
    runs += 1
    if runs == {die}:
        t.sgd(model, t.BATCHES[:4], [], lambda *_: None)
        os.kill(os.getpid(), signal.SIGKILL)
    t.train(model)
ticket = find_ticket(t.factory, train, t.loss, levels=4, rate=0.3, rewind_to=2, store={store!r}, key="k")
print(runs, ticket.mask.digest, *[row.metric for row in ticket.history])
"""


def test_after_kill_9_it_goes_on_with_the_level_that_was_killed(tmp_path: Path) -> None:
    def call(die: int, store: str) -> subprocess.CompletedProcess[str]:
        code = SCRIPT.format(tests=str(Path(__file__).parent), die=die, store=str(tmp_path / store))
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100)

    assert call(3, "a").returncode == -signal.SIGKILL
    resumed, whole = call(0, "a"), call(0, "b")
    assert resumed.returncode == whole.returncode == 0, resumed.stderr
    assert resumed.stdout.split()[0] == "3" and whole.stdout.split()[0] == "5"
    assert resumed.stdout.split()[1:] == whole.stdout.split()[1:]


# --- bad input


def no_step(model: nn.Module) -> None:
    model(BATCHES[0][0])


def on_a_copy(model: nn.Module) -> None:
    train(copy.deepcopy(model))


def reinitialised(model: nn.Module) -> None:
    nn.init.normal_(model[0].weight)  # type: ignore[index,arg-type]
    train(model)


def replaced(model: nn.Module) -> None:
    train(model)
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())  # type: ignore[index,operator,union-attr]


def grown(model: nn.Module) -> None:
    train(model)
    model.register_buffer("calls", torch.zeros(1))


def by_gradients_of_its_own(model: nn.Module) -> None:
    loaded = state_of(mlp())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.load_state_dict(loaded)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def shared_optimizer() -> tuple[nn.Module, Any]:
    model = built(KIND)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loop(trained: nn.Module) -> None:
        for x, y in BATCHES:
            optimizer.zero_grad()
            F.cross_entropy(trained(x), y).backward()
            optimizer.step()

    return model, loop


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        (no_step, r"made no optimizer step on the model \(none in level 0\)"),
        (on_a_copy, r"no optimizer step on the model \(8 steps of optimizers that hold none"),
        (reinitialised, "'0.weight' is not what level 0 starts from.*Do that before find_ticket"),
        (by_gradients_of_its_own, "'0.weight' is not what level 0 starts from"),
        (replaced, "'0.weight' is another parameter than before"),
        (grown, "Before level 1 the model is not what it was at first.*'calls'"),
    ],
)
def test_loops_that_train_no_ticket_are_refused(loop: Any, message: str) -> None:
    with pytest.raises(TombolaError, match=message):
        find_ticket(built(KIND), loop, levels=2, rate=0.4)


def test_optimizers_from_outside_are_refused() -> None:
    model, loop = shared_optimizer()
    with pytest.raises(UsageError, match=r"SGD has made steps before level 1: it was made outside of train"):
        find_ticket(model, loop, levels=1)
    model = built(KIND)
    used = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)

    def loaded(trained: nn.Module) -> None:
        for x, y in BATCHES:
            used.zero_grad()
            F.cross_entropy(trained(x), y).backward()
            used.step()

    loaded(model)
    with pytest.raises(UsageError, match="Adam has made steps before level 0"):
        find_ticket(model, loaded, levels=1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "evaluate returned nan at level 0; expected a finite number"),
        (torch.tensor(float("inf")), "evaluate returned inf"),
        (None, "evaluate returned a NoneType"),
        (torch.zeros(2), "evaluate returned a Tensor"),
        ("0.9x", "evaluate returned a str"),
    ],
)
def test_metrics_that_are_no_numbers_are_refused(value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_ticket(built(KIND), train, lambda model: value, levels=1)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 3))


def transposed() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(3, 6))
    model[2].weight = nn.Parameter(model[1].weight.detach().t())
    return model


def integers() -> nn.Module:
    model = mlp()
    model[0].weight = nn.Parameter(torch.ones(10, 6, dtype=torch.int8), requires_grad=False)  # type: ignore[index]
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lazy, "'0.weight' is lazy.*run one batch"),
        (lambda: mlp().to("meta"), "on the meta device"),
        (integers, r"'0.weight' has dtype torch\.int8"),
        (lambda: nn.Sequential(nn.Linear(6, 3, dtype=torch.complex64)), r"dtype torch\.complex64"),
        (lambda: nn.Sequential(nn.BatchNorm1d(6)), "no prunable weight"),
        (lambda: 3, "factory of the model gave a int"),
        (transposed, r"two parameters over the same numbers.*in forward\(\)"),
        ("model", "model is a str"),
    ],
)
def test_models_that_cannot_be_pruned_are_refused(model: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_ticket(model, train, levels=1, rate=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"controls": ("reinit",)}, "needs fresh initial weights: give a factory"),
        ({"replicates": 2}, "needs fresh initial weights: give a factory"),
        ({"controls": ("reinits",)}, "Did you mean 'reinit'"),
        ({"controls": ("shuffled", "shuffled")}, "names one twice"),
        ({"rate": 1.0}, "rate=1.0"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"levels": 0}, "levels=0"),
        ({"levels": 2.0}, "levels=2.0"),
        ({"levels": 100}, "levels 8|nothing is left|would empty"),
        ({"replicates": 0}, "replicates=0"),
        ({"rewind_to": -1}, "rewind_to=-1"),
        ({"rewind_to": 8}, "rewind_to=8, but train made 8 steps in level 0; expected 0 to 7"),
        ({"rewind_to": 2, "reset": "fine-tune"}, "cannot rewind"),
        ({"reset": "rewindd"}, "Did you mean 'rewind'"),
        ({"after_rewind": "go"}, "after_rewind='go' is unknown"),
        ({"criterion": "magnitud"}, "Did you mean 'magnitude'"),
        ({"allocation": "globl"}, "Did you mean 'global'"),
        ({"protect": ["*nothing*"]}, "matches no parameter"),
        ({"min_metric": 0.5}, "min_metric needs evaluate"),
        ({"min_metric": float("nan"), "evaluate": loss}, "min_metric=nan"),
        ({"min_metric": 0.5, "evaluate": loss}, "min_metric=0.5, but the dense model reaches -"),
        ({"key": 3}, "key=3"),
        ({"evaluate": 3}, "evaluate is a int"),
    ],
)
def test_bad_arguments_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TombolaError, match=message):
        find_ticket(built(KIND), train, **{"levels": 2, "rate": 0.3, **settings})


def test_processes_that_do_not_know_of_each_other_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"init_process_group\(\) before find_ticket"):
        find_ticket(built(KIND), train, levels=1, store=tmp_path)


def test_a_level_on_a_terminal_is_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find_ticket(built(KIND), train, loss, levels=1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    find_ticket(built(KIND), train, loss, levels=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[1].startswith("level  1  density  79.9 %  ticket  -")


def test_the_ticket_says_how_it_was_found() -> None:
    ticket = find_ticket(built(KIND), train, loss, levels=1, rate=0.5, criterion="random", key="a")
    assert isinstance(ticket, Ticket)
    settings = ticket.metadata["settings"]
    assert (settings["criterion"], settings["rate"], settings["key"]) == ("random", 0.5, "a")
    assert ticket.metadata["level"] == 1 and set(ticket.metadata["densities"]) == set(ticket.mask)
    assert ticket.metadata["found_by"] == "tombola.find_ticket"
