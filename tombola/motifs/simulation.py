"""From gene networks to traces and rewards: by the compiled kernel, or by torch where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

import torch
from torch import Tensor

from tombola.compiled import Compiled, compiled
from tombola.errors import UsageError
from tombola.motifs import kernel
from tombola.motifs.dynamics import Dynamics
from tombola.motifs.network import MAX_GENES, GeneNetwork
from tombola.motifs.reward import Readings, Reward, Scoring, plain, read

__all__ = ["BATCH", "Engine", "integrate", "listening", "readings", "rewards", "simulate", "stacked", "step_error"]

BATCH = 64
"""Networks that are simulated at a time: their traces stay in the cache."""


class Engine(Enum):
    """Who computes: the compiled kernel where it is there, else torch; or one of the two."""

    AUTO = "auto"
    COMPILED = "compiled"
    TORCH = "torch"


def stacked(networks: Sequence[GeneNetwork], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Weights (networks x genes x genes) and morphogen (networks x genes) of networks with the same number of genes.

    Raises:
        UsageError: no network, or networks of different sizes.
    """
    sizes = sorted({network.genes for network in networks})
    if len(sizes) != 1:
        got = f"networks of {', '.join(map(str, sizes))} genes" if sizes else "no network"
        raise UsageError(f"simulate got {got}; expected one or more of the same size.")
    return (
        torch.tensor([network.weights for network in networks], dtype=dtype),
        torch.tensor([network.morphogen for network in networks], dtype=dtype),
    )


def simulate(
    networks: Sequence[GeneNetwork],
    dynamics: Dynamics | None = None,
    *,
    genes: Sequence[int] | None = None,
    engine: Engine = Engine.AUTO,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The values of genes in every cell at every sample.

    dx_i/dt = s((sum_j W_ij x_j + d_i g) / scale) - decay x_i, see `Dynamics`; Runge-Kutta of order 4.

    Args:
        networks: n networks of the same number of genes.
        dynamics: None: `Dynamics()`.
        genes: which are wanted, counted from 0; None: all. Those without a path to one of them cost nothing.
        engine: the kernel computes in float32 alone; both give the same to rounding.
        dtype: float32, or float64 by torch.

    Returns:
        n x genes x (intervals + 1) x cells.

    Raises:
        UsageError: no network, different sizes, an unknown gene, or an engine that is not there.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> simulate([MOTIFS["2b"].network]).shape
    torch.Size([1, 2, 200, 100])

    Source: the dynamics of Francois, Hakim and Siggia (2007, Mol Syst Biol 3:154) as in Huang (2025), who solves them
    by SciPy's adaptive RK45 with a tolerance of 1e-3.
    """
    weights, morphogen = stacked(networks, dtype)
    given = dynamics or Dynamics()
    return integrate(weights, morphogen, given, genes=genes, engine=engine)


def integrate(
    weights: Tensor,
    morphogen: Tensor,
    dynamics: Dynamics,
    *,
    genes: Sequence[int] | None = None,
    engine: Engine = Engine.AUTO,
) -> Tensor:
    """`simulate` for stacked networks, as `stacked` gives them."""
    show = tuple(range(weights.shape[1]) if genes is None else genes)
    for gene in (*show, dynamics.output):
        if not 0 <= gene < weights.shape[1]:
            raise UsageError(f"gene {gene + 1} is asked for; the network has genes 1 to {weights.shape[1]}.")
    scaled = weights / dynamics.scale, morphogen / dynamics.scale
    library = _library(engine, weights)
    if library is not None:
        return kernel.run(library, *scaled, _wave(dynamics), dynamics, show)
    return _by_torch(*scaled, _wave(dynamics).to(weights.dtype), dynamics)[:, list(show)]


def _library(engine: Engine, weights: Tensor) -> Compiled | None:
    """The kernels that are to compute; None: torch."""
    fits = weights.dtype == torch.float32 and weights.device.type == "cpu" and weights.shape[1] <= MAX_GENES
    if engine is Engine.TORCH or (engine is Engine.AUTO and not fits):
        return None
    library = compiled()
    there = library is not None and kernel.usable(library)
    if engine is Engine.COMPILED and not (there and fits):
        why = f"computes in float32 on the CPU, for at most {MAX_GENES} genes" if there else "is not built here"
        raise UsageError(f"the compiled simulator {why}; leave the engine to auto.")
    return library if there else None


def _wave(dynamics: Dynamics) -> Tensor:
    """The morphogen at every half step (rows) in every cell, float64."""
    half_steps = torch.arange(2 * dynamics.intervals * dynamics.substeps + 1, dtype=torch.float64)
    cells = torch.arange(dynamics.cells, dtype=torch.float64)
    times = half_steps * (dynamics.step / 2)
    return torch.exp((dynamics.wave_cell * cells - dynamics.wave_time * times[:, None]).clamp_max(0.0))


def _by_torch(weights: Tensor, morphogen: Tensor, wave: Tensor, dynamics: Dynamics) -> Tensor:
    """The reference: all genes, in the dtype of the weights."""
    h = dynamics.step
    inputs = morphogen[:, :, None]

    def slope(x: Tensor, g: Tensor) -> Tensor:
        return torch.sigmoid(torch.baddbmm(inputs * g - dynamics.offset, weights, x)) - dynamics.decay * x

    networks, genes, _ = weights.shape
    x = weights.new_full((networks, genes, dynamics.cells), dynamics.initial)
    traces = weights.new_empty(networks, genes, dynamics.intervals + 1, dynamics.cells)
    traces[:, :, 0] = x
    for step in range(dynamics.intervals * dynamics.substeps):
        begin, middle, end = wave[2 * step : 2 * step + 3]
        one = slope(x, begin)
        two = slope(x + h / 2 * one, middle)
        three = slope(x + h / 2 * two, middle)
        four = slope(x + h * three, end)
        x = x + h / 6 * (one + 2 * two + 2 * three + four)
        if (step + 1) % dynamics.substeps == 0:
            traces[:, :, (step + 1) // dynamics.substeps] = x
    return traces


def listening(weights: Tensor, morphogen: Tensor, output: int) -> Tensor:
    """Whether a gene that reads the morphogen has a path to the output gene: n x genes x genes, n x genes -> n bools.

    Without one every cell does the same, so every reward is 0.

    >>> listening(torch.tensor([[[0.0, 5.0], [0.0, 0.0]]]), torch.tensor([[0.0, 9.0]]), 0).tolist()
    [True]
    """
    reach = torch.zeros(morphogen.shape, dtype=torch.bool)
    reach[:, output] = True
    for _ in range(morphogen.shape[1] - 1):
        reach = reach | ((weights != 0) & reach[:, :, None]).any(1)
    return (reach & (morphogen != 0)).any(1)


def readings(
    weights: Tensor,
    morphogen: Tensor,
    dynamics: Dynamics,
    *,
    scoring: Scoring | None = None,
    engine: Engine = Engine.AUTO,
) -> Readings:
    """What is read off the output gene of stacked networks, simulated in batches.

    Args:
        weights, morphogen, dynamics: as for `integrate`.
        scoring: None: `Scoring()`.
        engine: as for `simulate`.
    """
    parts = list[Readings]()
    for first in range(0, len(weights), BATCH):
        chosen = slice(first, first + BATCH)
        traces = integrate(weights[chosen], morphogen[chosen], dynamics, genes=(dynamics.output,), engine=engine)
        parts.append(read(traces[:, 0], scoring))
    return Readings(**{name: torch.cat([getattr(part, name) for part in parts]) for name in Readings.__slots__})


def rewards(
    networks: Sequence[GeneNetwork],
    dynamics: Dynamics | None = None,
    *,
    reward: Reward = plain,
    scoring: Scoring | None = None,
    engine: Engine = Engine.AUTO,
) -> Tensor:
    """The reward of each network.

    Args:
        networks, dynamics, engine: as for `simulate`.
        reward: `plain`, `strict`, `fitness`, or one of your own.
        scoring: None: `Scoring()`.

    Returns:
        n float64 numbers.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> round(rewards([MOTIFS["9"].network]).item(), 2)
    23.95
    """
    given = scoring or Scoring()
    found = readings(*stacked(networks), dynamics or Dynamics(), scoring=given, engine=engine)
    return reward(found, given)


def step_error(network: GeneNetwork, dynamics: Dynamics | None = None, *, engine: Engine = Engine.AUTO) -> float:
    """By how much the output gene's traces change at most where the solver's step is halved; infinite: they diverge.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> step_error(MOTIFS["22"].network) < 0.05 < step_error(MOTIFS["22"].network, Dynamics(substeps=1))
    True
    """
    given = dynamics or Dynamics()
    coarse, fine = (
        simulate([network], replace(given, substeps=given.substeps * factor), genes=(given.output,), engine=engine)
        for factor in (1, 2)
    )
    return float((coarse - fine).abs().nan_to_num(nan=torch.inf, posinf=torch.inf).max())
