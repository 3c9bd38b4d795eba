"""The frozen surface: what people write down and what stores go by. A change here must be a decision."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest
from helpers import tiny_data, tiny_recipe

import tombola
from tombola.allocation import ALLOCATIONS
from tombola.criteria import CRITERIA
from tombola.data import DATASETS, NORMALISATIONS
from tombola.experiment import Experiment, prepare
from tombola.lookup import request_digest
from tombola.models.entries import INITIALIZERS
from tombola.models.registry import MODELS
from tombola.recipes import RECIPES, Recipe
from tombola.requests import Fit, Gradual, Interpolate, Prune
from tombola.resets import RESETS, RESETS_PRUNED
from tombola.search import CONTROLS, SEARCHES
from tombola.specs import digest
from tombola.starts import At, Init, Moment
from tombola.training.optimizers import OPTIMIZERS, SCHEDULES

PUBLIC = [
    "Cost",
    "Dataset",
    "Mask",
    "Recipe",
    "Results",
    "Scope",
    "Ticket",
    "TombolaError",
    "__version__",
    "apply_mask",
    "cost",
    "enforce",
    "export_model",
    "find_ticket",
    "from_arrays",
    "from_npz",
    "from_torch",
    "prune",
    "rewind",
    "run",
    "shrink",
]

CRITERIA_NAMES = [
    "magnitude", "random", "small_final", "large_init", "small_init", "large_init_large_final",
    "small_init_small_final", "magnitude_increase", "movement", "least_movement", "large_final_same_sign",
    "large_final_different_sign", "magnitude_increase_same_sign", "magnitude_increase_different_sign",
    "movement_same_sign", "movement_different_sign", "snip", "iterative_snip", "force", "grasp", "synflow",
    "grad", "taylor", "empirical_fisher", "true_fisher", "movement_pruning", "supermask", "edge_popup", "obd",
    "obs", "woodfisher", "wanda", "sparsegpt", "low_variance", "low_variance_units", "activation_mean", "apoz",
    "covariance_redundancy", "mutual_information", "output_sensitivity", "leave_one_out", "greedy", "hebbian",
]  # fmt: skip

RESET_NAMES = [
    "rewind", "lr-rewind", "fine-tune", "reinit", "signed_reinit", "rand_signed_reinit", "reshuffle",
    "signed_reshuffle", "rand_signed_reshuffle", "signed_constant", "rand_signed_constant", "resample", "wiggle",
    "redraw_losers",
]  # fmt: skip

MODEL_NAMES = [
    "lenet-300-100", "mlp", "conv-2", "conv-4", "conv-6", "resnet-20", "resnet-56", "vgg-16", "vgg-19", "resnet-18",
    "resnet-50", "separable-20",
]  # fmt: skip

REGISTRIES: list[tuple[Any, list[str]]] = [
    (
        ALLOCATIONS,
        [
            "layerwise",
            "global",
            "uniform",
            "uniform-plus",
            "er",
            "erk",
            "lamp",
            "smart-ratio",
            "per-layer",
            "depth",
            "unit-budget",
        ],
    ),
    (CONTROLS, ["reinit", "shuffled", "small-dense", "untrained", "inverted", "random-labels", "random-inputs"]),
    (CRITERIA, CRITERIA_NAMES),
    (DATASETS, ["digits", "mnist", "fashion-mnist", "cifar-10"]),
    (INITIALIZERS, ["glorot-normal", "glorot-uniform", "kaiming-normal", "kaiming-uniform", "gaussian", "orthogonal"]),
    (MODELS, MODEL_NAMES),
    (NORMALISATIONS, ["unit", "pixel", "standard", "none"]),
    (OPTIMIZERS, ["adam", "adamw", "sgd"]),
    (
        RECIPES,
        [
            "digits-lenet",
            "mnist-lenet",
            "fashion-lenet",
            *(f"cifar-conv{layers}{kind}" for kind in ("", "-dropout") for layers in (2, 4, 6)),
            *(f"cifar-{net}{kind}" for net in ("resnet20", "vgg19") for kind in ("", "-low", "-warmup")),
            "cifar-vgg16",
            "digits-conv2",
            "fashion-conv2",
            "digits-resnet",
            "digits-separable",
        ],
    ),
    (RESETS, RESET_NAMES),
    (
        RESETS_PRUNED,
        [
            "zero",
            "freeze_init",
            "freeze_reinit",
            "freeze_init_zero_mask",
            "freeze_init_zero_mask_reshuffle",
            "freeze_init_zero_mask_rev",
            "freeze_init_zero_all",
            "freeze_init_zero_all_reshuffle",
            "freeze_init_zero_all_rev",
        ],
    ),
    (SCHEDULES, ["constant", "step", "cosine"]),
    (SEARCHES, ["imp", "oneshot", "gradual"]),
]

DEFAULTS: dict[str, Any] = {
    "name": "custom",
    "summary": "",
    "data": "digits",
    "model": "lenet-300-100",
    "net": {"hidden": (), "activation": "relu", "dropout": 0.0, "width": 1.0, "initializer": "", "norm_scale": "one"},
    "steps": 1200,
    "batch_size": 60,
    "loss": "cross-entropy",
    "label_smoothing": 0.0,
    "l2": 0.0,
    "clip_norm": 0.0,
    "optimizer": {
        "name": "adam",
        "lr": 0.0012,
        "betas": (0.9, 0.999),
        "eps": 1e-08,
        "momentum": 0.0,
        "nesterov": False,
        "weight_decay": 0.0,
    },
    "lr_schedule": {"name": "constant", "warmup": 0, "milestones": (), "factor": 0.1},
    "eval_every": 25,
    "normalise": "unit",
    "validation": 0,
    "split_seed": 0,
    "augment": "none",
    "precision": "float32",
    "memory_format": "contiguous",
    "parts": 1,
    "search": "imp",
    "levels": 17,
    "schedule": "geometric",
    "rate": 0.2,
    "output_factor": 0.5,
    "output_layer": "",
    "allocation": "layerwise",
    "criterion": "magnitude",
    "granularity": "natural",
    "probe": {
        "batches": 1,
        "size": 128,
        "balanced": False,
        "random_labels": False,
        "random_inputs": False,
    },
    "score_at": "auto",
    "search_steps": 0,
    "rewind_to": 0,
    "reset": "rewind",
    "reset_pruned": "zero",
    "protect": (),
    "controls": ("reinit", "shuffled"),
    "draws": 1,
    "replicates": 5,
    "seed": 0,
    "endpoint": "early-stop",
    "margin": 0.01,
}
DIGITS = {**DEFAULTS, "name": "digits-lenet"}
MNIST = {**DEFAULTS, "data": "mnist", "steps": 50_000, "eval_every": 100, "normalise": "pixel", "levels": 24} | {
    "margin": 0.002
}

# Stores go by these.
DIGITS_TASK = "d235fff3f9a679282cc8d1d87092c837"
DIGITS_EXPERIMENT = "2373b755d069a46c711bd732184a05a0"
DIGITS_DENSE = "6436ccfc9a822e3679f1382a32786e35"
MNIST_PROCEDURE = "21fcd846c2d6639fe9a2272be4b5c7cb"
MNIST_TRAINING = "a90572a5b26c8d0e09283a57ff523cae"


@pytest.fixture(scope="module")
def digits() -> Experiment:
    return prepare(RECIPES["digits-lenet"])


def test_public_names() -> None:
    assert tombola.__all__ == PUBLIC
    assert dir(tombola) == PUBLIC
    for name in PUBLIC:
        assert getattr(tombola, name) is not None
    assert tombola.run is importlib.import_module("tombola.experiment").run
    with pytest.raises(AttributeError, match="module 'tombola' has no attribute 'prunes'"):
        _ = tombola.prunes


@pytest.mark.parametrize(("registry", "keys"), REGISTRIES, ids=[",".join(keys) for _, keys in REGISTRIES])
def test_registries(registry: dict[str, object], keys: list[str]) -> None:
    assert list(registry) == keys


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe(), DEFAULTS),
        (RECIPES["digits-lenet"], DIGITS),
        (RECIPES["mnist-lenet"], {**MNIST, "name": "mnist-lenet"}),
        (RECIPES["fashion-lenet"], {**MNIST, "name": "fashion-lenet", "data": "fashion-mnist", "margin": 0.003}),
    ],
    ids=["defaults", "digits", "mnist", "fashion"],
)
def test_recipes_and_their_fields(recipe: Recipe, expected: dict[str, Any]) -> None:
    found = dataclasses.asdict(recipe)
    assert list(found) == list(DEFAULTS)
    assert found == {**expected, "summary": recipe.summary}
    assert bool(recipe.summary) == (recipe != Recipe())


def test_fields_of_requests() -> None:
    def surface(kind: Any) -> dict[str, object]:
        missing = dataclasses.MISSING
        return {f.name: ... if f.default is missing else f.default for f in dataclasses.fields(kind)}

    assert surface(Init) == {"seed": ..., "at_most": None}
    assert surface(At) == {"fit": ..., "step": ...}
    assert surface(Prune) == {
        "start": ...,
        "mask": ...,
        "pruner": ...,
        "keep": ...,
        "seed": ...,
        "initial": None,
        "probe": None,
    }
    assert surface(Fit) == {
        "start": ...,
        "mask": ...,
        "first": 0,
        "last": ...,
        "order": ...,
        "noise": ...,
        "held_rate": None,
        "frozen": None,
        "gather": (),
        "dynamics": None,
        "keep": (),
    }
    assert surface(Interpolate) == {
        "one": ...,
        "other": ...,
        "origin": ...,
        "mask": ...,
        "points": ...,
        "recompute": ...,
        "examples": ...,
    }
    assert surface(Gradual) == {"pruner": ..., "keeps": ..., "seed": ..., "probe": None}
    assert {moment.value for moment in Moment} == {"init", "early-stop", "end"}


def test_digests_of_the_digits_experiment(digits: Experiment) -> None:
    assert digits.task.fingerprint == DIGITS_TASK
    assert digits.digest == DIGITS_EXPERIMENT
    plan = digits.plans[0]
    assert request_digest(digits.task.fingerprint, plan.fit(plan.init(), None)) == DIGITS_DENSE
    assert digest(RECIPES["mnist-lenet"].procedure()) == MNIST_PROCEDURE
    assert digest(RECIPES["mnist-lenet"].training()) == MNIST_TRAINING


def test_budgets_of_the_digits_experiment(digits: Experiment) -> None:
    plan = digits.plans[0]
    assert plan.dense.kept == {"fc1.weight": 19200, "fc2.weight": 30000, "output.weight": 1000}
    assert (len(plan.keeps), plan.keeps[:3], plan.keeps[-1]) == (17, (40260, 32298, 25919), 1276)
    assert len({p.seed for p in digits.plans}) == len(digits.plans) == 5


def test_only_what_changes_numbers_changes_the_experiment() -> None:
    data, recipe = tiny_data(), tiny_recipe()
    same = prepare(dataclasses.replace(recipe, name="x", summary="y", data="elsewhere.npz"), data=data)
    assert same.digest == prepare(recipe, data=data).digest
    assert same.task.fingerprint == prepare(recipe, data=data, device="cpu").task.fingerprint
    others = [
        prepare(dataclasses.replace(recipe, **change), data=data)
        for change in ({"seed": 1}, {"levels": 1}, {"replicates": 3}, {"controls": ()}, {"protect": ("fc1*",)})
    ]
    assert len({e.digest for e in (same, *others)}) == 6
    assert {e.task.fingerprint for e in others} == {same.task.fingerprint}  # so trainings are shared
    trained = prepare(dataclasses.replace(recipe, steps=61), data=data)
    assert trained.task.fingerprint != same.task.fingerprint
    assert prepare(recipe, data=tiny_data(seed=1)).task.fingerprint != same.task.fingerprint
