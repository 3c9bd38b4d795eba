"""What the store notes about an experiment while it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tombola.recipes import to_toml
from tombola.runner import Failure, Row
from tombola.store import Store

if TYPE_CHECKING:
    from tombola.experiment import Experiment

__all__ = ["Journal", "Known"]

_EVERY = 2.0  # seconds


class Known(Protocol):
    """What is known of a run, as a `Runner` knows it."""

    @property
    def rows(self) -> Sequence[Row]:
        """Answered requests."""

    @property
    def failures(self) -> Sequence[Failure]:
        """Requests that could not be computed."""

    @property
    def ended(self) -> Sequence[Failure]:
        """Replicates that stopped early."""


class Journal:
    """Writes what an experiment is made of, now and then and at the end.

    Args:
        made_with: versions and hardware.
        command: noted, to be run again.
    """

    def __init__(self, store: Store, experiment: Experiment, made_with: Mapping[str, Any], command: str) -> None:
        self._store, self._experiment = store, experiment
        before = store.noted(experiment.digest)
        self._head = {
            "recipe": experiment.recipe.name,
            "settings": to_toml(experiment.recipe),
            "task": experiment.task.fingerprint,
            "metric": experiment.task.metric.name,
            "larger_is_better": experiment.task.metric.larger_is_better,
            "prunable": experiment.plans[0].dense.kept,
            **experiment.task.notes(),
            "begun": before.get("begun", time.time()),
            "command": command or before.get("command", ""),
            "provenance": made_with,
        }
        self._before = before
        self._last = 0.0

    def tick(self, runner: Known) -> None:
        """Write now and then."""
        if time.monotonic() - self._last > _EVERY:
            self.write(runner, state="running")

    def write(self, runner: Known, *, state: str) -> dict[str, Any]:
        """Write all rows known, those of an earlier or a simultaneous run too: replay gives each the same request."""
        self._last = time.monotonic()
        there = self._store.noted(self._experiment.digest) or self._before
        rows = {_at(row): row for row in there.get("rows", ())}
        for row in runner.rows:
            place = {"level": row.place.level, "replicate": row.place.replicate}
            plain = {**place, "arm": row.place.arm.name, "draw": row.place.arm.draw, "request": row.request}
            rows[_at(plain)] = plain
        content = {
            **self._head,
            "state": there["state"] if state == "stopped" and there.get("state") == "finished" else state,
            "rows": [rows[place] for place in sorted(rows)],
            "failures": [_plain(f) for f in runner.failures],
            "ended": [_plain(f) for f in runner.ended],
        }
        self._store.put_experiment(self._experiment.digest, content)
        return content


def _at(row: Mapping[str, Any]) -> tuple[int, int, str, int]:
    return row["level"], row["replicate"], row["arm"], row["draw"]


def _plain(failure: Failure) -> dict[str, Any]:
    place = failure.place
    return {"replicate": place.replicate, "level": place.level, "arm": place.arm.name, "cause": failure.cause}
