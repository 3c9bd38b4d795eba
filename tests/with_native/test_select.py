"""Exact selection by each variant of the compiled kernels against torch and against a stable sort."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from test_tensors import check, floats, problems

from tombola import compiled_select, tensors
from tombola.compiled import VARIANTS, load, runs
from tombola.errors import UsageError
from tombola.tensors import Cut, cut, smallest

Problem = tuple[list[Tensor], int, list[Tensor | None]]
HERE = [variant for variant in VARIANTS if runs(variant)]


@pytest.fixture(params=HERE, scope="module", autouse=True)
def _by_variant(request: pytest.FixtureRequest) -> Iterator[None]:
    kernels = load(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_select, "compiled", lambda: kernels)
        yield


def by_torch(scores: list[Tensor], k: int, among: list[Tensor | None]) -> tuple[Cut, list[Tensor]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "kernels_for", lambda *_: None)
        return cut(scores, k, among), smallest(scores, k, among)


def agree(scores: list[Tensor], k: int, among: list[Tensor | None]) -> None:
    threshold, marks = by_torch(scores, k, among)
    assert cut(scores, k, among) == threshold
    for mine, other in zip(smallest(scores, k, among), marks, strict=True):
        assert torch.equal(mine, other)


@given(problems())
@settings(max_examples=40, deadline=None)
def test_mixed_dtypes_and_masks(problem: Problem) -> None:
    check(*problem)
    agree(*problem)


@st.composite
def one_dtype(draw: st.DrawFn) -> Problem:
    """Several tensors that the kernels read, of sizes around their block, with many ties or none."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    sizes = draw(st.lists(st.sampled_from([0, 1, 2, 3, 63, 64, 65, 129, 200]), min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    pool = torch.tensor(draw(st.lists(floats(32), min_size=1, max_size=5)), dtype=dtype)
    scores, among = [], list[Tensor | None]()
    for size in sizes:
        if draw(st.booleans()):
            scores.append(pool[torch.randint(len(pool), (size,), generator=generator)])
        else:
            scores.append(torch.randn(size, generator=generator, dtype=dtype))
        keep = draw(st.sampled_from([None, 0.0, 0.03, 0.5, 1.0]))
        among.append(None if keep is None else torch.rand(size, generator=generator) < keep)
    free = sum(s.numel() if m is None else int(m.sum()) for s, m in zip(scores, among, strict=True))
    return scores, draw(st.integers(0, free)), among


@given(one_dtype())
@settings(max_examples=60, deadline=None)
def test_the_kernels_select_as_torch_does(problem: Problem) -> None:
    check(*problem)
    agree(*problem)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_tensors(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(300_003, generator=generator, dtype=dtype)
    mask = torch.rand(300_003, generator=generator) < 0.2
    kinds = [normal, normal.abs(), normal.mul(3).round(), torch.full_like(normal, -0.5), normal.abs().mul(0.01).add(1)]
    for values in kinds:
        for among in (None, mask):
            check(
                [values.reshape(3, -1), values[:1000]], 60_000, [None if among is None else among.reshape(3, -1), None]
            )


def test_the_kernels_are_used_where_they_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    count = tensors.count_digits
    monkeypatch.setattr(tensors, "count_digits", lambda *a: (used.append(a[1].shape), count(*a)))
    a, b = torch.randn(4, 5), torch.randn(6)
    cut([a, b], 3, [a > 0, None])
    assert used == [a.shape, b.shape] * 2
    used.clear()
    negated = torch.complex(a, a).conj().imag
    for values in (a.T, a[:, 1:], a.half(), a.bfloat16(), negated, torch._neg_view(a)):
        check([values], 3, [None])
    cut([a], 3, [(a > 0).T.contiguous().T])
    assert used == []
    cut([a, b.double()], 3)
    assert used == [b.shape] * 4


def test_unaligned_memory_and_bytes_that_are_not_one() -> None:
    data = bytearray(1 + 4 * 200)
    values = torch.randn(200, generator=torch.Generator().manual_seed(2))
    data[1:] = values.numpy().tobytes()
    unaligned = torch.frombuffer(memoryview(data), dtype=torch.float32, offset=1)
    assert unaligned.data_ptr() % 4 == 1
    mask = (torch.arange(200) % 3).to(torch.uint8).view(torch.bool)  # bytes 0, 1 and 2
    check([unaligned], 50, [torch.arange(200) % 3 > 0])
    assert torch.equal(smallest([unaligned], 50, [mask])[0], smallest([values], 50, [torch.arange(200) % 3 > 0])[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("k", [0, 2, 5])
def test_nan_is_refused_as_torch_does(dtype: torch.dtype, sign: int, k: int) -> None:
    second = torch.tensor([[1.0, 2.0], [sign * math.nan, math.inf]], dtype=dtype)
    scores = [torch.tensor([1.0], dtype=dtype), second]
    with pytest.raises(UsageError, match=r"scores\[1\] \(b\) is NaN at \[1, 0\]"):
        smallest(scores, k, names=["a", "b"])
    free: list[Tensor | None] = [None, ~second.isnan()]
    agree(scores, min(k, 4), free)
    with pytest.raises(UsageError, match="k is 5, but there are 4 candidates"):
        cut(scores, 5, free)


def test_infinities_and_zeros_of_both_signs() -> None:
    values = torch.tensor([math.inf, 0.0, -0.0, -math.inf, 1e-45, -1e-45, -0.0])
    for k in range(8):
        check([values], k, [None])
        agree([values], k, [None])
    assert cut([values], 4) == Cut(key=0, ties=2)
