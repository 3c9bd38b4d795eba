"""Small divisions of a league, and results to rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helpers import Counting, tiny_data, tiny_recipe
from torch import nn

from tombola.criteria import Probe, Scores
from tombola.league.divisions import Competitor, Division
from tombola.league.entries import Terms
from tombola.league.running import League, Played, play, ready
from tombola.league.standings import Contestant
from tombola.masks import Mask
from tombola.store import Store

TERMS = Terms(recipe=tiny_recipe(), densities=(0.5, 0.2), replicates=3)


def spiteful(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Wants nothing of the last tensor."""
    sizes = {name: model.get_parameter(name).detach().abs() for name in mask}
    last = list(mask)[-1]
    return {name: -1 / (1 + size) if name == last else size for name, size in sizes.items()}


def competitor(name: str, **changes: Any) -> Competitor:
    return Competitor(name=name, changes=changes)


CRITERIA_DIVISION = Division(
    name="criteria",
    title="Criteria",
    competitors=(competitor("random", criterion="random"), competitor("magnitude", criterion="magnitude")),
    rivals=("random", "magnitude"),
)
ALLOCATIONS_DIVISION = Division(
    name="allocations",
    title="Allocations",
    competitors=(competitor("layerwise", allocation="layerwise"), competitor("uniform", allocation="uniform")),
    rivals=("layerwise",),
)
SANITY_DIVISION = Division(
    name="at-init",
    title="At init",
    competitors=(
        competitor("snip", criterion="snip"),
        competitor("magnitude", criterion="magnitude"),
        competitor("spiteful", criterion="league_helpers:spiteful"),
        competitor("misnamed", criterion="magnitude:colour=red"),
    ),
    rivals=("magnitude",),
    controls=("shuffled", "inverted", "random-labels"),
    changes={"allocation": "global"},
    fallback={"allocation": "layerwise"},
)


def made(*divisions: Division, terms: Terms = TERMS) -> League:
    return ready(terms, divisions, data=tiny_data())


def played(league: League, store: Store, watcher: Counting | None = None) -> tuple[list[Played], int]:
    told = watcher or Counting()
    return play(league, store, watcher=lambda seats, experiments: told)


def rows(values: dict[int, Sequence[float | None]], densities: Sequence[float] = (0.5, 0.2)) -> list[dict[str, Any]]:
    """level -> accuracy of each replicate."""
    return [
        {"replicate": r, "draw": 0, "level": level, "diverged": value is None, "test_accuracy_at_early_stop": value}
        for level, row in values.items()
        for r, value in enumerate(row)
    ]


def contestant(name: str, *levels: Sequence[float | None], **controls: Sequence[Sequence[float | None]]) -> Contestant:
    arms = {"ticket": rows(dict(enumerate(levels, 1)))}
    arms |= {arm: rows(dict(enumerate(per_level, 1))) for arm, per_level in controls.items()}
    return Contestant(name=name, arms=arms)


def scores(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = next(one for one in document["competitors"] if one["name"] == name)
    return list(found["scores"])
