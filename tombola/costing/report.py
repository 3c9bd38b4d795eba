"""What `tombola.cost` gives back."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tombola.costing.saying import duration, percent, sentence

__all__ = ["Cost", "Timing"]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One form of the network, timed or not.

    Args:
        parameters: numbers it computes with; None: the form does not exist.
        seconds: the median wall time of one call; None: not timed.
        low, high: 5th and 95th percentile of it over the rounds.
        gain: dense time / its time, the median over the rounds, each of which ran both.
        gain_low, gain_high: 5th and 95th percentile of that.
        why: why it was not timed, or what one must know of it; empty: nothing.
    """

    parameters: int | None = None
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    why: str = ""

    @property
    def measurable(self) -> bool:
        """Whether its time differs from the dense one's in at least 95 % of the rounds on one side."""
        if self.gain_low is None or self.gain_high is None:
            return False
        return self.gain_low > 1 or self.gain_high < 1


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a masked network costs, as numbers; `str` of it is a table that ends with what one gains and what not.

    Args:
        model: name of its class.
        batch: examples in one call.
        threads: that torch and ONNX Runtime were given; the native runner uses one.
        rounds: timed rounds.
        machine: processor and torch version.
        parameters: numbers in the dense network.
        prunable: weights under the mask.
        kept: of them, those that exist.
        effective: of them, those on a path from an input to an output; None: the network cannot be followed.
        effective_note: why `effective` is None, or in which tensors it may count too many; empty: it is exact.
        multiply_adds: of one example in the dense network, in the layers that are counted.
        kept_multiply_adds: the same without pruned weights.
        uncounted: masked tensors in layers that are not counted.
        sizes: bytes: "dense", "dense_zlib", "packed", "packed_zlib".
        timings: "dense", "masked", "shrunk", "gathered" (shrunk with unread inputs left out), "native", "onnx".
    """

    model: str
    batch: int
    threads: int
    rounds: int
    machine: str
    parameters: int
    prunable: int
    kept: int
    effective: int | None
    effective_note: str
    multiply_adds: int
    kept_multiply_adds: int
    uncounted: tuple[str, ...]
    sizes: Mapping[str, int]
    timings: Mapping[str, Timing]

    @property
    def density(self) -> float:
        """kept / prunable."""
        return self.kept / self.prunable

    @property
    def effective_density(self) -> float | None:
        """effective / prunable."""
        return None if self.effective is None else self.effective / self.prunable

    @property
    def sentence(self) -> str:
        """What one gains, and what not."""
        return sentence(self)

    def document(self) -> dict[str, Any]:
        """All of it as what JSON can hold."""
        fields = asdict(self) | {"uncounted": list(self.uncounted)}
        added = {"density": self.density, "effective_density": self.effective_density, "sentence": self.sentence}
        return {"schema": 1, **fields, **added}

    def __str__(self) -> str:
        return "\n".join([*_facts(self), "", *_table(self), "", *textwrap.wrap(self.sentence, _WIDTH)])


_WIDTH = 100

NAMES = {
    "dense": "dense",
    "masked": "masked, dense arithmetic",
    "shrunk": "shrunk",
    "gathered": "shrunk, inputs gathered",
    "native": "native sparse",
    "onnx": "ONNX Runtime, masked",
}


def _facts(cost: Cost) -> list[str]:
    threads = f"{cost.threads} thread{'s' * (cost.threads != 1)}"
    reached = ""
    if cost.effective is not None:
        some = f"{cost.effective:,} ({percent(cost.effective / cost.prunable)})"
        reached = f"; {'all' if cost.effective == cost.kept else some} on a path from input to output"
    sizes = cost.sizes
    lines = [
        f"{cost.model}, batch {cost.batch}, {threads}, {cost.machine}",
        "",
        f"parameters     {cost.parameters:,}",
        f"weights        {cost.kept:,} of {cost.prunable:,} kept ({percent(cost.density)}){reached}",
    ]
    if cost.multiply_adds:
        share = percent(cost.kept_multiply_adds / cost.multiply_adds)
        kept = f"{cost.kept_multiply_adds:,} by weights that exist ({share})"
        lines.append(f"multiply-adds  {cost.multiply_adds:,} for one example, {kept}")
    lines.append(
        f"bytes          {sizes['dense']:,} dense ({sizes['dense_zlib']:,} with zlib), {sizes['packed']:,} packed "
        f"({sizes['packed_zlib']:,} with zlib)"
    )
    if cost.effective_note:
        lines.append(f"paths          {cost.effective_note}")
    if cost.uncounted:
        lines.append(f"               multiply-adds of {', '.join(cost.uncounted)} are not counted")
    return lines


def _table(cost: Cost) -> list[str]:
    heads = ("", "parameters", "one call", "5 to 95 % of rounds", "times as fast", "5 to 95 %")
    rows: list[tuple[str, ...]] = [heads]
    for key, timing in cost.timings.items():
        parameters = "-" if timing.parameters is None else f"{timing.parameters:,}"
        cells = ["-"] * 4
        if timing.seconds is not None and timing.low is not None and timing.high is not None:
            cells[:2] = [duration(timing.seconds), f"{duration(timing.low)} to {duration(timing.high)}"]
        if timing.gain is not None and key != "dense":
            cells[2:] = [f"{timing.gain:.2f}", f"{timing.gain_low:.2f} to {timing.gain_high:.2f}"]
        rows.append((NAMES[key], parameters, *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = row
        cells = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    notes = [f"{NAMES[key]}: {timing.why}." for key, timing in cost.timings.items() if timing.why]
    return [*lines, *([""] if notes else []), *notes]
