"""The data sets themselves, read from the folder that TOMBOLA_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import tombola
from tombola.criteria.learned import Supermask
from tombola.data import DATASETS, NORMALISATIONS, load, split
from tombola.data.cifar import CIFAR_10
from tombola.experiment import prepare
from tombola.pruning import Pruner
from tombola.recipes import find_recipe
from tombola.requests import ProbeSpec
from tombola.scopes import Scope
from tombola.supervised import Supervised
from tombola.training.evaluation import evaluate

torch.set_num_threads(1)  # as tests/helpers.py: machines are shared
FOLDER = Path(os.environ["TOMBOLA_DATA"])
SHARED_CIFAR = "f222cf3ded4abbee62d2ab9faab95b374de401f3d918d8cf2ec0142b35da661f"
GOLDEN = {
    "digits": ((1_347, 1, 8, 8), 450, "07542eeacf826dd2ae73dfa576e547037d14c4ebe771f986a3d90034669c690b"),
    "mnist": ((60_000, 1, 28, 28), 10_000, "0b3d9e2f038333baf0cdcc87e1c155e8fc8ba083746b5a679c2a8afdcc05029f"),
    "fashion-mnist": ((60_000, 1, 28, 28), 10_000, "9df31500079bfa19619032609d7252786ddd95a030dc06a2749ac26077561aa7"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_shapes_counts_and_fingerprint(name: str) -> None:
    shape, tests, fingerprint = GOLDEN[name]
    data = load(name)
    assert (tuple(data.x_train.shape), len(data.x_test), data.classes) == (shape, tests, 10)
    assert data.x_train.dtype == torch.uint8
    assert data.y_train.bincount().numel() == 10
    assert data.fingerprint == fingerprint


def test_every_registered_data_set_is_visited() -> None:
    assert set(DATASETS) == {*GOLDEN, "cifar-10"}


def test_mnist_begins_as_everybody_knows() -> None:
    data = load("mnist", FOLDER)
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.y_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert float(data.x_train.double().mean()) / 255 == pytest.approx(0.1306604762738429, abs=1e-12)


def test_mnist_split_is_55000_and_5000_and_fixed() -> None:
    parts = split(load("mnist"), seed=0)
    assert (len(parts.train), len(parts.validation)) == (55_000, 5_000)
    assert parts.validation[:5].tolist() == [4, 5, 11, 35, 44]
    assert torch.cat([parts.train, parts.validation]).sort().values.equal(torch.arange(60_000))


def test_mnist_standard_normalisation_is_the_published_one() -> None:
    affine = NORMALISATIONS["standard"](load("mnist").x_train)
    assert -affine.shift[0] / affine.scale[0] / 255 == pytest.approx(0.1307, abs=1e-4)
    assert 1 / affine.scale[0] / 255 == pytest.approx(0.3081, abs=1e-4)


def test_cifar_says_so_where_the_files_are_not_the_official_ones(capsys: pytest.CaptureFixture[str]) -> None:
    folder = FOLDER / CIFAR_10.folder
    batches = sorted(folder.glob("data_batch_*.bin"))
    data = load("cifar-10")
    assert tuple(data.x_train.shape) == (10_000 * len(batches), 3, 32, 32)
    assert (len(data.x_test), data.classes) == (10_000, 10)
    lines = capsys.readouterr().err.splitlines()
    if len(batches) == 5:
        assert lines == []
    else:
        assert lines == [
            f"tombola: cifar-10: using {len(batches)} of 5 training batches ({len(data.x_train):,} images) "
            f"from {folder}; not the official files, results are not comparable"
        ]
    # the single batch that the project's own test folder holds
    assert len(batches) != 1 or data.fingerprint == SHARED_CIFAR


def test_a_learned_supermask_of_mnist_needs_no_trained_weight() -> None:
    """Zhou et al. (2019): 95.3 % without and 97.8 % with dynamic rescaling, after many epochs; here two and a bit."""
    task = prepare(find_recipe("mnist-lenet"), data_dir=FOLDER).task
    model, mask = task.build(1), task.prunable(Scope())
    pruner = Pruner(criterion=Supermask(steps=2000))
    cut = pruner.cut(model, mask, mask.total // 2, task.probe(3, ProbeSpec()))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(cut.adjusted.get(name, weight))
    assert isinstance(task, Supervised)
    assert evaluate(model, task.sets.test, task.sets, task.training)[1] > 0.95


def test_the_convolutional_twin_runs_whole_on_its_own_images(tmp_path: Path) -> None:
    small = {"data": "fashion-mnist:train=300,test=100", "validation": 100, "steps": 6, "eval_every": 3, "levels": 2}
    found = tombola.run("fashion-conv2", **small, replicates=1, rewind_to=2, data_dir=FOLDER, store=tmp_path)
    assert not found.failures and {"ticket", "reinit", "reinit-rewound", "shuffled"} <= found.document["arms"].keys()
    assert [row["level"] for row in found.document["arms"]["ticket"]] == [0, 1, 2]
