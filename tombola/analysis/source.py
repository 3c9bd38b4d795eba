"""What an analysis reads: a results document, and the stored experiment behind it where there is one."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tombola.answers import Trained
from tombola.statistics import Interval, interval
from tombola.store import Store

__all__ = ["Absent", "Source", "interval_of", "nearest_levels"]


class Absent(Exception):
    """The data of an analysis are not there; its text says why, as the end of a sentence."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """An experiment to be analysed.

    Args:
        document: its results (schema 1).
        digest: of the experiment.
        content: what the store notes about it (recipe, rows, provenance); None: only the document is known.
        store: where its answers, states and masks are.
    """

    document: Mapping[str, Any]
    digest: str = ""
    content: Mapping[str, Any] | None = None
    store: Store | None = None

    @property
    def known(self) -> Mapping[str, Any]:
        """What the store notes about the experiment. Raises `Absent` where only the document is known."""
        if self.content is None:
            raise Absent("only the results document is at hand, not the store it came from")
        return self.content

    @property
    def place(self) -> Store:
        """The store. Raises `Absent` where only the document is known."""
        if self.store is None:
            raise Absent("only the results document is at hand, not the store it came from")
        return self.store

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The recipe's fields, as its TOML text gives them."""
        return tomllib.loads(self.known["settings"])

    @cached_property
    def _answers(self) -> tuple[tuple[Mapping[str, Any], Trained], ...]:
        store, found = self.place, []
        for row in self.known["rows"]:
            if row["arm"] != "cut":
                answer = store.get(row["request"])
                if isinstance(answer, Trained):
                    found.append((row, answer))
        return tuple(found)

    def trained(self, arm: str | None = None) -> Iterator[tuple[Mapping[str, Any], Trained]]:
        """(row of the experiment, stored answer) of every fit, or of those of one arm. Raises `Absent`."""
        return ((row, answer) for row, answer in self._answers if arm in (None, row["arm"]))

    @cached_property
    def densities(self) -> dict[int, float]:
        """Level -> mean density of the ticket there, from the densest on."""
        found: dict[int, list[float]] = {}
        for row in self.document["arms"].get("ticket", ()):
            found.setdefault(row["level"], []).append(row["density"])
        return {level: math.fsum(values) / len(values) for level, values in sorted(found.items())}


def nearest_levels(densities: Mapping[int, float], wanted: Iterable[float]) -> tuple[int, ...]:
    """The pruned levels whose densities lie nearest, on a log scale, to those wanted; each once, the densest first.

    >>> nearest_levels({0: 1.0, 1: 0.8, 2: 0.5, 3: 0.2}, (0.5, 0.1, 0.05))
    (2, 3)
    """
    pruned = {level: density for level, density in densities.items() if level > 0 and density > 0}
    chosen = {min(pruned, key=lambda level: abs(math.log(pruned[level] / aim))) for aim in wanted} if pruned else set()
    return tuple(sorted(chosen))


def interval_of(values: Iterable[float | None]) -> Interval | None:
    """The interval of the finite ones among `values`; None where there is none."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return interval(finite) if finite else None
