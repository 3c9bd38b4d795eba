"""Errors that name the place, what was got, what was expected, and the fix."""

from __future__ import annotations

import difflib
import functools
import warnings
from collections.abc import Iterable

__all__ = [
    "DataError",
    "FitFailed",
    "Hint",
    "StoreError",
    "TicketError",
    "TombolaError",
    "UsageError",
    "hint",
    "suggest",
]

_SHOWN = 20  # names in a message


class TombolaError(Exception):
    """The root of every error that Tombola raises on purpose; the command line prints its text and nothing else."""

    exit_code = 2


class UsageError(TombolaError, ValueError):
    """An argument, a name, a recipe or a model that cannot be used as it was given."""


class Emptied(UsageError):
    """So few weights would be left that a tensor has none, or less than its allocation must give it."""


class DataError(UsageError):
    """A data file or array that is missing, damaged or does not mean what it should."""


class TicketError(UsageError):
    """A ticket, or the file of one, that is damaged, is of another model, or cannot be kept as it is."""


class StoreError(TombolaError):
    """The store cannot be read or written: read-only, full, or in use as something else."""

    exit_code = 1


class FitFailed(TombolaError):
    """A request that a search was waiting for failed or diverged; thrown into the search, which may catch it."""

    exit_code = 1


class Hint(UserWarning):
    """Advice that changes no result, given once; `warnings.simplefilter("ignore", Hint)` silences it."""


@functools.cache
def hint(message: str) -> None:
    """Give a piece of advice, once in a process."""
    warnings.warn(message, Hint, stacklevel=2)


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the nearest known one, else all of them.

    >>> suggest("digits-lene", ["digits-lenet", "mnist-lenet"])
    "Did you mean 'digits-lenet'?"
    >>> suggest("x", ["digits", "mnist"])
    'Known: digits, mnist.'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return f"Known: {', '.join(names[:_SHOWN])}{more}."
