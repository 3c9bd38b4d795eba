"""Watchers: who is told how a run goes on."""

from __future__ import annotations

from tombola.answers import Answer
from tombola.executors.base import Job
from tombola.requests import Place
from tombola.runner import Failure

__all__ = ["Silent"]


class Silent:
    """A watcher that says nothing."""

    def planned(self, place: Place, job: Job, stored: bool) -> None:
        """Nothing."""

    def started(self, job: Job) -> None:
        """Nothing."""

    def progress(self, request: str, step: int) -> None:
        """Nothing."""

    def answered(self, place: Place, answer: Answer) -> None:
        """Nothing."""

    def failed(self, failure: Failure) -> None:
        """Nothing."""

    def ended(self, failure: Failure) -> None:
        """Nothing."""
