"""How far a search is, for those who wait for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]

_PATIENCE = 5.0  # seconds between lines where there is no terminal


@contextmanager
def progress(quiet: bool, unit: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, a line every few seconds elsewhere, on standard error."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        last = time.monotonic()

        def line(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _PATIENCE:
                last = time.monotonic()
                print(f"{done:,} of {total:,} {unit}", file=sys.stderr)

        yield line
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
