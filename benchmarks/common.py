"""What the benchmark scripts share: interleaved timing in processor time, the machine's description, a table row."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

__all__ = [
    "clocked",
    "interleaved",
    "machine",
    "medians",
    "one_thread",
    "peak_memory",
    "ratios",
    "reset_peak_memory",
    "row",
]


def one_thread() -> None:
    """Sets torch to one thread, so that processor time is the time of the work itself.

    >>> one_thread()
    """
    torch.set_num_threads(1)


def interleaved(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each function in each round; every round runs all of them, in turn forwards and backwards.

    One untimed round comes first.

    Args:
        functions: name -> what to time.
        rounds: how many timed rounds, at least 1.

    Returns:
        name -> one time for each round.

    >>> sorted(interleaved({"a": lambda: 1, "b": lambda: 2}, rounds=3))
    ['a', 'b']
    """

    def clock(function: Callable[[], object]) -> float:
        start = time.process_time()
        function()
        return time.process_time() - start

    return clocked({name: partial(clock, function) for name, function in functions.items()}, rounds)


def clocked(clocks: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """As `interleaved`, for functions that do more than what counts and return the seconds of what does.

    >>> clocked({"a": lambda: 1.0}, rounds=2)
    {'a': [1.0, 1.0]}
    """
    times: dict[str, list[float]] = {name: [] for name in clocks}
    order = list(clocks.items())
    for _, clock in order:
        clock()
    for _ in range(rounds):
        for name, clock in order:
            times[name].append(clock())
        order.reverse()
    return times


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median time of each function.

    >>> medians({"a": [1.0, 3.0, 2.0]})
    {'a': 2.0}
    """
    return {name: statistics.median(values) for name, values in times.items()}


def ratios(times: Mapping[str, Sequence[float]], name: str, base: str) -> list[float]:
    """How many times the base each round of one function took, round by round.

    >>> ratios({"a": [4.0, 9.0], "sum": [2.0, 3.0]}, "a", "sum")
    [2.0, 3.0]
    """
    return [time / unit for time, unit in zip(times[name], times[base], strict=True)]


def machine() -> str:
    """One line: processor model, cores, torch version, torch threads.

    >>> "torch" in machine()
    True
    """
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model, cores = (models[0], len(models)) if models else (platform.processor() or platform.machine(), 1)
    return f"{model}, {cores} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"


def reset_peak_memory() -> None:
    """Starts the measurement of this process' peak memory anew (Linux).

    >>> reset_peak_memory()
    """
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The largest resident memory of this process since the last reset, in bytes (Linux).

    >>> peak_memory() > 0
    True
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def row(name: str, value: float, target: float | None = None, unit: str = "", *, least: bool = False) -> bool:
    """Prints one line: what was measured, its value, the largest allowed value, and "ok" or "MISSED".

    Args:
        name: what was measured.
        value: what came out.
        target: the largest value that is good enough; None for a number without a target.
        unit: printed behind both numbers.
        least: the target is the smallest value that is good enough.

    Returns:
        True where the target is met or there is none.

    >>> row("ratio", 2.0, 4.0, " x")
    ratio                                           2.000 x  target     4.000 x  ok
    True
    """
    met = target is None or (value >= target if least else value <= target)
    goal = "" if target is None else f"  target {target:9.3f}{unit}  {'ok' if met else 'MISSED'}"
    print(f"{name:<42} {value:10.3f}{unit}{goal}")
    return met
