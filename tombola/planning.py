"""From a recipe to the plan of a search: what prunes, how many weights each level keeps, what follows."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tombola.allocation import Allocation, Layerwise, allocation_of
from tombola.criteria import criterion_of, needs_of
from tombola.criteria.base import label_of
from tombola.errors import TombolaError, UsageError
from tombola.granularity import Granularity, granularity_of
from tombola.importing import where
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.recipes import Recipe
from tombola.registry import chosen, name_of
from tombola.resets import RESETS_PRUNED, reset_of
from tombola.resets.pruned import zero
from tombola.schedules import SCHEDULES, Geometric, Schedule, check_ladder, counts_of, cuts_of, geometric, levels_of
from tombola.search import Plan
from tombola.search.checks import check_plan
from tombola.streams import stream

__all__ = ["plan_of"]


def plan_of(recipe: Recipe, dense: Mask, protected: int = 0) -> Plan:
    """The plan of all replicates, with seed 0.

    Args:
        dense: the mask of level 0.
        protected: weights outside of it that could be pruned, and are protected.

    Raises:
        UsageError: parts of the recipe do not go together, or with these weights.
    """
    allocation, keeps, cuts = _budgets(recipe, dense)
    criterion = criterion_of(recipe.criterion)
    pruned = chosen(recipe.reset_pruned, RESETS_PRUNED, "reset_pruned")
    plan = Plan(
        seed=0,
        dense=dense,
        keeps=keeps,
        pruner=Pruner(criterion=criterion, allocation=allocation, granularity=_granularity(recipe)),
        score_at=needs_of(criterion).scored_at if recipe.moment is None else recipe.moment,
        steps=recipe.steps,
        rewind_to=recipe.rewind_to,
        reset=reset_of(recipe.reset),
        pruned=None if pruned is zero else pruned,
        probe=recipe.probe,
        search_steps=recipe.search_steps or None,
        controls=recipe.controls,
        draws=recipe.draws,
        cuts=cuts,
        protected=protected,
    )
    check_plan(plan)
    return plan


def _granularity(recipe: Recipe) -> Granularity | None:
    return None if recipe.granularity == "natural" else granularity_of(recipe.granularity)


def _budgets(recipe: Recipe, dense: Mask) -> tuple[Allocation, tuple[int, ...], tuple[tuple[int, int], ...]]:
    """The allocation, the weights left in all at each level, and at the steps of a training that is pruned."""
    schedule: Schedule = chosen(recipe.schedule, SCHEDULES, "schedule", _rate(recipe))
    rate = schedule.rate if isinstance(schedule, Geometric) else recipe.rate
    defaults = {"rate": rate, "output": recipe.output_factor, "output_name": recipe.output_layer}
    allocation = allocation_of(recipe.allocation, defaults)
    levels = levels_of(schedule, min(recipe.levels, dense.alive))  # each level takes one weight or more
    start: Mapping[str, int] = {"all layers": dense.alive}
    if not isinstance(schedule, Geometric):
        ladder = [{"all layers": count} for count in counts_of(schedule, dense.alive, levels)]
    elif isinstance(allocation, Layerwise):
        if rate not in (allocation.rate, recipe.rate):  # both were named
            raise UsageError(f"The schedule's rate is {rate}, the allocation's {allocation.rate}; name one alone.")
        start = dense.kept
        ladder = geometric(start, allocation.rates(dense), levels)
    else:
        ladder = geometric(start, {"all layers": schedule.rate}, levels)
    check_ladder(start, ladder, named=not isinstance(schedule, Geometric))
    keeps = tuple(sum(counts.values()) for counts in ladder)
    cuts = _cuts(recipe, schedule, dense)
    _try_out(allocation, dense, {keeps[0], keeps[-1], *(keep for _, keep in cuts[:1])})
    return allocation, keeps, cuts


def _cuts(recipe: Recipe, schedule: Schedule, dense: Mask) -> tuple[tuple[int, int], ...]:
    """The cuts of a schedule that goes by training step, which is the search gradual's alone."""
    cuts = cuts_of(schedule, dense.alive, recipe.search_steps or recipe.steps)
    if bool(cuts) == (recipe.search != "gradual"):
        if cuts:
            raise UsageError(
                f"The schedule {recipe.schedule} goes by training step, and the search {recipe.search} by level; use "
                f"--search gradual, or leave every, begin and end out."
            )
        raise UsageError(
            f"The search gradual prunes while it trains, and the schedule {recipe.schedule} goes by level; use one by "
            f"training step: --schedule cubic:final=0.05,every=50."
        )
    if cuts and recipe.moment is not None:
        raise UsageError(
            f"The search gradual scores weights at the steps of its schedule, not at score_at {recipe.score_at}; leave "
            f"score_at at auto."
        )
    return cuts


def _try_out(allocation: Allocation, dense: Mask, keeps: set[int]) -> None:
    """What an allocation refuses whatever the scores are (a pattern that fits nothing), it refuses before training."""
    draws = {n: torch.rand(shape, generator=stream(0, f"try-out/{n}")) for n, shape in dense.shapes.items()}
    for keep in keeps:
        try:
            allocation(draws, dense, keep)
        except TombolaError:
            raise
        except Exception as error:  # whatever an allocation of one's own raises
            raise UsageError(f"The allocation {label_of(allocation)} failed: {where(error)}") from error


def _rate(recipe: Recipe) -> dict[str, float]:
    """The recipe's rate is the geometric schedule's, unless that has its own."""
    return {"rate": recipe.rate} if name_of(recipe.schedule, SCHEDULES, "schedule") == "geometric" else {}
