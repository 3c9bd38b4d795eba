"""Tombola: the lottery-ticket toolkit. Finds winning tickets in PyTorch networks and proves that they win.

Importing this package costs nothing; each name below loads what it needs when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily

if TYPE_CHECKING:
    from tombola.costing import Cost, cost
    from tombola.data import Dataset, from_arrays, from_npz, from_torch
    from tombola.errors import TombolaError
    from tombola.experiment import Results, run
    from tombola.exporting import export_model
    from tombola.finding import find_ticket
    from tombola.masks import Mask
    from tombola.pruning import prune
    from tombola.recipes import Recipe
    from tombola.rewinding import rewind
    from tombola.scopes import Scope
    from tombola.shrinking import shrink
    from tombola.tickets import Ticket
    from tombola.training.enforce import apply_mask, enforce

__version__ = "0.1.0"

__all__ = [
    "Cost",
    "Dataset",
    "Mask",
    "Recipe",
    "Results",
    "Scope",
    "Ticket",
    "TombolaError",
    "__version__",
    "apply_mask",
    "cost",
    "enforce",
    "export_model",
    "find_ticket",
    "from_arrays",
    "from_npz",
    "from_torch",
    "prune",
    "rewind",
    "run",
    "shrink",
]

_HOMES = {
    "Cost": "tombola.costing",
    "Dataset": "tombola.data",
    "Mask": "tombola.masks",
    "Recipe": "tombola.recipes",
    "Results": "tombola.experiment",
    "Scope": "tombola.scopes",
    "Ticket": "tombola.tickets",
    "TombolaError": "tombola.errors",
    "apply_mask": "tombola.training.enforce",
    "cost": "tombola.costing",
    "enforce": "tombola.training.enforce",
    "export_model": "tombola.exporting",
    "find_ticket": "tombola.finding",
    "from_arrays": "tombola.data",
    "from_npz": "tombola.data",
    "from_torch": "tombola.data",
    "prune": "tombola.pruning",
    "rewind": "tombola.rewinding",
    "run": "tombola.experiment",
    "shrink": "tombola.shrinking",
}

__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
