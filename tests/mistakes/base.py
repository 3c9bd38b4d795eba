"""What a known mistake is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Mutant"]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A mistake: in `file`, `good` becomes `bad`; `tests` (pytest arguments) must notice."""

    name: str
    file: str
    good: str
    bad: str
    tests: str
