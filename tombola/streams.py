"""Named random streams from one seed, and the counter hash behind per-step noise.

Nothing here reads the global random state or changes it for good.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import operator
import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tombola.errors import UsageError

__all__ = ["Key", "derive", "key", "keys", "seeded", "stream", "uniform", "words"]

Key = tuple[int, int]
"""Two words in [0, 2**32): all that `uniform` needs beside the index."""

_Words = TypeVar("_Words", int, Tensor, npt.NDArray[np.uint32], npt.NDArray[np.int64])

_WORD = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9
_FIRST = 0x85EBCA6B
_SECOND = 0xC2B2AE35


def stream(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for one purpose, for draws made once: data order, splits, initial weights.

    Its seed is the first 63 bits of sha256(f"{seed}/{purpose}"). Two purposes or two seeds give independent streams,
    and what is drawn from one moves no other.

    Args:
        seed: any integer.
        purpose: what the numbers are for, such as "order" or "split".

    Returns:
        A new generator at its first number.

    >>> a, b = stream(0, "order"), stream(0, "order")
    >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).all())
    True
    """
    return torch.Generator().manual_seed(_hash63(f"{operator.index(seed)}/{purpose}"))


def derive(seed: int, *names: str | int) -> int:
    """An independent child seed: the first 63 bits of sha256 of the JSON list [seed, *names].

    Args:
        seed: any integer.
        names: the path to the child; 1 and "1" differ, and so do ("a", "b") and ("a/b",).

    Returns:
        An integer in [0, 2**63).

    >>> derive(0, "replicate", 1) == derive(0, "replicate", 1)
    True
    >>> derive(0, "replicate", 1) == derive(0, "replicate", 2)
    False
    """
    path = [name if isinstance(name, str) else operator.index(name) for name in names]
    return _hash63(json.dumps([operator.index(seed), *path]))


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Sets the global generators of torch, numpy and Python from a seed, and puts all of them back on the way out.

    For code that draws from global state, such as the constructor of a user's module. Inside, torch draws what it
    would draw after `torch.manual_seed(seed)`. CUDA generators take part where CUDA is initialised on entry.

    Args:
        seed: an integer in [0, 2**63).

    Raises:
        UsageError: the seed is outside that range.

    >>> before = torch.get_rng_state()
    >>> with seeded(3):
    ...     layer = torch.nn.Linear(2, 2)
    >>> bool((torch.get_rng_state() == before).all())
    True
    """
    if not 0 <= seed < 2**63:
        raise UsageError(f"the seed is {seed}; expected an integer from 0 to 2**63 - 1")
    python, legacy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    started = torch.cuda.is_initialized()
    cuda = torch.cuda.get_rng_state_all() if started else []
    try:
        random.seed(seed)
        np.random.seed(seed & _WORD)
        # torch.manual_seed would leave a call behind that seeds CUDA when it starts later.
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed_all(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def key(seed: int, purpose: str, step: int) -> Key:
    """The key of one step's noise.

    With a and b the first and second little-endian uint32 word of sha256(f"{seed}/{purpose}"), all in uint32:
    key = (mix(a + step * 0x9E3779B9), mix(b + step * 0x85EBCA6B)), mix as in `uniform`. An engine needs a and b once
    and goes from step to step by itself. Two steps of one purpose never share a key.

    Args:
        seed: any integer.
        purpose: what the noise is for, such as "dropout/fc1".
        step: the absolute step, in [0, 2**32).

    Returns:
        Two integers in [0, 2**32).

    Raises:
        UsageError: the step is out of range.

    >>> key(0, "dropout", 5) == key(0, "dropout", 5)
    True
    """
    if not 0 <= step <= _WORD:
        raise UsageError(f"the step is {step}; expected an integer from 0 to 2**32 - 1")
    a, b = words(seed, purpose)
    return _mix(a + step * _GOLDEN), _mix(b + step * _FIRST)


def keys(words: npt.NDArray[np.int64], step: int) -> npt.NDArray[np.int64]:
    """The keys of one step for many pairs a, b of `words` at once; shape (..., 2), a new array.

    >>> tuple(keys(np.array([words(7, "dropout")], np.int64), 5)[0].tolist()) == key(7, "dropout", 5)
    True
    """
    return _mix(words + np.array([step * _GOLDEN & _WORD, step * _FIRST & _WORD], np.int64))


def words(seed: int, purpose: str) -> Key:
    """a and b of `key`: what an engine that makes its own keys starts from.

    >>> words(0, "dropout") == words(0, "dropout")
    True
    """
    hashed = hashlib.sha256(f"{operator.index(seed)}/{purpose}".encode()).digest()
    return int.from_bytes(hashed[:4], "little"), int.from_bytes(hashed[4:8], "little")


def uniform(key: Key | Tensor, shape: int | Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """Numbers in [0, 1) that are a pure function of key and index, the same on every device and in C.

    In uint32 arithmetic (products and sums modulo 2**32, shifts fill with 0), with i the row-major index:

        mix(h): h ^= h >> 16; h *= 0x85EBCA6B; h ^= h >> 13; h *= 0xC2B2AE35; h ^= h >> 16
        u[i] = (mix(mix(i * 0x9E3779B9 + key[0]) ^ key[1]) >> 8) * 2**-24

    Args:
        key: two words, from `key(seed, purpose, step)`, or an int64 tensor of them, shape (2,), on the device: what is
            recorded once (a CUDA graph) or computed for many at once (vmap) then follows what the tensor holds.
        shape: a count or a shape, at most 2**32 numbers in all.
        device: where the numbers are made; the default is the CPU.

    Returns:
        float32 tensor of that shape; multiples of 2**-24 from 0 to 1 - 2**-24, exact.

    Raises:
        UsageError: more than 2**32 numbers are asked for.

    >>> keep = uniform(key(0, "dropout", 5), (60, 300)) >= 0.5
    >>> keep.shape
    torch.Size([60, 300])
    """
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    count = int(np.prod(sizes, dtype=object))
    if count > _WORD + 1:
        raise UsageError(f"{count} numbers of one key are asked for; at most 2**32 have an index")
    if isinstance(key, Tensor):
        h = torch.arange(count, dtype=torch.int64, device=device) * _GOLDEN + key[0]  # a new one: vmap forbids in place
        mixed = (_mix(_mix(h) ^ key[1]) >> 8).to(torch.float32)
    elif torch.device(device or "cpu").type == "cpu":
        # numpy has full uint32 arithmetic, and with it a third of the time.
        mixed = torch.from_numpy(_hash(np.arange(count, dtype=np.uint32), key).astype(np.float32))
    else:
        mixed = _hash(torch.arange(count, dtype=torch.int64, device=device), key).to(torch.float32)
    return mixed.mul_(2.0**-24).view(sizes)


def _hash63(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _hash(index: _Words, key: Key) -> _Words:
    """The upper 24 bits of the hash of every index, in place; see `uniform`."""
    h = index
    h *= _GOLDEN
    h += key[0]
    h = _mix(h)
    h ^= key[1]
    h = _mix(h)
    h >>= 8
    return h


def _mix(h: _Words) -> _Words:
    """`mix` of a Python integer, of uint32 words, or of uint32 words in int64.

    A product of int64 wraps modulo 2**64, which keeps the low 32 bits right; the masks cut the rest off.
    """
    h &= _WORD
    h ^= h >> 16
    h *= _FIRST
    h &= _WORD
    h ^= h >> 13
    h *= _SECOND
    h &= _WORD
    h ^= h >> 16
    return h
