"""What an executor is given and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tombola.answers import Answer
from tombola.requests import Request
from tombola.starts import Adjusted, At

__all__ = ["Busy", "Done", "Executor", "Failed", "Job", "Missing", "OnProgress", "Outcome"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A request to compute, under its digest.

    Args:
        engine: what the digest stands for; None: whichever the task takes.
        aside: no search waits for it.
    """

    digest: str
    request: Request
    engine: str | None = None
    aside: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """Computed, or found computed by somebody else; the answer is in the store."""

    digest: str
    answer: Answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Busy:
    """Another process computes it at this moment."""

    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """The state it starts from is not in the store; that fit or prune must make it again first."""

    digest: str
    needs: At | Adjusted


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """It could not be computed.

    Args:
        cause: one line for people.
        fatal: nothing else will work either (a full disk).
    """

    digest: str
    cause: str
    fatal: bool = False


Outcome = Done | Busy | Missing | Failed
OnProgress = Callable[[str, int], None]
"""(digest, absolute step) as a fit goes on."""


class Executor(Protocol):
    """Computes jobs, several at a time."""

    def free(self) -> int:
        """How many more jobs may be submitted now."""

    def submit(self, job: Job) -> None:
        """Begin a job."""

    def wait(self, seconds: float) -> list[Outcome]:
        """What has ended; waits for something at most so long."""

    def close(self) -> None:
        """Stop what is running, with a checkpoint, and free everything."""
