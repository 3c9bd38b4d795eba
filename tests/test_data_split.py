"""Splitting off a validation set, and normalising."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tombola.data import NORMALISATIONS, Affine, Dataset, from_arrays, split
from tombola.errors import DataError

# --- split


def zeros(count: int) -> Dataset:
    x, y = torch.zeros(count, 1, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    return from_arrays("zeros", x, y, x[:1], y[:1])


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, 1), (9, 1), (15, 2), (25, 3), (1_347, 135), (49_999, 5_000), (50_000, 5_000), (60_000, 5_000)],
)
def test_split_takes_a_tenth_or_5000(count: int, expected: int) -> None:
    assert len(split(zeros(count), 0).validation) == expected


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 300), st.integers(0, 2**40), st.data())
def test_split_is_a_partition_that_the_seed_decides(count: int, seed: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(1, count - 1))
    before = torch.get_rng_state()
    first, again = split(zeros(count), seed, wanted), split(zeros(count), seed, validation=wanted)
    assert len(first.validation) == wanted
    assert torch.cat([first.train, first.validation]).sort().values.equal(torch.arange(count))
    for one, other in ((first.train, again.train), (first.validation, again.validation)):
        assert one.equal(other)
        assert one.dtype == torch.int64
        assert one.equal(one.sort().values)
    assert torch.get_rng_state().equal(before)


def test_two_seeds_split_differently() -> None:
    assert not split(zeros(100), 0).validation.equal(split(zeros(100), 1).validation)


@pytest.mark.parametrize(("count", "wanted"), [(1, None), (1, 1), (5, 0), (5, 5), (5, -1)])
def test_split_refuses_what_leaves_nothing(count: int, wanted: int | None) -> None:
    with pytest.raises(DataError, match="zeros: "):
        split(zeros(count), 0, wanted)


# --- normalisation


IMAGES = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (20, 3, 4, 5), np.uint8))


@pytest.mark.parametrize("name", NORMALISATIONS)
@pytest.mark.parametrize("x", [IMAGES, IMAGES[:, 0, 0]])
def test_every_normalisation_is_one_affine_step_in_float32(name: str, x: Tensor) -> None:
    affine = NORMALISATIONS[name](x)
    shape = (-1, *[1] * (x.ndim - 2)) if len(affine.scale) > 1 else ()
    scale, shift = (torch.tensor(values, dtype=torch.float64).reshape(shape) for values in (affine.scale, affine.shift))
    result, before = affine.apply(x), x.clone()
    assert result.dtype == torch.float32
    assert torch.allclose(result.double(), x.double() * scale + shift, rtol=1e-6, atol=1e-6)
    assert x.equal(before)


def test_unit_pixel_and_none() -> None:
    assert NORMALISATIONS["unit"](torch.tensor([[0, 16]], dtype=torch.uint8)).scale == (1 / 16,)
    assert NORMALISATIONS["pixel"](IMAGES).apply(IMAGES).max() == 1
    floats = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    result = NORMALISATIONS["none"](floats).apply(floats)
    assert result.equal(floats)
    assert result.data_ptr() != floats.data_ptr()


def test_standard_has_mean_0_and_deviation_1_in_every_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = NORMALISATIONS["standard"](IMAGES)
    result = whole.apply(IMAGES).double()
    assert torch.allclose(result.mean(dim=(0, 2, 3)), torch.zeros(3).double(), atol=1e-6)
    assert torch.allclose(result.std(dim=(0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-6)
    monkeypatch.setattr("tombola.data.normalise._CHUNK", 100)
    assert np.allclose(NORMALISATIONS["standard"](IMAGES).scale, whole.scale, rtol=1e-12)
    assert len(NORMALISATIONS["standard"](IMAGES.float()[:, :, 0, 0]).scale) == 1


@pytest.mark.parametrize("value", [0.0, 0.1, 3e7, -1e-9])
def test_standard_leaves_a_constant_at_zero(value: float) -> None:
    x = torch.full((999, 2, 3, 3), value)
    affine = NORMALISATIONS["standard"](x)
    assert affine.scale == (1.0, 1.0)
    assert affine.apply(x).abs().max() <= abs(value) * 1e-6


def test_bad_normalisations_are_named() -> None:
    with pytest.raises(DataError, match="largest value 0; 'unit' divides by it"):
        NORMALISATIONS["unit"](torch.zeros(2, 2))
    with pytest.raises(DataError, match="'pixel' needs uint8"):
        NORMALISATIONS["pixel"](torch.zeros(2, 2))
    with pytest.raises(DataError, match="does not fit float32"):
        NORMALISATIONS["unit"](torch.full((2, 2), 1e-45))
    with pytest.raises(DataError, match="2 scales and 1 shifts"):
        Affine(scale=(1.0, 1.0), shift=(0.0,))
    with pytest.raises(DataError, match="expected 3 channels in dimension 1"):
        NORMALISATIONS["standard"](IMAGES).apply(IMAGES[:, :2])
