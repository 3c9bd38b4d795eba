"""Recipes: whole experiments as data. Reading one needs no torch."""

from __future__ import annotations

from tombola.recipes.recipe import Recipe
from tombola.recipes.registry import RECIPES, find_recipe
from tombola.recipes.toml import from_toml, to_toml

__all__ = ["RECIPES", "Recipe", "find_recipe", "from_toml", "to_toml"]
