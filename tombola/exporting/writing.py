"""Files that are whole or not there at all."""

from __future__ import annotations

import os
from pathlib import Path

from tombola.errors import StoreError, UsageError
from tombola.store.files import replace

__all__ = ["require_place", "write"]


def require_place(path: str | os.PathLike[str]) -> Path:
    """The path, if a file may stand there; said before long work begins.

    Raises:
        UsageError: it is a directory, or its folder does not exist or may not be written.
    """
    place = Path(path)
    if place.exists() and not place.is_file():
        raise UsageError(f"{place} is no file and cannot become one; name a file.")
    if not place.parent.is_dir():
        raise UsageError(f"The folder of {place} does not exist; make it first.")
    if not os.access(place.resolve().parent, os.W_OK):
        raise UsageError(f"{place} cannot be written: its folder is read-only; name a file elsewhere.")
    return place


def write(path: Path, data: bytes) -> None:
    """Write a file; one of that name is replaced.

    Raises:
        StoreError: full disk, ...
    """
    try:
        replace(path.resolve(), data)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}; name a file elsewhere.") from error
