"""Readings and rewards, against loops that follow the definitions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tombola.errors import UsageError
from tombola.motifs import Readings, Scoring, fitness, plain, read, strict
from tombola.motifs.reward import checked_samples, jumps
from tombola.streams import stream


def naive_jumps(profile: list[float], boundary: float, spacing: int) -> list[int]:
    found: list[int] = []
    for place, (one, other) in enumerate(itertools.pairwise(profile)):
        if abs(other - one) > boundary and (not found or place - found[-1] >= spacing):
            found.append(place)
    return found


def readings(
    boundaries: tuple[int, int, int], stability: float, contrast: float = 1.0, variation: float = 0.0
) -> Readings:
    numbers = [torch.tensor([value], dtype=torch.float64) for value in (stability, contrast, variation, 0.0)]
    return Readings(
        boundaries=torch.tensor([boundaries]),
        stability=numbers[0],
        contrast=numbers[1],
        variation=numbers[2],
        regularity=numbers[3],
    )


def stripes(*widths: int) -> Tensor:
    """1 x 200 x cells: as many cells high as the first width, low as the second, ..., for all time."""
    cells = [1.0 - place % 2 for place, width in enumerate(widths) for _ in range(width)]
    return torch.tensor(cells, dtype=torch.float64).expand(1, 200, -1)


@pytest.mark.parametrize("spacing", [1, 2, 4, 7])
def test_boundaries_are_those_of_the_definition(spacing: int) -> None:
    profiles = torch.rand(200, 50, generator=stream(0, "test/jumps"), dtype=torch.float64)
    profiles[::2] = profiles[::2].round()
    found = jumps(profiles, Scoring(boundary=0.5, spacing=spacing))
    for profile, places in zip(profiles.tolist(), found.tolist(), strict=True):
        expected = naive_jumps(profile, 0.5, spacing)
        assert [place for place in places if place < 50] == expected
        assert places[: len(expected)] == expected


def test_a_step_of_exactly_the_threshold_is_no_boundary() -> None:
    profile = torch.tensor([0.0, 0.25, 0.0], dtype=torch.float64)
    assert jumps(profile, Scoring(boundary=0.25)).tolist() == []
    assert jumps(profile, Scoring(boundary=0.2499)).tolist() == [0]
    assert jumps(profile, Scoring(boundary=0.2499, spacing=1)).tolist() == [0, 1]


def test_boundaries_are_counted_at_three_times() -> None:
    assert checked_samples(200) == (100, 149, 199)
    traces = torch.zeros(1, 200, 20, dtype=torch.float64)
    for sample, width in ((100, 10), (149, 5), (199, 4), (120, 1), (198, 1)):
        traces[0, sample] = torch.tensor([float(cell // width % 2) for cell in range(20)])
    assert read(traces).boundaries.tolist() == [[1, 3, 4]]


def test_stability_is_the_share_of_still_cells_in_the_second_half() -> None:
    traces = torch.rand(3, 200, 30, generator=stream(0, "test/still"), dtype=torch.float64) * 0.04
    expected = (np.abs(np.diff(traces.numpy()[:, 100:], axis=1)) <= 0.02).mean((1, 2))
    assert read(traces).stability.tolist() == pytest.approx(expected.tolist(), abs=1e-15)
    early = torch.zeros(1, 200, 5)
    early[:, :101:2] = 1  # all of it before the second half, but for its first step
    assert read(early).stability.item() == pytest.approx(98 / 99)


def test_what_is_read_at_the_end() -> None:
    found = read(stripes(5, 10, 5, 10, 5) * 0.75)
    assert found.contrast.item() == 0.75
    assert found.variation.item() == pytest.approx(4 * 0.75)
    assert found.regularity.item() == 0  # stripe and gap are 15 cells, twice
    lengths = [15, 14, 14, 12]  # from each boundary of the next to the second one behind it
    uneven = read(stripes(6, 5, 10, 4, 10, 2, 3))
    assert uneven.boundaries.tolist() == [[5, 5, 5]]  # the one behind 2 cells is too near
    assert uneven.regularity.item() == pytest.approx(np.std(lengths[:3]) / np.mean(lengths[:3]))
    assert np.isnan(read(stripes(10, 10, 10)).regularity.item())


def test_the_plain_reward() -> None:
    assert plain(readings((7, 9, 9), 0.99)).item() == pytest.approx(25 * 0.99**5, abs=1e-13)
    assert plain(readings((0, 1, 1), 1.0)).item() == 0
    assert plain(readings((1, 1, 1), 1.0)).item() == 3
    assert plain(readings((7, 9, 9), 0.5), Scoring(power=2, least=24)).item() == 25 / 4
    assert plain(readings((7, 9, 9), 0.5), Scoring(least=25)).item() == 0


def test_the_strict_reward_pays_for_stripes_that_last() -> None:
    assert strict(readings((7, 9, 9), 0.99)).item() == pytest.approx(21 * 0.99**5, abs=1e-13)
    assert strict(readings((9, 9, 0), 1.0)).item() == 0
    assert strict(readings((9, 9, 9), 1.0, contrast=0.29)).item() == 0
    assert strict(readings((9, 9, 9), 1.0, contrast=0.3)).item() == 27


def test_the_fitness_has_a_slope_where_the_reward_is_nothing() -> None:
    assert fitness(readings((0, 0, 0), 0.9, variation=1.5)).item() == pytest.approx(0.02 * 1.5 * 0.9**5)
    assert fitness(readings((1, 1, 1), 1.0, variation=33)).item() == pytest.approx(3 + 0.02 * 20)
    assert fitness(readings((9, 9, 0), 1.0, variation=5), reward=strict).item() == pytest.approx(0.1)


def test_traces_that_diverge_are_worth_nothing() -> None:
    for bad in (torch.nan, torch.inf, -torch.inf):
        traces = torch.cat([stripes(5, 10, 5, 10), stripes(5, 10, 5, 10)]).clone()
        traces[0, 150, 3] = bad
        found = read(traces)
        assert found.stability.tolist() == [0.0, 1.0]
        assert [plain(found).tolist(), strict(found).tolist()] == [[0, 9], [0, 9]]
        assert fitness(found)[0].item() == 0


@pytest.mark.parametrize(
    "wrong",
    [{"spacing": 0}, {"spacing": -1}, {"power": 2.5}, {"least": -1}, {"boundary": float("nan")}, {"still": -0.1}],
)
def test_constants_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(wrong))} is "):
        Scoring(**wrong)
