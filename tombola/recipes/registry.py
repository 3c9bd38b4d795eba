"""The recipes that come with Tombola."""

from __future__ import annotations

from pathlib import Path

from tombola.errors import UsageError, suggest
from tombola.recipes.convolutional import CONVOLUTIONAL
from tombola.recipes.recipe import Recipe
from tombola.recipes.toml import from_toml
from tombola.training.optimizers import Optimizer

__all__ = ["RECIPES", "find_recipe"]

_ADAM = Optimizer(name="adam", lr=1.2e-3)

_ALL = (
    Recipe(
        name="digits-lenet",
        summary="LeNet-300-100 on scikit-learn's 8x8 digits: the whole experiment in minutes, no download.",
        data="digits",
        optimizer=_ADAM,
        levels=17,
        replicates=5,
    ),
    Recipe(
        name="mnist-lenet",
        summary="LeNet-300-100 on MNIST as in Frankle and Carbin (2019): batch 60, Adam 1.2e-3, 50,000 steps.",
        data="mnist",
        optimizer=_ADAM,
        steps=50_000,
        eval_every=100,
        normalise="pixel",
        levels=24,
        margin=0.002,
    ),
    Recipe(
        name="fashion-lenet",
        summary="The same on Fashion-MNIST.",
        data="fashion-mnist",
        optimizer=_ADAM,
        steps=50_000,
        eval_every=100,
        normalise="pixel",
        levels=24,
        margin=0.003,
    ),
    *CONVOLUTIONAL,
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name, or in the TOML file of this path.

    Raises:
        UsageError: neither; suggests the nearest name.
    """
    if name in RECIPES:
        return RECIPES[name]
    if name.endswith(".toml"):
        return from_toml(Path(name))
    raise UsageError(f"Unknown recipe {name!r}. {suggest(name, RECIPES)} A file must end in .toml.")
