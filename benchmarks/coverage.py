"""Does the verdict keep its promises? Simulated experiments, judged by the tests that judge real ones.

    python benchmarks/coverage.py           20,000 experiments a row (a minute)
    python benchmarks/coverage.py --quick    2,000 experiments a row

False winners among exchangeable arms, the size of the non-inferiority test where differences are skewed (measured, for
the documentation: t is only exact for normal ones), coverage of t and BCa intervals, and power. The vectorised tests
are first checked against `tombola.analysis.verdict.verdict` on whole results documents. The exit code is 1 where a
target is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
from scipy.special import stdtr, stdtrit

from benchmarks.common import row
from tombola.analysis.verdict import verdict
from tombola.statistics import required_equivalence, required_replicates
from tombola.statistics.bootstrap import BCA_COVERAGE, bca_ends

Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

SHAPES: dict[str, Draw] = {
    "normal": lambda g, shape: g.standard_normal(shape),
    "exponential": lambda g, shape: g.exponential(size=shape) - 1,
    "lognormal": lambda g, shape: (g.lognormal(0, 1, shape) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e),
    "t3": lambda g, shape: g.standard_t(3, shape) / np.sqrt(3),
}
"""Values of mean 0 and SD 1."""

MARGIN = 1.0  # in SD of one arm: wide enough that the controls decide, which is the worst case for false winners
TOST = {0.5: 88, 0.75: 40, 1.0: 23, 1.5: 11, 2.0: 7}
SUPERIORITY = {0.5: 64, 1.0: 17, 1.5: 9, 2.0: 6}


def p_above(values: Array, bound: float = 0.0) -> Array:
    """p of "mean > bound" for each row of values (..., n)."""
    n = values.shape[-1]
    error = values.std(axis=-1, ddof=1) / np.sqrt(n)
    return np.asarray(stdtr(n - 1, -(values.mean(axis=-1) - bound) / error))


def winning_p(ticket: Array, dense: Array, reinit: Array, shuffled: Array) -> Array:
    """p = max(p_N, p_R, p_S) for arms of shape (..., n)."""
    tests = p_above(ticket - dense, -MARGIN), p_above(ticket - reinit), p_above(ticket - shuffled)
    return np.asarray(np.maximum.reduce(tests))


def arms(g: np.random.Generator, draw: Draw, shape: tuple[int, ...], levels: int = 1) -> Iterator[Array]:
    """Ticket, dense, reinit and shuffled of every level, exchangeable given what the replicate has in common."""
    common = draw(g, (shape[0], 1, shape[1]))
    for arm in range(4):
        yield common + draw(g, (shape[0], 1 if arm == 1 else levels, shape[1]))


def agreement(g: np.random.Generator, experiments: int) -> float:
    """The largest difference between the vectorised p and that of the product on results documents."""
    worst = 0.0
    for _ in range(experiments):
        values = [0.9 + 0.01 * arm[0, 0] for arm in arms(g, SHAPES["normal"], (1, 6))]
        rows = {
            name: [
                {"replicate": r, "draw": 0, "level": level, "density": 0.5, "test_accuracy": float(x)}
                | {"early_stop_step": 5}
                for r, x in enumerate(found)
            ]
            for name, level, found in zip(("ticket", "dense", "reinit", "shuffled"), (1, 0, 1, 1), values, strict=True)
        }
        rows["ticket"] += rows.pop("dense")
        found = verdict({"schema": 1, "arms": rows}, margin=0.01, endpoint="end")["levels"][0]["p"]
        ours = winning_p(*[(x - 0.9) / 0.01 for x in values])
        worst = max(worst, abs(float(ours) - found))
    return worst


def false_winners(g: np.random.Generator, experiments: int) -> list[bool]:
    """How often a level of exchangeable arms is called winning, and any of ten levels after Holm."""
    met = []
    for name, draw in SHAPES.items():
        for n in (5, 10):
            ticket, dense, reinit, shuffled = arms(g, draw, (experiments, n))
            one = (winning_p(ticket, dense, reinit, shuffled) <= 0.05).mean()
            met.append(row(f"false winning, {name}, n = {n}", 100 * one, 6, " %"))
            # The worst case: all but one of the three tests pass for certain.
            hard = (winning_p(ticket, dense - 100, reinit, shuffled - 100) <= 0.05).mean()
            met.append(row("  the same, only reinit exchangeable", 100 * hard, 6, " %"))
            levels = winning_p(*arms(g, draw, (experiments, n), levels=10)).min(axis=1)
            met.append(row("  any of 10 levels, after Holm", 100 * (10 * levels <= 0.05).mean(), 6, " %"))
    return met


def skewed_size(g: np.random.Generator, experiments: int) -> None:
    """How often N is accepted where the true mean difference is exactly -margin."""
    for name, sign in (("normal", 0), ("exponential", -1), ("lognormal", -1), ("exponential", 1), ("lognormal", 1)):
        for n in (5, 10):
            d = (sign or 1) * SHAPES[name](g, (experiments, n)) - MARGIN
            tail = {-1: "long tail of losses, ", 0: "", 1: "long tail of gains, "}[sign]
            row(f"size at the margin, {name}, {tail}n = {n}", 100 * (p_above(d, -MARGIN) <= 0.05).mean(), unit=" %")


def t_coverage(g: np.random.Generator, experiments: int) -> list[bool]:
    """How often the 95 % paired t interval holds the true mean."""
    met = []
    for name, draw in SHAPES.items():
        for n in (5, 10):
            values = draw(g, (experiments, n))
            half = stdtrit(n - 1, 0.975) * values.std(axis=1, ddof=1) / np.sqrt(n)
            found = 100 * float((np.abs(values.mean(axis=1)) <= half).mean())
            targets = (93.0, 97.0) if (name, n) == ("normal", 10) else (None, None)
            met.append(row(f"t interval covers, {name}, n = {n}", found, targets[0], " %", least=True))
            if targets[1] is not None:
                met.append(row("  the same, not more than", found, targets[1], " %"))
    return met


def bca_table(g: np.random.Generator, experiments: int) -> list[bool]:
    """How often the 95 % BCa interval holds the mean, and how far the printed table is from it."""
    met = []
    for n, printed in BCA_COVERAGE.items():
        found = {}
        for name in ("normal", "exponential"):
            held = 0
            for _ in range(max(1, experiments // 1_000)):
                values = SHAPES[name](g, (1_000, n))
                low, high = bca_ends(values, values @ g.multinomial(n, [1 / n] * n, size=1_000).T / n)
                held += int(((low <= 0) & (high >= 0)).sum())
            found[name] = 100 * held / (1_000 * max(1, experiments // 1_000))
        row(f"BCa interval covers, exponential, n = {n}", found["exponential"], unit=" %")
        row(f"BCa interval covers, normal, n = {n}", found["normal"], unit=" %")
        slack = 1.5 if experiments >= 20_000 else 4.0
        met.append(
            row(f"  the table says {100 * printed:.0f} %: away by", abs(found["normal"] - 100 * printed), slack, " %")
        )
    return met


def simulated_power(g: np.random.Generator, n: int, experiments: int, margin: float, effect: float) -> float:
    """Share of two-arm experiments found within the margin by TOST, or different by the two-sided test (margin 0)."""
    a, b = g.standard_normal((2, experiments, n))
    error = np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / n)
    away = a.mean(axis=1) - b.mean(axis=1) + effect
    t = stdtrit(2 * n - 2, 0.95 if margin else 0.975)
    within = np.minimum(away + margin, margin - away) / error
    return float((within > t).mean() if margin else (np.abs(away) / error > t).mean())


def power(g: np.random.Generator, experiments: int) -> list[bool]:
    """The replicates that the functions ask for, beside the known ones and the power they reach."""
    met = []
    for margin, expected in TOST.items():
        n = required_equivalence(margin, power=0.9, arms=2) or 0
        met.append(
            row(f"TOST, 90 %, margin {margin} SD: n per arm {n}, known {expected}, off by", abs(n - expected), 0)
        )
        row("  simulated power", 100 * simulated_power(g, n, experiments, margin, 0.0), unit=" %")
    for effect, expected in SUPERIORITY.items():
        n = required_replicates(effect, power=0.8, alpha=0.025, arms=2) or 0
        met.append(
            row(f"superiority, 80 %, {effect} SD: n per arm {n}, known {expected}, off by", abs(n - expected), 0)
        )
        row("  simulated power", 100 * simulated_power(g, n, experiments, 0.0, effect), unit=" %")
    for effect in (0.5, 1.0, 1.5, 2.0):
        n = required_replicates(effect) or 0
        d = g.standard_normal((experiments, n)) + effect
        reached = 100 * float((p_above(d) <= 0.05).mean())
        met.append(row(f"paired, 80 %, {effect} SD of differences: n = {n}, power", reached, 78.0, " %", least=True))
    return met


def main() -> int:
    """Runs everything; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 experiments a row in place of 20,000")
    experiments = 2_000 if parser.parse_args().quick else 20_000
    g = np.random.default_rng(1)
    met = [row("vectorised p against the product's, at most", agreement(g, 100), 1e-9)]
    met += false_winners(g, experiments)
    skewed_size(g, experiments)
    met += t_coverage(g, experiments)
    met += bca_table(g, experiments)
    met += power(g, experiments)
    print("all ok" if all(met) else f"{met.count(False)} MISSED")
    return int(not all(met))


if __name__ == "__main__":
    sys.exit(main())
