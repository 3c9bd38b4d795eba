"""Digests, packed masks and exact-k selection against a stable sort."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tombola import tensors
from tombola.errors import UsageError
from tombola.tensors import Cut, cut, digest_tensors, pack, smallest, unpack

SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, 2.0**-140, -(2.0**-140), 2.0**-149, 1 + 2.0**-23, 3e38, -3e38]
GOLDEN = "6461dadc98575e4b1d6e4517c95e7f2b4401c3179a6893d83573074dc5d902b6"
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture(autouse=True, scope="module")
def _by_torch() -> Iterator[None]:
    """What torch selects, whether the compiled kernels are built or not; `tests/with_native` holds them against it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "kernels_for", lambda *_: None)
        yield


def floats(width: int) -> st.SearchStrategy[float]:
    return st.one_of(st.sampled_from(SPECIAL), st.floats(allow_nan=False, width=32 if width == 32 else 64))


def by_sorting(scores: list[Tensor], k: int, among: list[Tensor | None]) -> list[Tensor]:
    flat = np.concatenate([score.double().numpy().ravel() for score in scores])
    open_ = np.concatenate(
        [np.ones(s.numel(), bool) if m is None else m.numpy().ravel() for s, m in zip(scores, among, strict=True)]
    )
    places = np.flatnonzero(open_)
    chosen = np.zeros(len(flat), bool)
    chosen[places[np.argsort(flat[places] + 0.0, kind="stable")[:k]]] = True
    ends = np.cumsum([s.numel() for s in scores])[:-1]
    parts = np.split(chosen, ends)
    return [torch.from_numpy(part.reshape(tuple(s.shape))) for part, s in zip(parts, scores, strict=True)]


def check(scores: list[Tensor], k: int, among: list[Tensor | None]) -> None:
    got = smallest(scores, k, among)
    assert sum(int(mask.sum()) for mask in got) == k
    for mask, expected, score in zip(got, by_sorting(scores, k, among), scores, strict=True):
        assert mask.dtype == torch.bool
        assert mask.shape == score.shape
        assert torch.equal(mask, expected)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Tensor], int, list[Tensor | None]]:
    dtypes = draw(st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4))
    pool = draw(st.lists(floats(64), min_size=1, max_size=12))
    scores, among = [], list[Tensor | None]()
    for dtype in dtypes:
        values = draw(st.lists(st.sampled_from(pool), max_size=20))
        scores.append(torch.tensor(values, dtype=torch.float64).to(dtype))
        mask = draw(st.none() | st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
        among.append(None if mask is None else torch.tensor(mask, dtype=torch.bool))
    free = sum(s.numel() if m is None else int(m.sum()) for s, m in zip(scores, among, strict=True))
    return scores, draw(st.integers(0, free)), among


@given(problems())
@settings(max_examples=300, deadline=None)
def test_selection_is_a_stable_sort(problem: tuple[list[Tensor], int, list[Tensor | None]]) -> None:
    check(*problem)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_distinct_values_are_ordered(dtype: torch.dtype, data: st.DataObject) -> None:
    width = 32 if dtype == torch.float32 else 64
    values = torch.tensor(data.draw(st.lists(floats(width), min_size=1, max_size=50)), dtype=dtype)
    check([values], data.draw(st.integers(0, len(values))), [None])


@pytest.mark.parametrize("k", [0, 1, 3000, 5999, 6000])
@pytest.mark.parametrize("value", [0.0, 0.25, -1.0, math.inf, -math.inf])
def test_all_equal(value: float, k: int) -> None:
    scores = [torch.full((40, 50), value), torch.full((4000,), value)]
    check(scores, k, [None, None])
    got = torch.cat([mask.flatten() for mask in smallest(scores, k)])
    assert bool(got[:k].all())
    assert not got[k:].any()


def test_zeros_of_both_signs_are_one_value() -> None:
    scores = [torch.tensor([0.0, -0.0, -1e-45, 1e-45, -0.0, 0.0])]
    assert cut(scores, 3) == Cut(key=0, ties=2)
    assert smallest(scores, 3)[0].tolist() == [True, True, True, False, False, False]


def test_the_key_is_the_float_bits_in_order() -> None:
    values = torch.tensor([-2.0, -1.0, 1.0, 2.0])
    bits = int(torch.tensor(1.0).view(torch.int32))
    assert [cut([values], k).key for k in (2, 3)] == [-bits, bits]
    assert cut([values.double()], 3).key == int(torch.tensor(1.0, dtype=torch.float64).view(torch.int64))
    assert cut([values.half()], 3).key == bits
    assert cut([values], 0) == Cut(key=-(2**31), ties=0)
    assert cut([values], 4) == Cut(key=2**31 - 1, ties=0)


def test_one_candidate_left() -> None:
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1, 2] = True
    for k in (0, 1):
        check([torch.randn(3, 4), torch.ones(2)], k, [mask, torch.zeros(2, dtype=torch.bool)])
    with pytest.raises(UsageError, match="k is 2, but there are 1 candidates"):
        cut([torch.randn(3, 4)], 2, [mask])


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_and_layouts(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tensors._CHUNK, "cpu", chunk)
    generator = torch.Generator().manual_seed(0)
    base = torch.randint(-9, 9, (6, 5, 4), generator=generator).float()
    mask = torch.rand(4, 5, 6, generator=generator) < 0.7
    scores = [base.permute(2, 1, 0), base[::2, 1:], base[0, 0, :1].expand(3, 5), base[0, 0, 0], base[:0]]
    among = [mask, None, torch.ones(5, 3).bool().T, None, None]
    free = sum(s.numel() if m is None else int(m.sum()) for s, m in zip(scores, among, strict=True))
    for k in (0, 1, free // 3, free // 2, free - 1, free):
        check(scores, k, among)
    assert digest_tensors({"x": base.permute(2, 1, 0)}) == digest_tensors({"x": base.permute(2, 1, 0).contiguous()})
    bad = base.permute(2, 1, 0).clone()
    bad[3, 2, 1] = math.nan
    for k in (0, 5, 120):
        with pytest.raises(UsageError, match=r"NaN at \[3, 2, 1\]"):
            cut([bad.permute(0, 1, 2)], k)


def test_parameters_are_not_moved_or_recorded() -> None:
    weight = torch.nn.Parameter(torch.tensor([[3.0, 1.0], [-2.0, 1.0]]))
    before = weight.detach().clone()
    assert smallest([weight], 2)[0].tolist() == [[False, True], [True, False]]
    assert torch.equal(weight, before)
    assert not smallest([weight * 2], 1)[0].requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bits", ["quiet", "smallest", "negative", "negative smallest"])
@pytest.mark.parametrize("k", [0, 2, 5])
def test_nan_is_named(dtype: torch.dtype, bits: str, k: int) -> None:
    integer = {torch.float32: torch.int32, torch.float64: torch.int64}[dtype]
    inf = int(torch.tensor(math.inf, dtype=dtype).view(integer))
    word = {"quiet": inf | (inf >> 1), "smallest": inf + 1}.get(
        bits.removeprefix("negative ").strip(), inf | (inf >> 1)
    )
    word = word + torch.iinfo(integer).min if bits.startswith("negative") else word
    second = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=dtype)
    second.view(integer)[1, 0] = word
    assert math.isnan(float(second[1, 0]))
    scores = [torch.tensor([1.0], dtype=dtype), second]
    with pytest.raises(UsageError, match=r"scores\[1\] is NaN at \[1, 0\]"):
        smallest(scores, k)
    with pytest.raises(UsageError, match=r"scores\[1\] \(fc2.weight\) is NaN at \[1, 0\]"):
        cut(scores, k, names=["fc1.weight", "fc2.weight"])
    free = ~second.isnan()
    chosen = smallest(scores, min(k, 4), [None, free])
    assert sum(int(mask.sum()) for mask in chosen) == min(k, 4)
    assert not chosen[1][1, 0]


def test_arguments_are_checked() -> None:
    ones, some = torch.ones(3), torch.ones(3).bool()
    for k in (-1, 4):
        with pytest.raises(UsageError, match=f"k is {k}, but there are 3 candidates"):
            smallest([ones], k)
    with pytest.raises(UsageError, match=r"scores\[1\] is torch.int64"):
        cut([ones, torch.ones(3).long()], 1)
    with pytest.raises(UsageError, match="1 tensors of scores came with 2"):
        cut([ones], 1, [some, some])
    for wrong in (ones, torch.ones(4).bool()):
        with pytest.raises(UsageError, match=r"among\[0\] is"):
            cut([ones], 1, [wrong])
    assert smallest([], 0) == []


def test_larger_than_a_chunk() -> None:
    values = torch.randn(1_300_000, generator=torch.Generator().manual_seed(1))
    for scores in (values, values.mul(3).round(), values.double()):
        check([scores], 1_000_000, [None])


@given(st.lists(st.booleans(), max_size=40))
def test_pack_and_unpack(values: list[bool]) -> None:
    mask = torch.tensor(values, dtype=torch.bool)
    data = pack(mask)
    assert len(data) == (len(values) + 7) // 8
    assert int.from_bytes(data, "little") == sum(1 << i for i, value in enumerate(values) if value)
    assert torch.equal(unpack(data, (len(values),)), mask)


def test_pack_follows_the_rows_and_unpack_refuses() -> None:
    mask = torch.tensor([[True, False, False], [True, True, False]])
    assert pack(mask) == bytes([0b011001])
    assert torch.equal(unpack(pack(mask.T), (3, 2)), mask.T)
    assert torch.equal(unpack(pack(torch.tensor(True)), ()), torch.tensor(True))
    for data in (b"", b"\x01\x00"):
        with pytest.raises(UsageError, match=f"takes 1 bytes, not {len(data)}"):
            unpack(data, (2, 3))
    with pytest.raises(UsageError, match="bits after its end"):
        unpack(b"\x40", (2, 3))
    with pytest.raises(UsageError, match=r"torch\.float32"):
        pack(torch.ones(2))


def test_golden_digests() -> None:
    assert digest_tensors({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    named = {"b": torch.arange(6, dtype=torch.float32).reshape(2, 3), "a": torch.tensor(1.5, dtype=torch.bfloat16)}
    assert digest_tensors(named) == GOLDEN
    assert digest_tensors(dict(reversed(named.items()))) == GOLDEN


def test_digests_tell_apart_and_see_through() -> None:
    x = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
    different = [
        {"x": x}, {"y": x}, {"x": x.double()}, {"x": x.flatten()}, {"x": x.T}, {"x": x, "y": x},
        {"x": x.view(torch.int32)},
        {"x": x.to(torch.complex64)}, {"x": x.bool()}, {"x": x.half()}, {"x": x[:0]}, {"x": x.T[:, :0]}, {"x": x[0, 0]},
        {"x": x.to(torch.float8_e4m3fn)}, {"x": x.bfloat16()},
    ]  # fmt: skip
    assert len({digest_tensors(named) for named in different}) == len(different)
    base = digest_tensors({"x": x})
    assert digest_tensors({"x": x.T.contiguous().T}) == base
    assert digest_tensors({"x": torch.nn.Parameter(x)}) == base
    assert digest_tensors({"x": torch.complex(x, -x).conj().imag}) == base
    assert digest_tensors({"x": torch.stack([x, x], 2)[..., 1]}) == base
    for dtype in (*DTYPES, torch.complex64):
        zero = torch.zeros(3, dtype=dtype)
        assert digest_tensors({"x": zero}) == digest_tensors({"x": -zero})
    with pytest.raises(UsageError, match=r"'x' has layout torch\.sparse_coo"):
        digest_tensors({"x": x.to_sparse()})
