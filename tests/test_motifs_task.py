"""Gene networks as a task: the same searches, controls, store and resume as for images."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_helpers import call, good
from helpers import same_bits

from tombola.answers import Trained
from tombola.errors import UsageError
from tombola.executors.work import state_digest
from tombola.experiment import on_task, run_experiment
from tombola.masks import Mask
from tombola.motifs import MOTIFS, GeneNetwork, GeneTask, Rewarded, gene_recipe, rewards
from tombola.motifs.course import EDGES, MORPHOGEN
from tombola.requests import Fit, Interpolate, ProbeSpec
from tombola.scopes import Scope
from tombola.starts import At, Init, Moment
from tombola.store import Store
from tombola.training.checkpoint import Checkpoint
from tombola.training.loop import Stopped, silent
from tombola.training.state import State, state_of

TASK = GeneTask(steps=5, genes=3)


def fit(**changes: Any) -> Fit:
    return Fit(**{"start": Init(seed=1), "mask": None, "last": 5, "order": 3, "noise": 4, **changes})


def half() -> Mask:
    return Mask({EDGES: torch.tensor([[True, True, False], [False, True, True], [False, False, True]])})


class Interrupted(silent):
    """Stops after some rounds, with its checkpoint."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.left, self.saved = rounds, list[Checkpoint]()

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self.saved.append(checkpoint)

    def progress(self, step: int) -> None:
        self.left -= 1

    def stopping(self) -> bool:
        return self.left == 0


def test_networks_of_a_seed() -> None:
    one, again, other = (state_of(GeneTask(genes=40).build(seed)) for seed in (5, 5, 6))
    assert same_bits(one[EDGES], again[EDGES]) and not same_bits(one[EDGES], other[EDGES])
    assert one[EDGES].std().item() == pytest.approx(39, rel=0.05) and one[EDGES].abs().max() <= 100
    motif = GeneTask(motif=MOTIFS["22"].network)
    assert motif.genes == 4 and motif.network(state_of(motif.build(8))) == MOTIFS["22"].network
    assert TASK.prunable(Scope()).kept == {EDGES: 9}
    values = motif.build(0)(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([0.5]))
    assert values[0, 0].item() == 100 - 36 / 2


def test_identity_is_by_content() -> None:
    assert GeneTask(genes=3, steps=5).fingerprint == TASK.fingerprint == pickle.loads(pickle.dumps(TASK)).fingerprint
    others = [
        GeneTask(genes=3, steps=6),
        GeneTask(genes=4, steps=5),
        GeneTask(genes=3, steps=5, rewarded=Rewarded.STRICT),
        GeneTask(genes=3, steps=5, spread=30.0),
        GeneTask(motif=GeneNetwork(weights=((0,) * 3,) * 3, morphogen=(0,) * 3), steps=5),
    ]
    assert len({task.fingerprint for task in (TASK, *others)}) == 6


def test_a_training_is_measured_where_it_is_kept() -> None:
    events = silent()
    found = TASK.fit(fit(mask=half(), keep=(0, 2, Moment.EARLY_STOP)), state_of(TASK.build(1)), events=events)
    assert [point.step for point in found.points] == [0, 1, 2, 3, 4, 5]
    assert {0, 2, 5} <= set(events.states)
    for step, state in events.states.items():
        assert not state[EDGES][~half()[EDGES]].any()
        assert rewards([TASK.network(state)]).item() == found.points[step].test_metric
    losses = [point.validation_loss or 0.0 for point in found.points]
    assert losses == sorted(losses, reverse=True)
    assert min(range(1, 6), key=losses.__getitem__) in events.states


def test_a_stopped_training_goes_on_bit_for_bit() -> None:
    start, whole = state_of(TASK.build(1)), silent()
    asked = fit(keep=(1, 4, Moment.EARLY_STOP))
    found = TASK.fit(asked, start, events=whole)
    first, second = Interrupted(2), silent()
    with pytest.raises(Stopped):
        TASK.fit(asked, start, events=first)
    again = TASK.fit(asked, start, events=second, resume=first.saved[-1])
    assert again.points == found.points
    kept = {**first.states, **second.states}
    assert kept.keys() == whole.states.keys()
    assert all(same_bits(kept[s][name], state[name]) for s, state in whole.states.items() for name in state)
    foreign = dataclasses.replace(first.saved[-1], notes=first.saved[-1].notes.replace("hill-climb", "other"))
    assert TASK.fit(asked, start, events=silent(), resume=foreign).points == found.points


def test_the_moves_of_a_round_do_not_depend_on_where_a_training_begins() -> None:
    """One parent and children that are all worth nothing: the population of step k is that of the last round alone."""
    silent_start: State = {EDGES: torch.zeros(3, 3), MORPHOGEN: torch.zeros(3)}
    nobody = Mask({EDGES: torch.zeros(3, 3, dtype=torch.bool)})
    task = GeneTask(steps=5, genes=3)
    late = silent()
    task.fit(fit(mask=nobody, first=2, last=3), silent_start, events=late)
    early = silent()
    task.fit(fit(mask=nobody, first=0, last=1), silent_start, events=early)
    later = silent()
    task.fit(fit(mask=nobody, first=2, last=3, keep=(2,)), silent_start, events=later)
    assert same_bits(late.states[3][MORPHOGEN], later.states[3][MORPHOGEN])
    held = silent()
    task.fit(fit(mask=nobody, first=2, last=3, held_rate=0), silent_start, events=held)
    wide, narrow = held.states[3][MORPHOGEN], late.states[3][MORPHOGEN]
    assert torch.allclose(wide * 0.9**2, narrow, atol=1e-4)
    assert not torch.allclose(early.states[1][MORPHOGEN], wide)


@pytest.mark.parametrize(
    ("changes", "computed"),
    [
        ({"controls": ("reinit", "shuffled", "untrained")}, {"ticket": 4, "reinit": 2, "shuffled": 2, "untrained": 2}),
        ({"search": "imp", "levels": 2, "rate": 0.3, "rewind_to": 2, "controls": ("reinit",)}, {"ticket": 6}),
        ({"reset": "lr-rewind", "criterion": "random"}, {"ticket": 4}),
        ({"reset": "fine-tune", "controls": ()}, {"ticket": 4}),
        ({"criterion": "greedy", "controls": ("inverted",)}, {"ticket": 4, "inverted": 2}),
        ({"criterion": "leave_one_out", "search": "imp", "levels": 2, "rate": 0.3}, {"ticket": 6}),
    ],
)
def test_searches_controls_and_store(tmp_path: Path, changes: dict[str, Any], computed: dict[str, int]) -> None:
    experiment = on_task(gene_recipe(TASK, replicates=2, **changes), TASK)
    store = Store(tmp_path)
    found = run_experiment(experiment, store)
    assert not found.failures and not found.ended
    arms = found.document["arms"]
    assert {arm: len(arms[arm]) for arm in computed} == computed
    for row in arms["ticket"]:
        answer = store.get(row["fit_digest"])
        assert isinstance(answer, Trained) and answer.metric == "reward" and answer.last == 5
        state = store.state(state_digest(At(fit=row["fit_digest"], step=5), answer) or "")
        assert int(state[EDGES].count_nonzero()) == row["kept"] >= row["effective"]
        assert answer.curve.points[-1].test_metric == rewards([TASK.network(state)]).item()
    assert run_experiment(experiment, store).computed == 0


def test_what_a_gene_network_cannot_do_is_said() -> None:
    start = state_of(TASK.build(1))
    for wrong, said in (
        (fit(mask=half(), frozen=Init(seed=2)), "freezes pruned places"),
        (fit(gather=("hebbian",)), "gathers statistics"),
    ):
        with pytest.raises(UsageError, match=said):
            TASK.fit(wrong, start, events=silent())
    with pytest.raises(UsageError, match="made by the engine 'native'"):
        TASK.fit(fit(), start, events=silent(), engine="native")
    with pytest.raises(UsageError, match="belongs to another network"):
        TASK.fit(fit(), state_of(GeneTask(genes=2).build(0)), events=silent())
    for changes, said in (
        ({"criterion": "snip"}, "criterion snip looks at examples, and this task has none"),
        ({"criterion": "greedy", "controls": ("random-labels",)}, "random-labels corrupts examples, and this task has"),
        ({"steps": 9}, "steps is 9 in the recipe; expected 5"),
    ):
        with pytest.raises(UsageError, match=said):
            on_task(gene_recipe(TASK, **changes), TASK)
    with pytest.raises(UsageError, match="no narrower form"):
        TASK.build(0, at_most=4)
    line = Interpolate(
        one=Init(seed=0), other=Init(seed=1), origin=None, mask=half(), points=3, recompute=2, examples=1
    )
    with pytest.raises(UsageError, match="no data order"):
        TASK.interpolate(line, start, start, None, stopping=lambda: False)
    for settings in ({"steps": 0}, {"genes": 65}, {"spread": 0.0}):
        with pytest.raises(UsageError, match=f"^{next(iter(settings))} is "):
            GeneTask(**settings)
    assert TASK.probe(3, ProbeSpec()).seed == 3 and TASK.effective(half()) == 5


def test_verdict_and_page_go_by_the_reward(tmp_path: Path) -> None:
    task = GeneTask(motif=MOTIFS["2b"].network, steps=3)
    experiment = on_task(gene_recipe(task, replicates=3, rate=0.25, margin=0.5), task)
    document = run_experiment(experiment, Store(tmp_path)).document
    dense = [row["test_metric"] for row in document["arms"]["ticket"] if row["level"] == 0]
    ticket = [row["test_metric"] for row in document["arms"]["ticket"] if row["level"] == 1]
    assert all(value > 16 for value in dense) and "test_metric" in document["arms"]["reinit"][0]
    name = experiment.digest[:12]
    called = good("verdict", name, "--store", tmp_path, "--json", tmp_path / "verdict.json")
    found = json.loads((tmp_path / "verdict.json").read_text())
    mean = sum(dense) / 3
    assert found["dense_mean"] == pytest.approx(mean) and found["metric"] == "reward"
    difference = (sum(ticket) / 3 - mean) / mean
    assert found["levels"][0]["accuracy"]["difference"] == pytest.approx(difference)
    assert "A point is 1 % of the dense networks' mean reward" in called.out and "reward at end" in called.out
    page = good("report", name, "--store", tmp_path).out.rpartition("Page: ")[2].strip()
    assert found["overall"]["sentence"][:40] in Path(page).read_text()
    wrong = call("verdict", name, "--fallback", "--store", tmp_path)
    assert wrong.code == 2 and "--bca and --fallback are for accuracies" in wrong.err


def test_where_nothing_is_gained_there_is_a_page_without_a_verdict(tmp_path: Path) -> None:
    task = GeneTask(motif=GeneNetwork(weights=((0, 0), (0, 0)), morphogen=(0, 0)), steps=1)
    experiment = on_task(gene_recipe(task, replicates=3, levels=1), task)
    run_experiment(experiment, Store(tmp_path))
    wrong = call("verdict", experiment.digest[:12], "--store", tmp_path)
    assert wrong.code == 2 and "expected one above 0 to compare with" in wrong.err
    assert "Page: " in good("report", experiment.digest[:12], "--store", tmp_path).out
