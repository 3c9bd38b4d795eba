"""Gene networks simulated in a second on one core: by the compiled kernel, by torch, by SciPy's adaptive solver.

    python benchmarks/motifs.py

The three give Motif 9 the same reward, which is checked first. Times are processor time.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in {None, ""}:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from benchmarks.common import interleaved, machine, medians, one_thread, row
from tombola.compiled import absent, compiled
from tombola.motifs import MOTIFS, Dynamics, GeneNetwork, plain, read
from tombola.motifs.simulation import Engine, readings, stacked

TARGET = 400
"""Seven-gene networks a second, simulated and read, by the compiled kernel for AVX2 or AVX-512."""

COUNTS = {Engine.COMPILED: 256, Engine.TORCH: 64}


def by_scipy(network: GeneNetwork, dynamics: Dynamics) -> torch.Tensor:
    """Traces of gene 1, 1 x samples x cells, by RK45 at a relative tolerance of 1e-8."""
    weights, morphogen = (np.array(part) / dynamics.scale for part in (network.weights, network.morphogen))
    shape, cells = (network.genes, dynamics.cells), np.arange(dynamics.cells)

    def slope(time: float, flat: NDArray[np.float64]) -> NDArray[np.float64]:
        x = flat.reshape(shape)
        wave = np.minimum(1.0, np.exp(dynamics.wave_cell * cells - dynamics.wave_time * time))
        z = weights @ x + morphogen[:, None] * wave
        return np.asarray(1 / (1 + np.exp(dynamics.offset - z)) - dynamics.decay * x).ravel()

    times = np.linspace(0, dynamics.duration, dynamics.intervals + 1)
    start = np.full(shape, dynamics.initial).ravel()
    found = solve_ivp(slope, (0, dynamics.duration), start, t_eval=times, rtol=1e-8, atol=1e-8)
    return torch.from_numpy(found.y[: dynamics.cells].T[None].copy())


def main() -> int:
    """Checks, measures, prints the table; returns the exit code."""
    one_thread()
    print(machine())
    kernels = compiled()
    print(f"compiled kernels: {kernels.name if kernels else absent()}")
    engines = [engine for engine in COUNTS if engine is Engine.TORCH or kernels]
    nine = MOTIFS["9"]
    rewards = {
        engine.value: plain(readings(*stacked([nine.network]), nine.dynamics, engine=engine)) for engine in engines
    }
    rewards["SciPy"] = plain(read(by_scipy(nine.network, nine.dynamics)))
    for name, found in rewards.items():
        row(f"reward of Motif 9, {name}", found.item())
    best = kernels is not None and kernels.name != "generic"
    good = max(map(float, rewards.values())) - min(map(float, rewards.values())) < 1e-6
    for name in ("9", "22", "2b"):
        motif = MOTIFS[name]
        functions = {
            engine: partial(readings, *stacked([motif.network] * COUNTS[engine]), motif.dynamics, engine=engine)
            for engine in engines
        }
        times = medians(interleaved({engine.value: function for engine, function in functions.items()}, rounds=5))
        for engine in engines:
            target = TARGET if name == "9" and engine is Engine.COMPILED and best else None
            rate = COUNTS[engine] / times[engine.value]
            good &= row(f"{motif.network.genes} genes, {engine.value}", rate, target, unit=" /s", least=True)
    seconds = medians(interleaved({"SciPy": partial(by_scipy, nine.network, nine.dynamics)}, rounds=3))["SciPy"]
    row("7 genes, SciPy RK45 at 1e-8", 1 / seconds, unit=" /s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
