"""Named streams, global state put back, and the counter hash against a plain uint32 reference."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tombola.errors import UsageError
from tombola.streams import Key, _hash, derive, key, seeded, stream, uniform

DERIVED = 3408939315813454573
KEY_0 = (254168308, 1100389248)
KEY_1 = (3920032742, 139008071)
WORDS_0 = [0, 11157083, 10043423, 10309426, 4659854]
WORDS_1 = [10406580, 1375860, 6401779, 14516987, 6049376]
Words = npt.NDArray[np.uint32]


def mix(h: Words) -> Words:
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x85EBCA6B)
    h = h ^ (h >> np.uint32(13))
    h = h * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def reference(words: Key, count: int) -> npt.NDArray[np.float32]:
    h = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(words[0])
    return (mix(mix(h) ^ np.uint32(words[1])) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def reference_key(seed: int, purpose: str, step: int) -> Key:
    a, b = np.frombuffer(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "<u4").astype(np.uint32)
    steps = np.array([step], np.uint32)
    k0, k1 = mix(steps * np.uint32(0x9E3779B9) + a), mix(steps * np.uint32(0x85EBCA6B) + b)
    return int(k0[0]), int(k1[0])


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


def test_streams_are_named() -> None:
    def draw(seed: int, purpose: str) -> list[float]:
        values: list[float] = torch.rand(4, generator=stream(seed, purpose)).tolist()
        return values

    assert draw(0, "order") == draw(0, "order")
    assert len({tuple(draw(s, p)) for s in range(5) for p in ("order", "split", "")}) == 15
    assert stream(3, "order").initial_seed() == int.from_bytes(hashlib.sha256(b"3/order").digest()[:8], "big") >> 1


@given(st.integers(), st.lists(st.one_of(st.text(), st.integers())))
def test_derived_seeds_are_63_bits(seed: int, names: list[str | int]) -> None:
    child = derive(seed, *names)
    assert 0 <= child < 2**63
    assert child == derive(seed, *names)
    assert child != derive(seed, *names, 0)
    assert child != derive(seed + 1, *names)


def test_derived_seeds_tell_paths_apart() -> None:
    assert len({derive(0, 1), derive(0, "1"), derive(0, "a", "b"), derive(0, "a/b"), derive(0), derive(1)}) == 6
    assert derive(7, "replicate", 2) == DERIVED


def test_a_stream_moves_no_global_state() -> None:
    before = torch.get_rng_state()
    torch.rand(3, generator=stream(0, "x"))
    uniform(key(0, "x", 0), 10)
    assert torch.equal(before, torch.get_rng_state())


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def numpy_state() -> str:
    return repr([np.asarray(part).tolist() for part in np.random.get_state(legacy=True)])


@pytest.mark.parametrize("fails", [False, True])
def test_seeded_puts_everything_back(fails: bool) -> None:
    with seeded(11):
        inside = draws()
        state = random.getstate(), numpy_state(), torch.get_rng_state()
        try:
            with seeded(5):
                draws()
                if fails:
                    raise KeyError("x")
        except KeyError:
            assert fails
        assert random.getstate() == state[0]
        assert numpy_state() == state[1]
        assert torch.equal(torch.get_rng_state(), state[2])
    with seeded(11):
        assert draws() == inside
    with seeded(12):
        assert all(a != b for a, b in zip(draws(), inside, strict=True))


def test_seeded_is_manual_seed_to_torch_and_takes_every_derived_seed() -> None:
    seed = derive(0, "big")
    with seeded(0):
        torch.manual_seed(seed)
        expected = torch.rand(3)
    with seeded(seed):
        assert torch.equal(torch.rand(3), expected)
    with pytest.raises(UsageError, match="the seed is -1"), seeded(-1):
        pass


@given(st.integers(), st.text(), st.integers(0, 2**32 - 1), st.integers(0, 300))
def test_the_hash_equals_uint32_arithmetic(seed: int, purpose: str, step: int, count: int) -> None:
    words = key(seed, purpose, step)
    assert words == reference_key(seed, purpose, step)
    assert np.array_equal(uniform(words, count).numpy(), reference(words, count))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_int64_tensors_hash_like_uint32(first: int, second: int) -> None:
    words = (first, second)
    index = torch.tensor([0, 1, 2, 1000, 2**31 - 1, 2**31, 2**32 - 1])
    expected = _hash(index.numpy().astype(np.uint32), words)
    assert np.array_equal(_hash(index, words).numpy(), expected)


def test_golden_numbers() -> None:
    assert key(0, "dropout", 0) == KEY_0
    assert key(1, "dropout/fc1", 4_000_000_000) == KEY_1
    assert (uniform((0, 0), 5) * 2**24).long().tolist() == WORDS_0
    assert (uniform((1, 0xFFFFFFFF), 5) * 2**24).long().tolist() == WORDS_1


def test_shapes_are_row_major_and_a_prefix_of_more() -> None:
    words = key(0, "x", 1)
    assert torch.equal(uniform(words, (3, 4, 5)).flatten(), uniform(words, 100)[:60])
    assert uniform(words, ()).shape == ()
    assert uniform(words, (0, 3)).shape == (0, 3)
    assert uniform(words, 4).dtype == torch.float32


def test_ranges_are_checked() -> None:
    for step in (-1, 2**32):
        with pytest.raises(UsageError, match=f"the step is {step}"):
            key(0, "x", step)
    with pytest.raises(UsageError, match="4294967297 numbers"):
        uniform((0, 0), 2**32 + 1)


@pytest.mark.parametrize("words", [(0, 0), (0, 1), (1, 0), (2**32 - 1, 2**32 - 1), key(0, "dropout", 0)])
def test_one_key_looks_uniform(words: Key) -> None:
    n = 1_000_000
    u = uniform(words, n).double()
    assert float(u.min()) >= 0
    assert float(u.max()) < 1
    assert abs(float(u.mean()) - 0.5) < 5 * (1 / 12 / n) ** 0.5
    assert abs(float(u.var()) - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    for lag in (1, 2, 64, 300):
        assert abs(correlation(u[:-lag], u[lag:])) < 5 / n**0.5
    bits = (u * 2**24).long()
    for bit in range(24):
        ones = int(((bits >> bit) & 1).sum())
        assert (2 * ones - n) ** 2 / n < 25, bit
    for shift in (0, 8, 16):
        counts = torch.bincount((bits >> shift) & 255, minlength=256).double()
        chi = float(((counts - n / 256) ** 2 / (n / 256)).sum())
        assert 255 - 5 * 22.6 < chi < 255 + 5.5 * 22.6, shift


@pytest.mark.parametrize("index", [0, 1, 17_999])
def test_steps_and_seeds_are_independent(index: int) -> None:
    n, count = 3000, index + 300
    by_step = torch.stack([uniform(key(0, "dropout", step), count)[index:] for step in range(n)]).double()
    by_seed = torch.stack([uniform(key(seed, "dropout", 0), count)[index:] for seed in range(n)]).double()
    for table in (by_step, by_seed):
        assert abs(float(table[:, 0].mean()) - 0.5) < 5 * (1 / 12 / n) ** 0.5
        assert abs(correlation(table[:-1].flatten(), table[1:].flatten())) < 5 / table.numel() ** 0.5
        assert abs(correlation(table[:-1, 1:].flatten(), table[1:, :-1].flatten())) < 5 / table.numel() ** 0.5


def test_a_flipped_bit_of_key_flips_half_the_bits() -> None:
    base = (uniform((12345, 67890), 20_000) * 2**24).long()
    for word in range(2):
        for bit in range(32):
            words = (12345 ^ (1 << bit), 67890) if word == 0 else (12345, 67890 ^ (1 << bit))
            changed = base ^ (uniform(words, 20_000) * 2**24).long()
            for out in range(24):
                assert abs(float(((changed >> out) & 1).double().mean()) - 0.5) < 0.03, (word, bit, out)
