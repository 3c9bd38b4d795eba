"""How trainings use a device: choices that are no part of what they are. Light: nothing here imports torch."""

from __future__ import annotations

import os
from typing import Literal, get_args

from tombola.errors import UsageError, suggest

__all__ = ["CAPTURES", "Capture", "StackWidth", "check_capture", "check_stack", "check_together", "processes"]

Capture = Literal["auto", "on", "off"]
"""Whether steps are recorded. auto: on a CUDA device; on: everywhere (a CPU has no graphs: the same buffers, step by
step); off: nowhere."""

CAPTURES: tuple[str, ...] = get_args(Capture)

StackWidth = int | Literal["auto"]
"""How many fits train as one; auto: as many as a GPU holds, and 1 elsewhere."""


def check_capture(name: str) -> None:
    """Refuse what is no choice.

    Raises:
        UsageError: with the nearest one.
    """
    if name not in CAPTURES:
        raise UsageError(f"capture is {name!r}; expected one of {', '.join(CAPTURES)}. {suggest(str(name), CAPTURES)}")


def check_together(**counts: int | None) -> None:
    """Refuse numbers of processes or threads that this machine could not carry: more than 8 for each of its cores.

    Raises:
        UsageError: names the number, and how many there may be.
    """
    most = 8 * (os.cpu_count() or 1)
    for name, value in counts.items():
        if value is not None and (type(value) is not int or not 1 <= value <= most):
            raise UsageError(f"{name} is {value!r}; expected a whole number from 1 to {most} on this machine.")


def processes(workers: int | None, device: str) -> int:
    """The workers asked for, else one for each core that this process may use, and one in all on another device."""
    if workers is not None:
        return workers
    return len(os.sched_getaffinity(0)) if device == "cpu" and hasattr(os, "sched_getaffinity") else 1


def check_stack(stack: object, *, engine: str, workers: int | None) -> None:
    """Refuse what is no width, or does not go with an engine asked for by name, or with several processes.

    Raises:
        UsageError: says what is one, or what to leave out.
    """
    if stack != "auto" and (not isinstance(stack, int) or isinstance(stack, bool) or stack < 1):
        raise UsageError(f"stack is {stack!r}; expected a whole number, 1 or more, or auto.")
    if isinstance(stack, int) and stack > 1:
        if engine != "auto":
            raise UsageError(f"stack is {stack}, and the {engine} engine trains one fit at a time; use engine auto.")
        if workers is not None and workers > 1:
            raise UsageError(f"stack is {stack} and workers is {workers}; a stack trains in one process: workers 1.")
