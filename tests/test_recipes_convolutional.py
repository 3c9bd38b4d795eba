"""The recipes of convolutional networks: the paper's numbers, and twins whose whole path is run on real images."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import NET
from helpers import tiny_data, tiny_recipe

import tombola
from tombola.cli import main
from tombola.data import load
from tombola.experiment import Results, prepare
from tombola.masks import Mask
from tombola.models.registry import MODELS
from tombola.recipes import RECIPES
from tombola.scopes import Scope
from tombola.supervised import Supervised

CONV = {name: recipe for name, recipe in RECIPES.items() if "lenet" not in name}


def test_hyper_parameters_are_the_papers() -> None:
    for layers, steps, lr, dropped, conv in (
        (2, 20_000, 2e-4, 3e-4, 0.1),
        (4, 25_000, 3e-4, 2e-4, 0.1),
        (6, 30_000, 3e-4, 2e-4, 0.15),
    ):
        plain, dropout = RECIPES[f"cifar-conv{layers}"], RECIPES[f"cifar-conv{layers}-dropout"]
        for recipe, rate, drop in ((plain, lr, 0.0), (dropout, dropped, 0.5)):
            assert (recipe.steps, recipe.batch_size, recipe.net.dropout) == (steps, 60, drop)
            assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.eval_every) == ("adam", rate, 100)
            assert (recipe.rate, recipe.output_factor, recipe.allocation) == (0.2, 0.5, f"layerwise:conv={conv}")
            assert recipe.augment == "none" and recipe.model == f"conv-{layers}"
    for name, steps, batch, drops, low, warm in (
        ("cifar-resnet20", 30_000, 128, (20_000, 25_000), 0.01, (0.03, 20_000)),
        ("cifar-vgg19", 112_480, 64, (80 * 703, 84_360), 0.01, (0.1, 10_000)),
    ):
        for recipe, lr, warmup in (
            (RECIPES[name], 0.1, 0), (RECIPES[f"{name}-low"], low, 0), (RECIPES[f"{name}-warmup"], *warm),
        ):  # fmt: skip
            assert (recipe.steps, recipe.batch_size, recipe.lr_schedule.milestones) == (steps, batch, drops)
            assert (recipe.optimizer.lr, recipe.lr_schedule.warmup, recipe.lr_schedule.factor) == (lr, warmup, 0.1)
            assert (recipe.optimizer.momentum, recipe.optimizer.weight_decay) == (0.9, 1e-4)
            assert (recipe.augment, recipe.allocation, recipe.rate, recipe.endpoint) == (
                "flip-crop",
                "global",
                0.2,
                "end",
            )
    vgg = RECIPES["cifar-vgg16"]
    assert (vgg.steps, vgg.batch_size, vgg.lr_schedule.milestones) == (63_000, 128, (32_000, 48_000))


@pytest.mark.parametrize(
    ("name", "prunable"),
    [("cifar-conv2", 4_300_992), ("cifar-conv4", 2_425_024), ("cifar-conv6", 2_261_184), ("cifar-resnet20", 267_696),
     ("cifar-vgg19", 20_018_880), ("cifar-vgg16", 14_710_464)],
)  # fmt: skip
def test_what_a_recipe_prunes(name: str, prunable: int) -> None:
    recipe = RECIPES[name]
    model = MODELS[recipe.model]((3, 32, 32), 10, recipe.net, 0)
    assert Mask.dense(model, Scope(protect=recipe.protect)).total == prunable


@pytest.mark.parametrize("name", ["digits-conv2", "digits-resnet", "digits-separable"])
def test_a_twin_runs_whole(name: str, tmp_path: Path) -> None:
    changes = {"data": "digits:train=150,test=50", "steps": 3, "eval_every": 3, "batch_size": 20, "levels": 2}
    found = tombola.run(name, **changes, replicates=1, rewind_to=1, store=tmp_path)
    arms = found.document["arms"]
    assert {"ticket", "reinit", "reinit-rewound", "shuffled"} <= arms.keys() and not found.failures
    densities = [row["density"] for row in arms["ticket"]]
    assert densities[0] == 1 and densities == sorted(densities, reverse=True) and len(densities) == 3
    kept = arms["ticket"][2]["kept_per_layer"]
    assert ("output.weight" in kept) == (name == "digits-conv2")
    assert not any("shortcut" in layer for layer in kept)


def test_a_named_network_without_a_recipe(tmp_path: Path) -> None:
    small = {"data": "digits:train=50,test=20", "steps": 1, "eval_every": 1, "batch_size": 10}
    found = tombola.run("digits-lenet", model="resnet-20", **small, levels=1, replicates=1, store=tmp_path)
    assert not found.failures and found.document["arms"]["ticket"][0]["prunable"] == 270_896 - 3 * 3 * 2 * 16


def sweep(store: Path, **changes: object) -> Results:
    recipe = tiny_recipe(replicates=1, steps=120, eval_every=40, **changes)
    return tombola.run(recipe, data=tiny_data(), store=store)


def test_one_dense_run_serves_every_rewinding(tmp_path: Path) -> None:
    """Level 0, the first cut and the reinit of level 1 come from the store, whatever survivors restart from."""
    first = sweep(tmp_path)  # dense; 2 levels of a cut, a ticket, a reinit, a shuffled mask
    assert (first.computed, first.requests) == (9, 9)
    late = sweep(tmp_path, rewind_to=100)  # a state that the dense run keeps; asks for a fresh one trained to 100, too
    assert (late.requests, late.computed) == (12, 12 - 3)  # the dense run, the first cut, the first reinit
    again = sweep(tmp_path, rewind_to=100)
    assert (again.requests, again.computed) == (12, 0)
    lr = sweep(tmp_path, reset="lr-rewind")
    assert (lr.requests, lr.computed) == (9, 9 - 3)
    fine = sweep(tmp_path, reset="fine-tune")
    assert (fine.requests, fine.computed) == (9, 9 - 4)  # at a constant rate that is lr-rewind: the same second mask
    digests = {r.document["arms"]["ticket"][0]["test_accuracy"] for r in (first, late, lr, fine)}
    assert len(digests) == 1


def test_a_state_that_was_not_kept_is_made_again_and_no_more(tmp_path: Path) -> None:
    sweep(tmp_path)
    early = sweep(tmp_path, rewind_to=7)
    assert (early.requests, early.computed) == (12, 12 - 3 + 1)  # and the dense run once more, up to step 7


def test_the_command_says_what_the_store_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = [
        "run",
        "digits-lenet",
        *NET,
        "--steps",
        "5",
        "--levels",
        "1",
        "--replicates",
        "1",
        "--workers",
        "1",
        "--store",
        str(tmp_path),
    ]
    assert main(run) == 0
    assert "5 requests computed now, 0 answered by the store" in capsys.readouterr().out.replace("\n", " ")
    assert main([*run, "--rewind-to", "2"]) == 0
    assert "answered by the store" in capsys.readouterr().out.replace("\n", " ")


def test_every_recipe_with_a_named_network_is_one_that_exists() -> None:
    assert {recipe.model for recipe in CONV.values()} <= MODELS.keys()
    digits = load("digits")
    for name, recipe in CONV.items():
        if recipe.data == "digits":
            task = Supervised(dataset=digits, model=recipe.model, net=recipe.net, training=recipe.training())
            assert prepare(recipe).plans[0].dense.total == task.prunable(Scope(protect=recipe.protect)).total, name
