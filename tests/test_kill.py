"""Killed runs end with the results of undisturbed ones: a few of the many that benchmarks/kill_resume.py makes."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where `benchmarks` is

from benchmarks.kill_resume import Contents, Place, concurrent, differences, disturbed, undisturbed

SMALL = (
    *("digits-lenet", "--model", "mlp", "--net.hidden", "16", "--levels", "1", "--replicates", "1"),
    *("--steps", "200", "--eval-every", "20", "--workers"),  # how many is no part of the result
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Contents, float]:
    """What must come out, and the seconds it takes."""
    return undisturbed(Place(folder=tmp_path_factory.mktemp("whole"), experiment=(*SMALL, "1")))


@pytest.mark.parametrize(("seed", "workers"), [(0, "2"), (1, "1"), (2, "2")])
def test_a_killed_run_ends_like_an_undisturbed_one(
    seed: int, workers: str, tmp_path: Path, whole: tuple[Contents, float]
) -> None:
    wanted, seconds = whole
    place = Place(folder=tmp_path, experiment=(*SMALL, workers))
    outcome = disturbed(place, random.Random(seed), wanted, seconds, most=1)
    assert outcome.kills
    assert outcome.wrong == []


def test_frozen_places_and_gathered_sums_survive_a_kill(tmp_path: Path) -> None:
    gathered = ("--criterion", "movement_pruning", "--reset", "reinit", "--reset-pruned", "freeze_init_zero_all")
    experiment = (*SMALL, "1", *gathered, "--controls", "untrained")
    wanted, seconds = undisturbed(Place(folder=tmp_path / "whole", experiment=experiment))
    outcome = disturbed(
        Place(folder=tmp_path / "killed", experiment=experiment), random.Random(3), wanted, seconds, most=1
    )
    assert outcome.kills
    assert outcome.wrong == []


def test_two_equal_commands_at_once_compute_nothing_twice(tmp_path: Path, whole: tuple[Contents, float]) -> None:
    assert concurrent(Place(folder=tmp_path, experiment=(*SMALL, "1")), whole[0]) == []


def test_a_changed_result_is_seen(whole: tuple[Contents, float]) -> None:
    wanted, _ = whole
    name, answer = next((n, a) for n, a in wanted.answers.items() if a["kind"] == "trained")
    other = {**answer, "answer": {**answer["answer"], "train_loss": answer["answer"]["train_loss"] + 1e-12}}
    changed = Contents(
        document={**wanted.document, "recipe": "another"},
        experiments=wanted.experiments,
        answers={**wanted.answers, name: other},
        objects=wanted.objects - {next(iter(wanted.objects))},
        masks=wanted.masks,
    )
    assert differences(wanted, wanted) == []
    assert differences(changed, wanted) == [
        "the document differs",
        f"answers: {name} differs",
        "objects: 0 more and 1 fewer",
    ]
