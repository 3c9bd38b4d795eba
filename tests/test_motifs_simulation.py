"""The simulator: properties in float64 first, then the numbers of the seven motifs, then SciPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from tombola.errors import UsageError
from tombola.motifs import MOTIFS, Dynamics, GeneNetwork, plain, read, rewards, scored, simulate, step_error, strict
from tombola.motifs.network import silence
from tombola.motifs.simulation import Engine, listening, stacked
from tombola.streams import stream

SHORT = Dynamics(cells=11, duration=20.0, intervals=40)


def random_networks(count: int, genes: int, *, zeros: float = 0.3, seed: int = 0) -> list[GeneNetwork]:
    noise = stream(seed, f"test/motifs/{genes}")
    weights = torch.randint(-100, 101, (count, genes, genes), generator=noise)
    weights *= torch.rand(count, genes, genes, generator=noise) >= zeros
    morphogen = torch.randint(-100, 101, (count, genes), generator=noise)
    return [GeneNetwork(weights=w, morphogen=d) for w, d in zip(weights.tolist(), morphogen.tolist(), strict=True)]


def exact(networks: Sequence[GeneNetwork], dynamics: Dynamics = SHORT) -> Tensor:
    """In float64, by torch."""
    return simulate(networks, dynamics, dtype=torch.float64)


def by_scipy(network: GeneNetwork, dynamics: Dynamics) -> Tensor:
    """samples x genes x cells, by an adaptive solver whose error is far below any threshold."""
    weights, morphogen = (np.array(part) / dynamics.scale for part in (network.weights, network.morphogen))
    cells, shape = np.arange(dynamics.cells), (network.genes, dynamics.cells)

    def slope(time: float, flat: np.ndarray) -> np.ndarray:
        x = flat.reshape(shape)
        g = np.minimum(1.0, np.exp(dynamics.wave_cell * cells - dynamics.wave_time * time))
        z = weights @ x + morphogen[:, None] * g
        return (1 / (1 + np.exp(dynamics.offset - z)) - dynamics.decay * x).ravel()

    times = np.linspace(0, dynamics.duration, dynamics.intervals + 1)
    start = np.full(shape, dynamics.initial).ravel()
    found = solve_ivp(slope, (0, dynamics.duration), start, t_eval=times, rtol=1e-8, atol=1e-10)
    return torch.from_numpy(found.y.T.reshape(-1, *shape).copy())


def test_without_input_a_gene_decays() -> None:
    moves = dataclasses.replace(SHORT, offset=800.0, decay=0.7)
    times = torch.linspace(0, 20, 41, dtype=torch.float64)
    errors = []
    for substeps in (1, 2, 4):
        found = exact(random_networks(3, 4), dataclasses.replace(moves, substeps=substeps))
        errors.append(float((found - 0.1 * torch.exp(-0.7 * times)[:, None]).abs().max()))
    assert errors[1] < 1e-6
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.2)  # a method of order 4
    assert errors[1] / errors[2] == pytest.approx(16, rel=0.2)


def test_a_constant_input_is_approached_exponentially() -> None:
    network = GeneNetwork(weights=((0,),), morphogen=(40,))
    moves = dataclasses.replace(SHORT, wave_time=0.0, substeps=4)  # g = 1 everywhere at all times
    level = 1 / (1 + np.exp(5 - 40 / 10))
    times = torch.linspace(0, 20, 41, dtype=torch.float64)
    expected = level + (0.1 - level) * torch.exp(-times)
    assert torch.allclose(exact([network], moves)[0, 0], expected[:, None].expand(-1, 11), atol=1e-7)


def test_a_batch_is_its_networks_one_by_one() -> None:
    networks = random_networks(5, 3)
    together = exact(networks)
    for network, found in zip(networks, together, strict=True):
        assert torch.allclose(exact([network])[0], found, atol=1e-12, rtol=0)
    assert float((together[1:] - together[0]).abs().max()) > 0.1


def test_the_names_of_genes_do_not_matter() -> None:
    (network,) = random_networks(1, 5, zeros=0.0)
    order = [0, 3, 1, 4, 2]
    renamed = GeneNetwork(
        weights=tuple(tuple(network.weights[i][j] for j in order) for i in order),
        morphogen=tuple(network.morphogen[i] for i in order),
    )
    assert torch.allclose(exact([renamed])[0], exact([network])[0, order], atol=1e-12, rtol=0)


def test_a_zero_edge_is_no_edge() -> None:
    (network,) = random_networks(1, 3, zeros=0.0)
    wider = GeneNetwork(
        weights=(*((*row, 0.0) for row in network.weights), (70, -20, 40, 90)), morphogen=(*network.morphogen, -60)
    )
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        narrow, wide = (simulate([one], SHORT, genes=range(3), dtype=dtype) for one in (network, wider))
        assert torch.allclose(narrow, wide, atol=tolerance, rtol=0)


def test_cells_do_not_act_on_each_other() -> None:
    networks = random_networks(2, 3)
    more = dataclasses.replace(SHORT, cells=40)
    assert torch.allclose(exact(networks, more)[..., :11], exact(networks), atol=1e-12, rtol=0)


def test_without_a_path_from_the_morphogen_all_cells_are_alike_and_the_reward_is_nothing() -> None:
    networks = [
        dataclasses.replace(one, morphogen=(0.0, *one.morphogen[1:])) for one in random_networks(60, 4, zeros=0.75)
    ]
    heard = listening(*stacked(networks), 0).tolist()
    assert heard == [silence(network, 0) is None for network in networks]
    assert 10 < sum(heard) < 50
    traces = exact(networks)[:, 0]
    spread = (traces.amax(-1) - traces.amin(-1)).amax(-1)
    assert all(float(wide) == 0 or there for wide, there in zip(spread, heard, strict=True))
    deaf = [network for network, there in zip(networks, heard, strict=True) if not there]
    assert not rewards(deaf).any() and not rewards(deaf, reward=strict).any()
    found = scored(deaf[0])
    assert found.plain == 0 and "gene 1 is the same in every cell" in str(found.silent)


def test_genes_in_the_order_asked() -> None:
    networks = random_networks(2, 4)
    whole = simulate(networks, SHORT)
    assert torch.equal(simulate(networks, SHORT, genes=(2, 0)), whole[:, [2, 0]])
    assert whole.shape == (2, 4, 41, 11)
    with pytest.raises(UsageError, match="gene 5 is asked for; the network has genes 1 to 4"):
        simulate(networks, SHORT, genes=(4,))
    with pytest.raises(UsageError, match="gene 6 is asked for"):
        simulate(networks, dataclasses.replace(SHORT, output=5))
    with pytest.raises(UsageError, match="no network"):
        simulate([])
    with pytest.raises(UsageError, match="networks of 3, 4 genes; expected one or more of the same size"):
        simulate([*networks, *random_networks(1, 3)])
    with pytest.raises(UsageError, match="compiled simulator"):
        simulate(networks, SHORT, engine=Engine.COMPILED, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "least", "least_strict"),
    [("22", 38, 35), ("1", 42, 38), ("2", 16, 17), ("2b", 16, 14.8), ("8", 26, 24), ("4", 4, 0)],
)
def test_the_motifs_make_their_patterns(name: str, least: float, least_strict: float) -> None:
    motif = MOTIFS[name]
    found = scored(motif.network, motif.dynamics)
    assert found.plain >= least and found.strict >= least_strict
    assert found.coarse is None and found.silent is None
    if name != "4":
        assert found.contrast > 0.5 and found.regularity is not None and found.regularity < 0.15


def test_motif_9_is_worth_as_much_by_every_engine_and_by_scipy() -> None:
    motif = MOTIFS["9"]
    traces = {
        "auto": simulate([motif.network], genes=(0,)),
        "torch": simulate([motif.network], genes=(0,), engine=Engine.TORCH),
        "float64": simulate([motif.network], genes=(0,), dtype=torch.float64),
        "scipy": by_scipy(motif.network, motif.dynamics)[None, None, :, 0],
    }
    for name, trace in traces.items():
        found = read(trace[:, 0])
        assert plain(found).item() == pytest.approx(23.945039, abs=1e-5), name
        assert strict(found).item() == pytest.approx(20.113833, abs=1e-5), name
        assert found.boundaries.tolist() == [[7, 9, 9]]


def test_fine_steps_approach_scipy() -> None:
    motif = MOTIFS["22"]
    truth = by_scipy(motif.network, motif.dynamics).transpose(0, 1)
    errors = [
        float((exact([motif.network], dataclasses.replace(motif.dynamics, substeps=substeps))[0] - truth).abs().max())
        for substeps in (4, 8)
    ]
    assert errors[1] < 5e-4 and errors[0] / errors[1] > 8


def test_a_coarse_solver_is_said() -> None:
    motif = MOTIFS["22"]
    assert step_error(motif.network) < 0.05 < step_error(motif.network, Dynamics(substeps=1))
    coarse = scored(motif.network, Dynamics(substeps=1))
    assert "the solver is too coarse: traces change by 0.98 where its step of 0.452 is halved" in str(coarse.coarse)
    assert "take 2 substeps or more" in str(coarse.coarse)
    wild = scored(motif.network, Dynamics(intervals=9, substeps=1, duration=900.0))
    assert "not finite" in str(wild.coarse) and wild.step_error is None and wild.plain == 0
