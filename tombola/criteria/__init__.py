"""Criteria: scores of weights, larger = keep. A criterion is a function or a frozen dataclass with `__call__`.

Importing this package costs nothing: names are listed without torch, and each criterion is loaded when it is chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.criteria.registry import CRITERIA
from tombola.errors import UsageError
from tombola.lazy import lazily
from tombola.registry import chosen

if TYPE_CHECKING:
    from tombola.criteria.base import Adjusting, Batch, Criterion, Loss, Needs, Probe, Scores, needs, needs_of

__all__ = [
    "CRITERIA",
    "Adjusting",
    "Batch",
    "Criterion",
    "Loss",
    "Needs",
    "Probe",
    "Scores",
    "criterion_of",
    "needs",
    "needs_of",
]

_BASE = ("Adjusting", "Batch", "Criterion", "Loss", "Needs", "Probe", "Scores", "needs", "needs_of")

__getattr__ = lazily(__name__, dict.fromkeys(_BASE, "tombola.criteria.base"))


def criterion_of(choice: str | Criterion) -> Criterion:
    """The criterion that a choice names (`NAME[:option=value,...]`), or the one that it is.

    Raises:
        UsageError: an unknown name or option, or something that cannot be called.

    >>> criterion_of("large_final").__name__
    'magnitude'
    """
    if not (isinstance(choice, str) or callable(choice)):
        raise UsageError(f"The criterion is {choice!r}; expected a name, or (model, mask, probe) -> scores.")
    found: Criterion = chosen(choice, CRITERIA, "criterion") if isinstance(choice, str) else choice
    return found
