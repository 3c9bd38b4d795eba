"""Densities by the names of tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor

from tombola.allocation.sharing import proportional
from tombola.allocation.uniform import sizes
from tombola.errors import UsageError, suggest
from tombola.masks import Mask

__all__ = ["PerLayer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PerLayer:
    """Densities that you name, by patterns over the names of tensors: `per-layer:*fc1*=0.1,*=0.5`.

    The first pattern that fits a tensor holds. Densities (kept / whole tensor) are proportions: they are scaled by one
    factor so that the budget is met exactly; a tensor that has less left than its share keeps all of it, and the rest
    is shared among the others. A budget of exactly the named densities gives exactly those.

    Args:
        densities: (pattern, density) pairs; `*`, `?` and `[...]` as in file names; densities in (0, 1].

    >>> import torch
    >>> mask = Mask({n: torch.ones(10, 10, dtype=torch.bool) for n in ("fc1.weight", "fc2.weight")})
    >>> PerLayer(densities=(("fc1*", 0.1), ("*", 0.5)))({}, mask, 60)
    {'fc1.weight': 10, 'fc2.weight': 50}
    >>> PerLayer(densities=(("fc1*", 0.1), ("*", 0.5)))({}, mask, 30)
    {'fc1.weight': 5, 'fc2.weight': 25}
    """

    densities: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        if not self.densities:
            raise UsageError("densities is empty; expected PATTERN=density, such as *fc1*=0.1,*=0.5.")
        for pattern, density in self.densities:
            if not (math.isfinite(density) and 0 < density <= 1):
                raise UsageError(f"{pattern}={density!r}; expected a density above 0 and at most 1.")

    @classmethod
    def of_options(cls, given: Mapping[str, str]) -> PerLayer:
        """From options whose names are patterns."""
        pairs = []
        for pattern, text in given.items():
            try:
                pairs.append((pattern, float(text)))
            except ValueError as error:
                raise UsageError(f"{pattern}={text!r}; expected a density above 0 and at most 1.") from error
        return cls(densities=tuple(pairs))

    def __call__(self, scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
        """The counts; `scores` are not looked at. Raises `UsageError` for a tensor or pattern that fits nothing."""
        chosen: dict[str, tuple[str, float]] = {}
        for name in mask:
            fits = [pair for pair in self.densities if fnmatchcase(name, pair[0])]
            if not fits:
                raise UsageError(f"per-layer has no pattern that fits {name!r}; add one for the rest: *=0.5.")
            chosen[name] = fits[0]
        for pattern, _ in self.densities:
            if pattern not in {used for used, _ in chosen.values()}:
                taken = [n for n in mask if fnmatchcase(n, pattern)]
                known = f"Put it before {chosen[taken[0]][0]!r}." if taken else suggest(pattern, mask)
                raise UsageError(f"per-layer: no tensor goes by the pattern {pattern!r} (the first that fits). {known}")
        return proportional({n: chosen[n][1] * size for n, size in sizes(mask).items()}, mask.kept, keep)
