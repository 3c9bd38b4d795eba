"""Tombola: the lottery-ticket toolkit. Finds winning tickets in PyTorch networks and proves that they win.

Importing this package costs nothing; each name below loads what it needs when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily

if TYPE_CHECKING:
    from tombola.data import Dataset, from_arrays, from_npz, from_torch
    from tombola.errors import TombolaError
    from tombola.experiment import Results, run
    from tombola.masks import Mask
    from tombola.pruning import prune
    from tombola.recipes import Recipe
    from tombola.scopes import Scope
    from tombola.training.enforce import apply_mask, enforce

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Mask",
    "Recipe",
    "Results",
    "Scope",
    "TombolaError",
    "__version__",
    "apply_mask",
    "enforce",
    "from_arrays",
    "from_npz",
    "from_torch",
    "prune",
    "run",
]

_HOMES = {
    "Dataset": "tombola.data",
    "Mask": "tombola.masks",
    "Recipe": "tombola.recipes",
    "Results": "tombola.experiment",
    "Scope": "tombola.scopes",
    "TombolaError": "tombola.errors",
    "apply_mask": "tombola.training.enforce",
    "enforce": "tombola.training.enforce",
    "from_arrays": "tombola.data",
    "from_npz": "tombola.data",
    "from_torch": "tombola.data",
    "prune": "tombola.pruning",
    "run": "tombola.experiment",
}

__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
