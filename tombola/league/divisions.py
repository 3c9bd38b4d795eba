"""Divisions: who competes with whom, made of the registries, so that what is added to those takes part by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tombola.allocation import ALLOCATIONS
from tombola.criteria import CRITERIA, needs_of
from tombola.errors import UsageError, suggest
from tombola.registry import Registry, options_of
from tombola.resets import RESETS, RESETS_PRUNED

__all__ = ["DIVISIONS", "WIGGLES", "Competitor", "Division", "check_names", "divisions_of"]

WIGGLES = (0.1, 0.3, 1.0, 3.0)
"""Sizes of the noise that the reset `wiggle` is tried with, in standard deviations of a layer's initial weights."""

AT_INIT = ("snip", "grasp", "synflow", "iterative_snip", "force")
"""Criteria of the papers on pruning at initialisation."""

_CHOICES = {
    "per-layer": ("per-layer:*output*=0.5,*=0.1",),  # it has no options of its own; as the last layer of the paper
    "depth": ("depth:by=size", "depth:by=norm", "depth:by=mean"),
    "wiggle": tuple(f"wiggle:c={c:g}" for c in WIGGLES),
}
"""Registered name -> how it takes part, where its defaults are not all there is to try."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Competitor:
    """One way to prune.

    Args:
        name: unique in its division.
        changes: fields of the recipe.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Division:
    """Competitors that are ranked together.

    Args:
        title: one line for people.
        rivals: competitors that each of the others is compared with.
        controls: trained beside each ticket, and compared with it.
        changes: fields of the recipe, for all of them.
        arm: which arm is ranked.
        fallback: fields of the recipe with which a competitor whose pruning fails takes part once more, as another row.
    """

    name: str
    title: str
    competitors: tuple[Competitor, ...]
    rivals: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    arm: str = "ticket"
    fallback: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [competitor.name for competitor in self.competitors]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"The division {self.name} has two competitors of the name {twice!r}; rename one.")
        for rival in self.rivals:
            if rival not in names:
                raise UsageError(f"The division {self.name} has no competitor {rival!r}. {suggest(rival, names)}")


def _criteria() -> Division:
    return Division(
        name="criteria",
        title="Criteria: what a weight's survival goes by, scored where each says, survivors rewound",
        competitors=_all("criterion", CRITERIA),
        rivals=("random", "magnitude"),
        changes={"score_at": "auto", "reset": "rewind"},
    )


def _allocations() -> Division:
    return Division(
        name="allocations",
        title="Allocations: how the budget is shared among the layers, by magnitude",
        competitors=_all("allocation", ALLOCATIONS),
        rivals=("layerwise",),
        changes={"criterion": "magnitude", "reset": "rewind"},
    )


def _resets() -> Division:
    pruned = [
        Competitor(name=f"pruned:{name}", changes={"reset_pruned": name}) for name in RESETS_PRUNED if name != "zero"
    ]
    return Division(
        name="resets",
        title="Resets: what survivors restart from, and (pruned:...) where pruned places stand; masks by magnitude",
        competitors=(*_all("reset", RESETS), *pruned),
        rivals=("rewind",),
        changes={"criterion": "magnitude"},
    )


def _at_init() -> Division:
    scored = [Competitor(name=name, changes={"criterion": name, "score_at": "init"}) for name in AT_INIT]
    after = {"criterion": "magnitude", "score_at": "end"}
    return Division(
        name="at-init",
        title="Pruning at initialisation under one global threshold, with its sanity checks, beside tickets",
        competitors=(
            *scored,
            Competitor(name="magnitude-at-init", changes={"criterion": "magnitude", "score_at": "init"}),
            Competitor(name="random", changes={"criterion": "random"}),
            Competitor(name="magnitude", changes=after),
            Competitor(name="imp", changes={**after, "search": "imp"}),
        ),
        rivals=("random", "magnitude"),
        controls=("shuffled", "reinit", "inverted", "random-labels"),
        changes={"allocation": "global", "reset": "rewind"},
        fallback={"allocation": "layerwise"},
    )


def _supermasks() -> Division:
    return Division(
        name="supermasks",
        title="Supermasks: accuracy of each criterion's mask on the initial weights, which are never trained",
        competitors=_all("criterion", CRITERIA),
        rivals=("random", "magnitude"),
        controls=("untrained",),
        changes={"score_at": "auto", "reset": "rewind"},
        arm="untrained",
    )


DIVISIONS: dict[str, Callable[[], Division]] = {
    "criteria": _criteria,
    "allocations": _allocations,
    "resets": _resets,
    "at-init": _at_init,
    "supermasks": _supermasks,
}
"""Name -> makes the division, which loads what takes part in it."""


def divisions_of(names: tuple[str, ...]) -> tuple[Division, ...]:
    """The divisions of these names, all where none is named.

    Raises:
        UsageError: an unknown name, or one twice.

    >>> [competitor.name for competitor in divisions_of(("at-init",))[0].competitors][-2:]
    ['magnitude', 'imp']
    """
    check_names(names)
    return tuple(DIVISIONS[name]() for name in names or DIVISIONS)


def check_names(names: tuple[str, ...]) -> None:
    """Refuse names of no division, and one named twice, without loading any."""
    for name in names:
        if name not in DIVISIONS:
            raise UsageError(f"Unknown division {name!r}. {suggest(name, DIVISIONS)}")
        if names.count(name) > 1:
            raise UsageError(f"The division {name!r} is named twice.")


def _all(field_: str, registry: Registry) -> tuple[Competitor, ...]:
    """Everything in a registry with its defaults, and once more by whole units where it has that option.

    Criteria that look at a network for each weight are left out: those of a league's networks are too many.
    """
    found = []
    for name, entry in registry.items():
        if needs_of(entry.load()).each:
            continue
        choices = list(_CHOICES.get(name, (name,)))
        if options_of(entry.load()).get("units") is bool:
            choices.append(f"{name}:units=true")
        found += [Competitor(name=choice, changes={field_: choice}) for choice in choices]
    return tuple(found)
