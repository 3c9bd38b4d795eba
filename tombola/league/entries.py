"""Entries: the experiments that a competitor takes part with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tombola.criteria import criterion_of, needs_of
from tombola.errors import UsageError
from tombola.league.divisions import Competitor, Division
from tombola.recipes import Recipe
from tombola.schedules import Custom
from tombola.search.checks import corrupts
from tombola.search.plan import CUTS

__all__ = ["Entry", "Terms", "entries_of", "fallback_of", "recipe_of"]

DENSITIES = (0.2, 0.1, 0.05, 0.02, 0.01)


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What holds for all competitors.

    Args:
        recipe: data, network, training, endpoint and margin, and what a division leaves open.
        densities: kept / prunable, falling, each in (0, 1).
        replicates: seeds, the same for everybody.

    Raises:
        UsageError: densities that do not fall, or no replicate.
    """

    recipe: Recipe
    densities: tuple[float, ...] = DENSITIES
    replicates: int = 5

    def __post_init__(self) -> None:
        Custom(densities=self.densities)
        replace(self.recipe, replicates=self.replicates)

    @property
    def schedule(self) -> str:
        """The densities as a recipe says them."""
        return f"custom:densities={'/'.join(map(repr, self.densities))}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One experiment of a competitor.

    A control whose mask is cut in another way may fail where the ticket does not, so it has an entry of its own; what
    both ask for is the same, and computed once.

    Args:
        competitor: the name of its row.
        changes: fields of the recipe.
        note: why it is not what its division asks for; empty: it is.
    """

    division: str
    competitor: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def entries_of(division: Division, competitor: Competitor) -> list[Entry]:
    """The entries of a competitor: one with the safe controls, and one for each control with a mask of its own."""
    safe = tuple(name for name in division.controls if name not in CUTS)
    changes = {**division.changes, **competitor.changes}
    sets = [safe, *((name,) for name in division.controls if name in CUTS and _applies(name, changes))]
    return [
        Entry(division=division.name, competitor=competitor.name, changes={**changes, "controls": controls})
        for controls in sets
    ]


def _applies(control: str, changes: Mapping[str, Any]) -> bool:
    """Whether a control that corrupts examples has any to corrupt."""
    try:
        return corrupts(control, needs_of(criterion_of(changes.get("criterion", "magnitude"))))
    except UsageError:  # which the entry with the ticket will say
        return False


def fallback_of(division: Division, entry: Entry, cause: str) -> Entry | None:
    """The entry that takes part in the place of one whose pruning failed; None: the division has no other way."""
    if not division.fallback or entry.note:
        return None
    words = ", ".join(str(value) for value in division.fallback.values())
    return replace(
        entry,
        competitor=f"{entry.competitor} ({words})",
        changes={**entry.changes, **division.fallback},
        note=f"in place of {entry.competitor}: {cause}",
    )


def recipe_of(terms: Terms, entry: Entry) -> Recipe:
    """The recipe of an entry.

    Raises:
        UsageError: its parts do not go together.

    >>> terms = Terms(recipe=Recipe(name="digits"), densities=(0.1, 0.02), replicates=3)
    >>> recipe = recipe_of(terms, Entry(division="criteria", competitor="snip", changes={"criterion": "snip"}))
    >>> recipe.name, recipe.search, recipe.schedule
    ('digits-criteria-snip', 'oneshot', 'custom:densities=0.1/0.02')
    """
    name = re.sub(r"[^\w.]+", "-", f"{terms.recipe.name}-{entry.division}-{entry.competitor}").strip("-")
    changes = {"search": "oneshot", "schedule": terms.schedule, "search_steps": 0, "controls": (), **entry.changes}
    try:
        return replace(terms.recipe, name=name, summary="", replicates=terms.replicates, **changes)
    except TypeError as error:
        raise UsageError(f"{entry.competitor}: a recipe has no such field ({error}).") from error
