"""`find_ticket`: what it trains, in which order, and what it leaves behind."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from finding_helpers import BATCHES, KIND, Counted, by_hand, factory, loss, train
from helpers import same_state
from own_loops import STEPS, built, sgd
from test_enforce_edges import hooks_of
from torch import Tensor, nn
from torch.nn import functional as F

from tombola import Ticket, enforce, find_ticket
from tombola.allocation import Layerwise
from tombola.errors import Hint, UsageError
from tombola.levels import now
from tombola.training.state import state_of


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


def test_a_loop_may_convert_the_module() -> None:
    """The parameters stay the same objects; the next level begins in the dtype of the first."""
    seen: list[torch.dtype] = []

    def converting(model: nn.Module) -> None:
        seen.append(next(model.parameters()).dtype)
        model.double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for x, _ in BATCHES:
            optimizer.zero_grad()
            model(x.double()).square().mean().backward()
            optimizer.step()

    model = built(KIND)
    start = state_of(model)
    ticket = find_ticket(model, converting, levels=2, rate=0.4)
    assert seen == [torch.float32] * 3 and ticket.trained is not None
    assert {value.dtype for value in (*ticket.weights.values(), *ticket.trained.values())} == {torch.float32}
    kept = {n: torch.where(ticket.mask[n], w, 0) if n in ticket.mask else w for n, w in start.items()}
    assert same_state(ticket.weights, kept) and not same_state(ticket.trained, kept)
    assert next(model.parameters()).dtype is torch.float32


class Counting(nn.Module):
    """Counts its calls in a buffer that no state holds."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = built(KIND)
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.calls: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.inner(x)
        return out


def test_buffers_that_are_in_no_state_are_put_back_too() -> None:
    seen: list[float] = []

    def noting(model: nn.Module) -> None:
        seen.append(float(model.calls))  # type: ignore[arg-type]
        train(model)

    find_ticket(Counting(), noting, levels=2, rate=0.4)
    assert seen == [0, 0, 0]


def test_a_metric_may_still_hang_on_its_graph() -> None:
    ticket = find_ticket(built(KIND), train, lambda model: -model(BATCHES[0][0]).square().mean(), levels=1)
    assert all(row.metric is not None and row.metric < 0 for row in ticket.history)


def test_a_module_of_ones_own_may_have_any_names() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._orig_mod, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self._orig_mod(x))
            return out

    assert list(find_ticket(Own(), train, levels=1).mask) == ["_orig_mod.weight", "head.weight"]
