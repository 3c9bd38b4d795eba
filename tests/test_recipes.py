"""Recipes as files, and every value that a recipe refuses."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tombola.errors import UsageError
from tombola.models.net import Net
from tombola.recipes import RECIPES, Recipe, find_recipe, from_toml, to_toml
from tombola.requests import ProbeSpec
from tombola.starts import Moment
from tombola.training.optimizers import LrSchedule, Optimizer
from tombola.training.settings import Training

UNUSUAL = Recipe(
    name='a "quoted" name\\ with\ttabs, \x7f, \x1b and ünïcode 🎟',
    summary="two\nlines",
    model="package.module:factory",
    net=Net(hidden=(7, 5), activation="tanh", dropout=0.25),
    steps=3000,
    loss="cross-entropy",
    label_smoothing=0.1,
    l2=1e-7,
    clip_norm=1e300,
    optimizer=Optimizer(name="sgd", lr=1e-5, momentum=0.9, nesterov=True, weight_decay=5e-4),
    lr_schedule=LrSchedule(name="step", warmup=20, milestones=(1000, 2000), factor=0.2),
    search="oneshot",
    allocation="global",
    criterion="random",
    score_at="250",
    search_steps=500,
    rewind_to=100,
    protect=("*.bias", "output.*"),
    controls=(),
    seed=2**62,
)


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("recipe", [*RECIPES.values(), Recipe(), UNUSUAL], ids=lambda recipe: recipe.name[:12])
def test_a_recipe_comes_back_equal(recipe: Recipe, tmp_path: Path) -> None:
    text = to_toml(recipe)
    again = from_toml(write(tmp_path, text))
    assert again == recipe
    assert repr(again) == repr(recipe)  # 1 and 1.0 are equal, but not the same
    assert to_toml(again) == text
    named = {line.partition(" = ")[0] for line in text.splitlines() if " = " in line}
    assert {f.name for f in dataclasses.fields(Recipe)} - {"net", "optimizer", "lr_schedule", "probe"} <= named


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.floats(1e-300, 1e300), st.lists(st.text(), max_size=3), st.integers(0, 2**80))
def test_any_text_and_number_comes_back(tmp_path: Path, text: str, rate: float, some: list[str], seed: int) -> None:
    recipe = Recipe(name=text, output_layer=text, protect=tuple(some), seed=seed, l2=rate, optimizer=Optimizer(lr=rate))
    assert from_toml(write(tmp_path, to_toml(recipe))) == recipe


def test_what_a_file_leaves_out_keeps_its_default(tmp_path: Path) -> None:
    path = write(tmp_path, 'rate = 0.5\ncontrols = ["reinit"]\n[optimizer]\nlr = 1\n[lr_schedule]\nname = "cosine"\n')
    assert from_toml(path) == Recipe(
        name="mine",
        rate=0.5,
        controls=("reinit",),
        optimizer=Optimizer(lr=1.0),
        lr_schedule=LrSchedule(name="cosine"),
    )
    assert isinstance(from_toml(path).optimizer.lr, float)
    assert from_toml(write(tmp_path, "")) == Recipe(name="mine")
    assert find_recipe(str(path)) == Recipe(name="mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("levls = 3", r"mine\.toml: unknown key 'levls'\. Did you mean 'levels'\?"),
        ("[optimizer]\nmomentm = 0.9", r"mine\.toml: optimizer: unknown key 'momentm'\. Did you mean 'momentum'\?"),
        ("[optimiser]\nlr = 0.9", r"unknown key 'optimiser'\. Did you mean 'optimizer'\?"),
        ("levels = 3.0", r"mine\.toml: levels is 3\.0; expected a whole number"),
        ("levels = true", r"levels is True; expected a whole number"),
        ('levels = "3"', r"levels is '3'; expected a whole number"),
        ("rate = true", r"rate is True; expected a number"),
        ('rate = "0.2"', r"rate is '0\.2'; expected a number"),
        ("score_at = 5", r"score_at is 5; expected text"),
        ("name = []", r"name is \[\]; expected text"),
        ('protect = "a"', r"protect is 'a'; expected a list, each text"),
        ("protect = [1]", r"protect is 1; expected text"),
        ('controls = ["shuffle"]', r"controls is 'shuffle'\. Did you mean 'shuffled'\?"),
        ('search = "im"', r"search is 'im'\. Did you mean 'imp'\?"),
        ("search = ['imp']", r"search is \['imp'\]\. "),
        ("optimizer = 3", r"optimizer is 3; expected a table"),
        ('optimizer = "sgd"', r"optimizer is 'sgd'; expected a table"),
        ("[optimizer]\nnesterov = 1", r"optimizer: nesterov is 1; expected true or false"),
        ("[optimizer]\nbetas = [0.9]", r"optimizer: betas is \[0\.9\]; expected a list of 2, each a number"),
        ('[optimizer]\nbetas = [0.9, "x"]', r"optimizer: betas is 'x'; expected a number"),
        ("[net]\nhidden = [7, 5.0]", r"net: hidden is 5\.0; expected a whole number"),
        ("[levels]\nx = 1", r"levels is \{'x': 1\}; expected a whole number"),
        ("steps = 0", r"steps is 0; expected a whole number, 1 or more"),
        ("rate = nan", r"rate is nan; expected a fraction"),
        ("levels = ", r"mine\.toml is no TOML: Invalid value"),
        ("levels = 1\nlevels = 2", r"mine\.toml is no TOML"),
    ],
)
def test_a_wrong_file_says_where_and_what(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        from_toml(write(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml cannot be read: No such file or directory"):
        from_toml(tmp_path / "none.toml")
    with pytest.raises(UsageError, match=r"cannot be read: Is a directory"):
        from_toml(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(UsageError, match=r"latin\.toml is no TOML"):
        from_toml(tmp_path / "latin.toml")
    with pytest.raises(UsageError, match=r"Unknown recipe 'digits-lene'\. Did you mean 'digits-lenet'\?"):
        find_recipe("digits-lene")
    assert find_recipe("mnist-lenet") is RECIPES["mnist-lenet"]


REFUSED: dict[str, list[object]] = {
    "parts": [0, 2.0],
    "precision": ["float16"],
    "memory_format": ["nhwc"],
    "augment": ["flip-crp"],
    "steps": [0, -1, 1.5, True, "10"],
    "batch_size": [0, -1, 1.5],
    "eval_every": [0, -1],
    "validation": [-1, 0.5],
    "l2": [-1e-9, math.inf, math.nan, "0"],
    "clip_norm": [-1.0, math.nan, math.inf],
    "label_smoothing": [-0.1, 1.0, math.nan],
    "loss": ["mse", None],
    "levels": [0, -1, 2.0, True],
    "draws": [0, 1.5],
    "replicates": [0, -3],
    "search_steps": [-1, 1201, 2.5],
    "rewind_to": [-1, 1200, 1.5],
    "seed": [-1, 0.5, "0"],
    "margin": [0.0, 1.0, -0.1, float("nan"), "0.1"],
    "endpoint": ["middle", 3],
    "rate": [0.0, 1.0, -0.2, 1.5, math.nan, math.inf],
    "output_factor": [-0.1, 1.1, math.nan],
    "search": ["lottery", ""],
    "allocation": ["layers"],
    "criterion": ["size"],
    "reset": ["finetune"],
    "reset_pruned": ["nil", "zero:x=1=", ""],
    "granularity": ["layer"],
    "schedule": ["steps", 3],
    "controls": [("reinits",), ("reinit", "reinit")],
    "score_at": ["middle", "-1", "1.5", "1201", ""],
}
ELSEWHERE = {
    "name",
    "summary",
    "data",
    "model",
    "net",
    "optimizer",
    "lr_schedule",
    "probe",
    "normalise",
    "split_seed",
} | {
    "output_layer",  # these two are checked against the network
    "protect",
}
NESTED: dict[type[Any], dict[str, list[object]]] = {
    Optimizer: {
        "name": ["adma"],
        "lr": [0.0, -1.0, math.nan, math.inf, True],
        "betas": [(0.9,), (0.9, 1.0), (-0.1, 0.9), (0.9, math.nan)],
        "eps": [0.0, -1e-8, math.nan],
        "momentum": [-0.1, 1.0, math.nan],
        "nesterov": [True],
        "weight_decay": [-1e-4, math.nan, math.inf],
    },
    LrSchedule: {
        "name": ["cosin"],
        "warmup": [-1, 1.5],
        "milestones": [(5,), (0, 5), (7, 5), (5, 5)],
        "factor": [0.0, -1.0, math.nan, math.inf],
    },
}


def test_no_field_is_forgotten() -> None:
    assert {f.name for f in dataclasses.fields(Recipe)} == REFUSED.keys() | ELSEWHERE
    assert not REFUSED.keys() & ELSEWHERE
    for kind, refused in NESTED.items():
        assert {f.name for f in dataclasses.fields(kind)} == refused.keys()
    assert {f.name for f in dataclasses.fields(Training)} < {f.name for f in dataclasses.fields(Recipe)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, bad in REFUSED.items() for value in bad])
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as error:
        Recipe(**{name: value})
    text, shown = str(error.value), value[0] if name == "controls" else value
    assert name.removesuffix("s") in text  # "Unknown control 'reinits'."
    assert repr(shown) in text or f" {shown}" in text


@pytest.mark.parametrize(
    ("kind", "name", "value"), [(k, n, v) for k, fields in NESTED.items() for n, bad in fields.items() for v in bad]
)
def test_a_nested_value_out_of_range_is_refused_by_name(kind: type[Any], name: str, value: Any) -> None:
    with pytest.raises(UsageError) as error:
        kind(**{name: value})
    text = str(error.value)
    assert f".{name}" in text or f"and {name}" in text or repr(value) in text
    if name not in {"nesterov", "milestones"} and value != (5,):
        assert repr(value) in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewind_to": 60, "search_steps": 60}, r"rewind_to is 60, but a searching training has 60 steps; .* 0 to 59"),
        ({"rewind_to": 1200}, r"rewind_to is 1200, but a training has 1200 steps; expected 0 to 1199"),
        ({"score_at": "50", "rewind_to": 51}, r"score_at is step 50; expected 51 to 1200"),
        ({"score_at": "61", "search_steps": 60}, r"score_at is step 61; expected 0 to 60"),
        ({"reset": "fine-tune", "rewind_to": 5}, r"cannot rewind; leave rewind_to at 0"),
        ({"reset": "fine-tune", "lr_schedule": LrSchedule(name="cosine")}, r"last rate, which is 0 here; use another"),
        ({"loss": "mean-squared-error", "label_smoothing": 0.1}, r"label_smoothing belongs to cross-entropy"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**changes)


def test_optimizers_refuse_what_they_do_not_use() -> None:
    with pytest.raises(UsageError, match=r"momentum and nesterov belong to sgd, not to adamw; adamw has betas"):
        Optimizer(name="adamw", momentum=0.9)
    with pytest.raises(UsageError, match=r"nesterov needs optimizer\.momentum above 0"):
        Optimizer(name="sgd", nesterov=True)
    with pytest.raises(UsageError, match=r"schedule\.milestones and the schedule 'step' need each other"):
        LrSchedule(name="step")


@pytest.mark.parametrize(
    ("score_at", "moment"),
    [("auto", None), ("end", Moment.END), ("early-stop", Moment.EARLY_STOP), ("init", Moment.INIT), ("700", 700)],
)
def test_where_weights_are_scored(score_at: str, moment: Moment | int | None) -> None:
    assert Recipe(score_at=score_at).moment == moment


def test_a_recipe_splits_into_training_and_procedure() -> None:
    training, procedure = Recipe(steps=77).training(), Recipe(steps=77).procedure()
    names = {f.name for f in dataclasses.fields(Recipe)}
    assert training == Training(steps=77, eval_every=25)
    elsewhere = {"name", "summary", "data", "model", "net", "lr_schedule"}
    neutral = {"schedule", "granularity", "probe", "reset_pruned"}  # left out while they say nothing new
    assert procedure.keys() | {f.name for f in dataclasses.fields(training)} == names - elsewhere - neutral | {
        "schedule"
    }
    changed = Recipe(schedule="linear:final=0.1", granularity="unit", reset_pruned="zero", probe=ProbeSpec(size=9))
    assert changed.procedure().keys() - procedure.keys() == {"schedule", "granularity", "probe"}
