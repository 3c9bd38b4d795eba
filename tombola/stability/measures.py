"""What of an experiment's stability is asked for, by what the store notes about it. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.errors import UsageError
from tombola.recipes import Recipe
from tombola.recipes.toml import parse_toml
from tombola.starts import landmarks

__all__ = ["Measures", "measures_of", "recipe_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """Which networks are trained again, from which steps, and how finely the lines between them are measured.

    Args:
        steps: of the dense training, before its last; rising.
        levels: of the tickets, beside the dense network; rising, from 1 on.
        shuffled: the shuffled masks of these levels too.
        children: trainings from each state, 2 or more; every pair is compared.
        points, recompute, examples: of `tombola.requests.Interpolate`.

    Raises:
        UsageError: a number out of its range.
    """

    steps: tuple[int, ...]
    levels: tuple[int, ...]
    shuffled: bool = False
    children: int = 2
    points: int = 30
    recompute: int = 2000
    examples: int = 10_000

    def __post_init__(self) -> None:
        for name, least, why in (
            ("children", 2, "two are compared"),
            ("points", 3, "both ends and something between them"),
            ("recompute", 2, "examples that batch norm takes its statistics from"),
            ("examples", 1, "training examples that errors are measured on"),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UsageError(f"{name} is {value!r}; expected {least} or more: {why}.")


def recipe_of(content: Mapping[str, Any]) -> Recipe:
    """The recipe that an experiment was run by."""
    return parse_toml(content["settings"], "of the experiment")


def measures_of(
    content: Mapping[str, Any], *, steps: Sequence[int] = (), levels: Sequence[int] = (), **others: Any
) -> Measures:
    """What is asked for of a stored experiment, everything left out chosen for it.

    Args:
        content: what the store notes about the experiment.
        steps: empty: 0, the landmarks up to a fifth of the training (100, 500, 1,000, ...), and its `rewind_to`.
        levels: empty: the last one and the one in the middle.
        others: fields of `Measures`.

    Raises:
        UsageError: the experiment is not finished or not judged by accuracy, or has no such step or level.
    """
    recipe, known = recipe_of(content), _levels(content, "ticket")
    again = f" Go on with: {content['command']}" if content.get("command") else " Run it again to go on."
    if content["state"] not in ("finished", "failed"):
        raise UsageError(f"The experiment is not finished ({content['state']}).{again}")
    if content["metric"] != "accuracy":
        raise UsageError(f"Stability is told by the share of wrong predictions; this measures {content['metric']}.")
    last = max(known)
    chosen = tuple(sorted(set(levels) or ({(last + 1) // 2, last} - {0})))
    for level in chosen:
        if level not in known or level < 1:
            raise UsageError(f"The experiment has no ticket of level {level}; expected some of 1 to {last}.")
        if others.get("shuffled") and level not in _levels(content, "shuffled"):
            raise UsageError(
                f"The experiment has no shuffled mask at level {level}; run it with the control shuffled, or leave "
                f"--shuffled out."
            )
    marks = {*landmarks(recipe.steps // 5), recipe.rewind_to} - {recipe.steps}
    asked = tuple(sorted(set(steps) or marks))
    for step in asked:
        if not 0 <= step < recipe.steps:
            raise UsageError(
                f"No child can start from step {step}: the trainings have {recipe.steps:,} steps, so expected 0 to "
                f"{recipe.steps - 1:,}."
            )
    return Measures(steps=asked, levels=chosen, **others)


def _levels(content: Mapping[str, Any], arm: str) -> set[int]:
    return {row["level"] for row in content["rows"] if row["arm"] == arm} or {0}
