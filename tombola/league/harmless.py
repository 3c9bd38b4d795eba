"""How much noise on its initial weights a ticket bears: the size that is shown to cost less than the margin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tombola.errors import UsageError
from tombola.registry import chosen, name_of
from tombola.resets import RESETS
from tombola.statistics import noninferiority, paired_differences
from tombola.statistics.verdicts import ALPHA, FEWEST

if TYPE_CHECKING:
    from tombola.league.entries import Terms
    from tombola.league.standings import Contestant

__all__ = ["harmless"]

_REFERENCE = "rewind"


def harmless(rows: Sequence[Contestant], terms: Terms, field: str) -> list[dict[str, Any]]:
    """At each density the largest c of the reset `wiggle` whose loss against `rewind` has an upper bound in the margin.

    The bound is the one-sided 95 % one of the paired differences. Sizes are tested from the smallest up, each only
    after all before it have passed, so that the chance of naming any harmful one is 5 % at each density.

    Returns:
        [{"density", "c"}], c None where not even the smallest passes; empty where no noise was tried.
    """
    tried = sorted(((c, row) for row in rows if (c := _size(row.name)) is not None), key=lambda one: one[0])
    reference = next((row for row in rows if row.name == _REFERENCE), None)
    if not tried or reference is None:
        return []
    found = []
    for level, density in enumerate(terms.densities, 1):
        largest = None
        for c, row in tried:
            differences = paired_differences(row.at("ticket", level), reference.at("ticket", level), field)
            test = noninferiority(differences.values(), terms.recipe.margin)
            if test.n < FEWEST or test.p is None or test.p > ALPHA:
                break
            largest = c
        found.append({"density": density, "c": largest})
    return found


def _size(name: str) -> float | None:
    """The noise of a competitor; None for another reset."""
    from tombola.resets.survivors import Wiggle

    try:
        if name_of(name, RESETS, "reset") != "wiggle":
            return None
    except UsageError:  # a competitor with a name of its own (pruned:zero)
        return None
    made = chosen(name, RESETS, "reset")
    return made.c if isinstance(made, Wiggle) else None
