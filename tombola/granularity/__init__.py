"""Granularity: whether weights are pruned one by one or a whole unit at a time.

Importing this package costs nothing: names are listed without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.granularity.registry import GRANULARITIES
from tombola.lazy import lazily
from tombola.registry import chosen

if TYPE_CHECKING:
    from tombola.granularity.units import Filter, Granularity, Rule, Unit, by_unit, unit_dim

__all__ = ["GRANULARITIES", "Filter", "Granularity", "Rule", "Unit", "by_unit", "granularity_of", "unit_dim"]

_UNITS = ("Filter", "Granularity", "Rule", "Unit", "by_unit", "unit_dim")

__getattr__ = lazily(__name__, dict.fromkeys(_UNITS, "tombola.granularity.units"))


def granularity_of(choice: str | Granularity) -> Granularity:
    """The granularity that a choice names (`NAME[:rule=...]`), or the one that it is.

    Raises:
        UsageError: an unknown name, option or rule.

    >>> granularity_of("unit:rule=max")
    Unit(rule=<Rule.MAX: 'max'>)
    """
    found: Granularity = chosen(choice, GRANULARITIES, "granularity") if isinstance(choice, str) else choice
    return found
