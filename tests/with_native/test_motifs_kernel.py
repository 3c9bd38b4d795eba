"""The compiled simulator of gene networks against torch: the same traces to rounding, the same rewards."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from test_motifs_simulation import random_networks

from tombola.compiled import VARIANTS, Compiled, load, runs
from tombola.motifs import MOTIFS, Dynamics, GeneNetwork, Readings, plain, read, strict
from tombola.motifs.kernel import run, usable
from tombola.motifs.simulation import Engine, _wave, integrate, simulate, stacked

HERE = [load(variant) for variant in VARIANTS if runs(variant)]
SHORT = Dynamics(cells=11, duration=20.0, intervals=40)


@pytest.fixture(params=HERE, ids=lambda compiled: compiled.name)
def library(request: pytest.FixtureRequest) -> Compiled:
    """Each variant that this processor runs."""
    found: Compiled = request.param
    return found


def by_kernel(
    library: Compiled, networks: list[GeneNetwork], dynamics: Dynamics, genes: tuple[int, ...] | None = None
) -> torch.Tensor:
    weights, morphogen = stacked(networks, torch.float64 if library.name == "float64" else torch.float32)
    show = tuple(range(networks[0].genes)) if genes is None else genes
    return run(library, weights / dynamics.scale, morphogen / dynamics.scale, _wave(dynamics), dynamics, show)


def test_in_double_precision_the_kernel_is_the_reference() -> None:
    for genes in (1, 2, 5, 9):
        networks = random_networks(4, genes)
        expected = simulate(networks, SHORT, dtype=torch.float64)
        assert torch.allclose(by_kernel(load("float64"), networks, SHORT), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("cells", [2, 4, 15, 16, 17, 31, 33, 64, 100])
def test_any_number_of_cells(cells: int, library: Compiled) -> None:
    moves, networks = replace(SHORT, cells=cells, decay=0.8, offset=4.0, initial=0.3), random_networks(3, 3)
    expected = simulate(networks, moves, dtype=torch.float64)
    assert torch.allclose(by_kernel(library, networks, moves).double(), expected, atol=1e-4, rtol=0)


def test_as_many_genes_as_there_may_be(library: Compiled) -> None:
    networks = random_networks(2, 64, zeros=0.9)
    expected = simulate(networks, SHORT, dtype=torch.float64, genes=(63, 5))
    assert torch.allclose(by_kernel(library, networks, SHORT, (63, 5)).double(), expected, atol=1e-3, rtol=0)


def test_genes_without_a_path_to_a_wanted_one_change_no_bit(library: Compiled) -> None:
    networks = random_networks(6, 5, zeros=0.6)
    whole = by_kernel(library, networks, SHORT)
    for genes in ((0,), (4, 2)):
        assert torch.equal(by_kernel(library, networks, SHORT, genes), whole[:, list(genes)])


def test_saturated_genes_stay_within_bounds(library: Compiled) -> None:
    network = GeneNetwork(weights=((100,) * 20,) * 20, morphogen=(-100,) * 20)
    for moves in (SHORT, replace(SHORT, scale=0.01), replace(SHORT, scale=0.01, offset=-1e5)):
        found = by_kernel(library, [network], moves)
        assert bool(found.isfinite().all()) and float(found.min()) >= 0 and float(found.max()) <= 1 + 1e-6


@cache
def by_torch(name: str) -> Readings:
    motif = MOTIFS[name]
    return read(simulate([motif.network], motif.dynamics, genes=(0,), engine=Engine.TORCH)[:, 0])


def test_the_motifs_are_worth_the_same(library: Compiled) -> None:
    for name, motif in MOTIFS.items():
        mine, reference = read(by_kernel(library, [motif.network], motif.dynamics, (0,))[:, 0]), by_torch(name)
        assert plain(mine).item() == plain(reference).item()
        assert strict(mine).item() == strict(reference).item()
        assert mine.regularity.item() == pytest.approx(reference.regularity.item(), abs=1e-12, nan_ok=True)


def test_it_is_chosen_where_it_can_be() -> None:
    networks = random_networks(2, 3)
    assert usable(HERE[0])
    auto, forced = (simulate(networks, SHORT, engine=engine) for engine in (Engine.AUTO, Engine.COMPILED))
    assert torch.equal(auto, forced)
    weights, morphogen = stacked(networks)
    strided = weights.transpose(1, 2).contiguous().transpose(1, 2)  # not contiguous, and part of a graph
    assert torch.equal(integrate(strided.requires_grad_(), morphogen, SHORT), auto)
