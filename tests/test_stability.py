"""Stability: what is asked for, that it is resumed by replay, how it is told, and the command."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import call, document, good, undrawn
from helpers import Counting, tiny_data, tiny_recipe
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from tombola.analysis.source import Absent, Source
from tombola.analysis.stability import barrier, barriers, latest, lines, missing, onset, onsets, pairs
from tombola.answers import Interpolated, Trained
from tombola.commands.stability_progress import StabilityLines
from tombola.errors import UsageError
from tombola.experiment import Experiment, prepare, run_experiment
from tombola.lookup import look_up
from tombola.report.captions import instability
from tombola.report.gallery import gallery
from tombola.requests import Arm, Fit, Interpolate, Round
from tombola.search.stability import CHILD, INSIDE, PAIR, PRUNED
from tombola.stability.measures import Measures, measures_of
from tombola.stability.study import Study, measure, rebuilt, study_of, trainings
from tombola.starts import At
from tombola.store import Store
from tombola.store.collect import collect
from tombola.store.studies import studies
from tombola.training.optimizers import Optimizer

SMALL: dict[str, Any] = {"points": 5, "recompute": 60, "examples": 100}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3))


def made(store: Store, **changes: Any) -> tuple[Experiment, dict[str, Any]]:
    """A finished experiment of two replicates and two levels, and what the store notes about it."""
    chosen = {"steps": 40, "controls": ("shuffled",), "model": "", **changes}
    factory = None if chosen["model"] else network
    recipe = tiny_recipe(**{**chosen, "model": chosen["model"] or f"{network.__module__}:{network.__qualname__}"})
    experiment = prepare(recipe, data=tiny_data(), model=factory)
    run_experiment(experiment, store)
    return experiment, store.experiment(experiment.digest)[1]


@dataclasses.dataclass(frozen=True)
class World:
    """A study, what the store notes about it, and how much was computed."""

    store: Store
    content: dict[str, Any]
    study: Study
    noted: dict[str, Any]
    computed: int


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    store = Store(tmp_path_factory.mktemp("stability") / "store")
    experiment, content = made(store)
    measures = measures_of(content, steps=(0, 10), levels=(2,), shuffled=True, children=3, **SMALL)
    study = study_of(experiment, measures, store)
    noted, computed = measure(study, store, command="tombola stability x")
    assert noted["state"] == "finished"
    return World(store, content, study, noted, computed)


def fits(world: World, **wanted: object) -> dict[tuple[Any, ...], Fit]:
    """(arm, level, step, replicate, number) -> the training of a child."""
    found = {}
    for number, seat in enumerate(world.study.plans):
        for at, request in requests(world, number).items():
            if isinstance(request, Fit) and at.name == CHILD:
                found[seat.arm, seat.level, seat.step, seat.replicate, at.draw] = request
    return found


def requests(world: World, number: int) -> dict[Arm, Fit | Interpolate]:
    """All that the search of one seat asks for, answered from the store."""
    search, found = world.study.searches()[number], {}
    answers: dict[Arm, Any] | None = None
    with pytest.raises(StopIteration):
        while True:
            asked: Round = next(search) if answers is None else search.send(answers)
            every = {**asked.ask, **asked.aside}
            answers = {a: look_up(world.store, world.study.task.fingerprint, r, "auto")[1] for a, r in every.items()}
            assert None not in answers.values()
            found |= every
    return found


# --- what is asked for


def test_children_differ_in_order_and_noise_alone(world: World) -> None:
    found = fits(world)
    assert len(found) == 2 * 3 * 2 * 3  # replicates, networks, steps, children
    for (arm, level, step, replicate, number), fit in found.items():
        assert (fit.first, fit.last) == (step, 40)
        sibling = found[arm, level, step, replicate, (number + 1) % 3]
        assert fit.order != sibling.order and fit.noise != sibling.noise
        assert dataclasses.replace(fit, order=sibling.order, noise=sibling.noise) == sibling
        dense = found["dense", 0, step, replicate, number]
        assert (fit.start, fit.order, fit.noise) == (dense.start, dense.order, dense.noise)
        assert (fit.mask is None) == (arm == "dense")
    assert len({fit.order for fit in found.values()} | {fit.noise for fit in found.values()}) == 2 * 2 * 3
    dense = world.study.experiment.plans[0]
    assert not {dense.fit(dense.init(), None).order} & {fit.order for fit in found.values()}


def test_children_start_from_the_dense_state_of_their_step(world: World) -> None:
    found = fits(world)
    for replicate, plan in enumerate(world.study.experiment.plans):
        assert found["ticket", 2, 0, replicate, 0].start == plan.init()
        start = found["ticket", 2, 10, replicate, 0].start
        assert isinstance(start, At) and start.step == 10
        answer = world.store.get(start.fit)
        assert isinstance(answer, Trained) and (answer.first, answer.last) == (0, 40)
        assert (
            answer.request
            == look_up(world.store, world.study.task.fingerprint, plan.fit(plan.init(), None), "auto")[0].digest
        )
        state = world.store.state(answer.states[10])
        child = found["ticket", 2, 10, replicate, 0]
        answers = world.store.get(look_up(world.store, world.study.task.fingerprint, child, "auto")[0].digest)
        assert isinstance(answers, Trained)
        end, mask = world.store.state(answers.states[40]), child.mask
        assert mask is not None and mask.kept == answers.kept
        for name, kept in mask.items():
            assert not end[name][~kept].any() and state[name][~kept].any()


def test_masks_are_those_of_the_experiment(world: World) -> None:
    rows = {(row["arm"], row["level"], row["replicate"]): row["request"] for row in world.content["rows"]}
    for seat, plan in world.study.plans.items():
        answer = world.store.get(rows["ticket" if seat.arm == "dense" else seat.arm, seat.level, seat.replicate])
        assert isinstance(answer, Trained)
        assert plan.mask.digest == answer.mask_digest
        assert seat.density == pytest.approx(sum(answer.kept.values()) / answer.prunable)


def test_every_pair_is_walked_once_from_end_to_end(world: World) -> None:
    found = requests(world, next(n for n, seat in enumerate(world.study.plans) if seat.arm == "ticket"))
    ends = [found[Arm(name=CHILD, draw=n)] for n in range(3)]
    pairs_ = [r for at, r in found.items() if at.name == PAIR and isinstance(r, Interpolate)]
    digests = [look_up(world.store, world.study.task.fingerprint, fit, "auto")[0].digest for fit in ends]
    assert [(line.one, line.other) for line in pairs_] == [
        (At(fit=a, step=40), At(fit=b, step=40)) for a, b in combinations(digests, 2)
    ]
    inside = [found[Arm(name=INSIDE, draw=n)] for n in range(3)]
    apart = [found[Arm(name=PRUNED, draw=n)] for n in range(3)]
    for own, whole, line in zip(ends, inside, apart, strict=True):
        assert isinstance(own, Fit) and isinstance(whole, Fit) and isinstance(line, Interpolate)
        assert dataclasses.replace(own, mask=None) == whole
        assert (line.points, line.mask) == (0, own.mask)


def test_a_ticket_that_prunes_nothing_is_the_dense_network(tmp_path: Path) -> None:
    store = Store(tmp_path)
    experiment, content = made(store, levels=1, replicates=1, controls=())
    study = study_of(experiment, measures_of(content, steps=(0,), **SMALL), store)
    plan = experiment.plans[0]
    whole = {seat: dataclasses.replace(p, mask=plan.dense) for seat, p in study.plans.items()}
    noted, _ = measure(dataclasses.replace(study, plans=whole), store)
    dense, ticket = barriers(noted, store)
    assert (ticket.pruned_distance.mean, ticket.pruned_angle.mean) == (0, 0)
    assert dense.pruned_distance is None
    assert (dense.test, dense.distance, dense.angle) == (ticket.test, ticket.distance, ticket.angle)


# --- resumed by replay


def test_a_second_call_computes_nothing(world: World) -> None:
    # Dense children are asked for by three networks and computed once; so are the dense networks, which are stored.
    again, computed = measure(world.study, world.store)
    assert world.computed == 2 * (2 * 3 * 3 + 2 * 3 * 3 + 2 * 2 * 3) + 2  # children, pairs, against dense; and step 10
    assert computed == 0
    assert sorted(again["rows"], key=str) == sorted(world.noted["rows"], key=str)
    assert trainings(world.study, world.store).stored == trainings(world.study, world.store).fits == 36
    assert trainings(world.study, None).fits == 36


def test_what_was_interrupted_goes_on(tmp_path: Path) -> None:
    class Impatient(Counting):
        def answered(self, place: Any, answer: Any) -> None:
            super().answered(place, answer)
            if len(self.answers) == 2:
                raise KeyboardInterrupt

    store = Store(tmp_path)
    experiment, content = made(store, replicates=1, controls=(), levels=1)
    study = study_of(experiment, measures_of(content, steps=(0, 10), **SMALL), store)
    with pytest.raises(KeyboardInterrupt):
        measure(study, store, watcher=Impatient())
    (noted,) = studies(store, experiment.digest)
    assert noted["state"] == "stopped" and noted["rows"]
    before = sum(1 for _ in (store.root / "answers").rglob("*.json"))
    whole, computed = measure(study, store)
    after = sum(1 for _ in (store.root / "answers").rglob("*.json"))
    assert whole["state"] == "finished"
    assert computed == after - before
    assert len(barriers(whole, store)) == 4


def test_collection_keeps_what_a_study_names_until_its_experiment_goes(world: World, tmp_path: Path) -> None:
    import shutil

    place = tmp_path / "copy"
    shutil.copytree(world.store.root, place)
    store = Store(place)
    assert collect(store).files == 0
    name = world.study.experiment.digest
    assert not missing(world.noted, store)
    collect(store, drop=(name,))
    assert missing(world.noted, store)
    assert list(studies(store, name)) == []
    assert not list((place / "studies").rglob("*.json"))


def test_the_store_gives_back_what_it_was_given(world: World) -> None:
    row = next(row for row in world.noted["rows"] if row["part"] == PAIR)
    answer = Store(world.store.root).get(row["request"])
    assert isinstance(answer, Interpolated)
    assert (len(answer.own), len(answer.recomputed), len(answer.ways)) == (5, 5, 2)
    assert answer.request == row["request"]
    assert world.store.asked(row["request"])["class"] == "Interpolate"


# --- how it is told


@given(st.dictionaries(st.integers(0, 9), st.booleans(), min_size=1))
def test_onset_is_the_first_step_from_which_all_are_stable(stable: dict[int, bool]) -> None:
    right = [step for step in sorted(stable) if all(ok for later, ok in stable.items() if later >= step)]
    assert onset(stable) == (right[0] if right else None)


@given(st.lists(st.floats(0, 1), min_size=2), st.floats(0, 1))
def test_a_barrier_is_what_rises_above_the_mean_of_the_ends(errors: list[float], more: float) -> None:
    found = barrier(errors)
    assert found >= abs(errors[0] - errors[-1]) / 2 - 1e-12
    assert barrier([*errors[:1], *errors, *errors[-1:]]) == pytest.approx(found)
    assert barrier([error + more for error in errors]) == pytest.approx(found, abs=1e-12)
    assert barrier(errors[::-1]) == found


def test_the_ends_of_a_line_are_the_stored_children(world: World) -> None:
    answers = {
        (r["arm"], r["level"], r["step"], r["replicate"], r["draw"]): world.store.get(r["request"])
        for r in world.noted["rows"]
        if r["part"] == CHILD
    }
    for row in world.noted["rows"]:
        line = world.store.get(row["request"])
        if row["part"] == PAIR and isinstance(line, Interpolated):
            two = list(combinations(range(3), 2))[row["draw"]]
            for number, point in zip(two, (line.own[0], line.own[-1]), strict=True):
                child = answers[row["arm"], row["level"], row["step"], row["replicate"], number]
                assert isinstance(child, Trained) and child.curve.end is not None
                assert 1 - point.test_error == pytest.approx(child.curve.end.test_metric)


def test_pairs_are_averaged_within_their_replicate_first(world: World) -> None:
    every, rows = pairs(world.noted, world.store), barriers(world.noted, world.store)
    assert len(every) == 2 * 3 * 2 * 3
    assert [(r.arm, r.level, r.step) for r in rows] == [
        (arm, level, step) for arm, level in (("dense", 0), ("ticket", 2), ("shuffled", 2)) for step in (0, 10)
    ]
    for row in rows:
        here = [p for p in every if (p.arm, p.level, p.step) == (row.arm, row.level, row.step)]
        means = [sum(p.test_barrier for p in here if p.replicate == r) / 3 for r in (0, 1)]
        assert (row.test.n, row.test.mean) == (2, pytest.approx(sum(means) / 2))
        assert row.test_own is not None and row.relative is not None and row.relative.mean > 0
        assert (row.pruned_distance is None) == (row.arm == "dense")
        assert row.stable == (row.test.mean < 0.02)
    assert any(p.test_barrier != p.test_barrier_own or p.train_barrier != p.train_barrier_own for p in every)


def test_the_threshold_decides(world: World) -> None:
    rows = barriers(world.noted, world.store, threshold=1.0)
    assert all(row.stable for row in rows)
    assert [row.test for row in onsets(rows, threshold=1.0)] == [0, 0, 0]
    none = barriers(world.noted, world.store, threshold=-1.0)
    assert not any(row.stable for row in none)
    assert [row.test for row in onsets(none, threshold=-1.0)] == [None] * 3


def test_lines_have_both_statistics_and_the_page_shows_them(world: World) -> None:
    rows = lines(world.noted, world.store)
    assert len(rows) == 6 * 2 * 5
    assert {row.alpha for row in rows} == {0, 0.25, 0.5, 0.75, 1}
    name = world.study.experiment.digest
    source = Source(document={"schema": 1, "arms": {}}, digest=name, content=world.content, store=world.store)
    shown = {one.name: one for one in gallery(source)[0]}
    assert {"barriers", "instability"} <= shown.keys()
    drawn = shown["instability"].draw(shown["instability"].rows)
    above = drawn.axes[0]
    low, high = above.get_ylim()
    assert low < 2 < high  # the threshold can be seen
    assert [label.get_text() for label in above.get_xticklabels()] == ["0", "10"]
    between = shown["barriers"].draw(shown["barriers"].rows)
    assert len(between.axes) == 4
    dense = next(line for line in between.axes[0].get_lines() if line.get_label() == "dense network")
    wanted = [100 * r.test.mean for r in rows if r.arm == "dense" and r.step == 0 and r.recomputed]
    assert list(dense.get_ydata()) == pytest.approx(wanted)
    assert "the shuffled mask at" in instability(shown["instability"].rows).here


def test_without_a_study_the_page_says_how_to_make_one(world: World, tmp_path: Path) -> None:
    with pytest.raises(Absent, match="tombola stability"):
        latest(Source(document={}, digest="0", content={}, store=Store(tmp_path)))


def test_progress_counts_each_training_once_and_names_each_network(world: World) -> None:
    out = io.StringIO()
    shown = StabilityLines(Console(file=out, width=200), list(world.study.plans), fits=36, pairs=3)
    measure(world.study, world.store, watcher=shown)
    assert shown.answered_fits == 36
    rows = barriers(world.noted, world.store)
    assert len(out.getvalue().splitlines()) == len(rows) == 6
    assert f"ticket of level 2 from step 10: barrier on the test set {100 * rows[3].test.mean:.2f} %" in out.getvalue()


def test_a_dense_network_that_diverged_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    wild = {"optimizer": Optimizer(name="sgd", lr=1e12), "model": "mlp", "replicates": 1, "controls": ()}
    experiment, content = made(store, **wild)
    noted, _ = measure(study_of(experiment, measures_of(content, levels=(), **SMALL), store), store)
    assert (noted["state"], barriers(noted, store)) == ("failed", [])
    (failure,) = noted["failures"]
    assert (failure["arm"], failure["step"]) == ("dense", 0) and "not finite" in failure["cause"]
    called = call("stability", experiment.digest, "--store", store.root, "--dry-run")
    assert called.code == 2 and "another experiment here" in called.err  # its data came from Python


# --- what cannot be done


def test_measures_are_chosen_for_the_experiment(world: World) -> None:
    found = measures_of(world.content)
    assert (found.steps, found.levels) == ((0,), (1, 2))
    long = {**world.content, "settings": world.content["settings"].replace("steps = 40", "steps = 6000", 1)}
    assert measures_of(long).steps == (0, 100, 500, 1000)
    rewound = long["settings"].replace("rewind_to = 0", "rewind_to = 70")
    assert measures_of({**long, "settings": rewound}).steps == (0, 70, 100, 500, 1000)
    assert measures_of(world.content, steps=(10, 0, 10), levels=(2, 2)).steps == (0, 10)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"levels": (3,)}, "no ticket of level 3; expected some of 1 to 2"),
        ({"levels": (0,)}, "expected some of 1 to 2"),
        ({"steps": (40,)}, "expected 0 to 39"),
        ({"steps": (-1,)}, "expected 0 to 39"),
        ({"points": 2}, "points is 2; expected 3"),
        ({"children": 1}, "children is 1; expected 2"),
        ({"recompute": 1}, "recompute is 1; expected 2"),
        ({"examples": 0}, "examples is 0; expected 1"),
    ],
)
def test_measures_that_an_experiment_does_not_have(world: World, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        measures_of(world.content, **asked)


def test_experiments_that_cannot_be_studied(world: World) -> None:
    with pytest.raises(UsageError, match=r"not finished \(running\)"):
        measures_of({**world.content, "state": "running"})
    with pytest.raises(UsageError, match="mean squared error"):
        measures_of({**world.content, "metric": "mean squared error"})
    rows = [row for row in world.content["rows"] if row["arm"] != "shuffled"]
    with pytest.raises(UsageError, match="no shuffled mask at level 1"):
        measures_of({**world.content, "rows": rows}, shuffled=True)
    with pytest.raises(UsageError, match="another experiment here"):
        rebuilt("0" * 32, world.content, lambda recipe, engine: world.study.experiment)
    assert rebuilt(world.study.experiment.digest, world.content, lambda r, e: world.study.experiment)


def test_an_experiment_whose_answers_are_gone(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no answer of level 0"):
        study_of(world.study.experiment, Measures(steps=(0,), levels=(1,)), Store(tmp_path))


def test_a_reset_that_trains_whole_networks_has_no_mask(tmp_path: Path) -> None:
    store = Store(tmp_path)
    experiment, content = made(store, levels=1, replicates=1, controls=(), reset="redraw_losers", model="mlp")
    with pytest.raises(UsageError, match="trains the networks of this experiment whole"):
        study_of(experiment, measures_of(content), store)


# --- the command


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Digits, LeNet, two replicates, one level; and the digest."""
    store = tmp_path_factory.mktemp("command") / "store"
    with undrawn():
        flags = ("--levels", 1, "--replicates", 2, "--steps", 80, "--controls", "reinit", "--workers", 1, "--quiet")
        good("run", "digits-lenet", *flags, "--store", store)
        (name,) = [name for name, _ in Store(store).experiments()]
        yield store, name[:12]


def test_round_trip_and_lenet_on_digits_is_stable_from_step_0(shelf: tuple[Path, str], tmp_path: Path) -> None:
    store, name = shelf
    asked = ("stability", name, "--store", store, "--steps", 0, 40, "--points", 7, "--workers", 1)
    foretold = good(*asked, "--dry-run", "--json", "-").json
    assert (foretold["fits"], foretold["stored"]) == (16, 0)  # 2 replicates, 2 networks, 2 steps, 2 children
    assert foretold["steps"] == 8 * 80 + 8 * 40
    numbers, sheet = tmp_path / "numbers.json", tmp_path / "pairs.csv"
    first = good(*asked, "--json", numbers, "--csv", sheet)
    assert "dense: stable from step 0 on" in first.out
    assert "ticket of level 1 from step 40: barrier on the test set" in first.err
    found = document(numbers)
    assert all(row["stable"] and row["test"]["mean"] < 0.02 for row in found["rows"])
    assert [row["test"] for row in found["onsets"]] == [0, 0]
    assert all(row["train"]["mean"] < 0.02 and 0 < row["relative"]["mean"] < 1.5 for row in found["rows"])
    assert {row["test_own"] for row in found["rows"]} == {None}  # no batch norm
    assert len(sheet.read_text().splitlines()) == 1 + 8
    assert good(*asked, "--dry-run", "--json", "-").json["stored"] == 16
    again = good(*asked, "--json", "-")
    assert again.json == found
    assert "0 requests computed now" in again.err  # and with that, standard output is JSON alone
    assert good(*asked).out.splitlines()[:-1] == first.out.splitlines()[:-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ffff",), "No experiment"),
        (("NAME", "--levels", 9), "no ticket of level 9"),
        (("NAME", "--steps", 80), "No child can start from step 80"),
        (("NAME", "--points", 2), "points is 2; expected 3"),
        (("NAME", "--children", 1), "children is 1; expected 2"),
        (("NAME", "--threshold", 2), "threshold is 2.0"),
        (("NAME", "--workers", 0), "workers is 0"),
        (("NAME", "--shuffled"), "no shuffled mask at level 1"),
        (("NAME", "--store", "nowhere"), "There is no store"),
        (("NAME", "--csv", "/no/such/folder/x.csv"), "does not exist"),
        ((), "EXPERIMENT"),
    ],
)
def test_bad_input(shelf: tuple[Path, str], arguments: tuple[object, ...], words: str) -> None:
    store, name = shelf
    given_ = [name if one == "NAME" else one for one in arguments]
    called = call("stability", *given_, *(() if "--store" in given_ else ("--store", store)))
    assert called.code == 2 and words in called.err and "Traceback" not in called.err
