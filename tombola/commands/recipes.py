"""`tombola recipes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tombola.commands.arguments import JsonFile, check_targets, parse, write_out
from tombola.recipes import RECIPES

__all__ = ["Recipes", "main"]


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """List the recipes; `tombola show RECIPE` shows one whole."""

    json: JsonFile = ""


def main(arguments: Sequence[str]) -> int:
    """Print one line for each recipe."""
    asked = parse(Recipes, arguments, command="recipes")
    check_targets(asked.json)
    if asked.json != "-":
        width = max(map(len, RECIPES))
        for name, recipe in RECIPES.items():
            print(f"{name:<{width}}  {recipe.summary}")
    write_out(asked.json, {"schema": 1, "recipes": [asdict(recipe) for recipe in RECIPES.values()]})
    return 0
