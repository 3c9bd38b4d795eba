"""What the test files of the data share: small arrays, files in the public formats, and a network that is none."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest

from tombola.data import files
from tombola.data.files import PublicFile
from tombola.data.idx import IdxSource

X, Y = np.arange(24, dtype=np.uint8).reshape(6, 4), np.array([0, 1, 2, 0, 1, 2])


def public(name: str, raw: bytes) -> PublicFile:
    return PublicFile(name=name, md5=hashlib.md5(raw).hexdigest(), size=len(raw))


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def zipped(raw: bytes) -> bytes:
    """The same bytes at any time of day: gzip's header would hold the clock."""
    return gzip.compress(raw, mtime=0)


def idx_files(tests: int = 2) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte.gz": rng.integers(0, 256, (5, 4, 3), np.uint8),
        "train-labels-idx1-ubyte.gz": np.arange(5, dtype=np.uint8),
        "t10k-images-idx3-ubyte.gz": rng.integers(0, 256, (tests, 4, 3), np.uint8),
        "t10k-labels-idx1-ubyte.gz": np.arange(tests, dtype=np.uint8),
    }
    return {name: zipped(idx(array)) for name, array in arrays.items()}


def idx_source(contents: dict[str, bytes], urls: tuple[str, ...] = ("http://example.invalid/",)) -> IdxSource:
    return IdxSource(name="tiny", urls=urls, files=tuple(public(name, raw) for name, raw in contents.items()))


def put(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in contents.items():
        (folder / name).write_bytes(raw)
    return folder


def serve(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> list[str]:
    asked: list[str] = []

    def opener(url: str, seconds: float) -> io.BytesIO:
        asked.append(url)
        name = url.rpartition("/")[2]
        if name not in contents:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        return io.BytesIO(contents[name])

    monkeypatch.setattr(files, "open_url", opener)
    return asked


def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What the fixture `offline` of several files does: no data folder, no network; gives the addresses asked for."""
    monkeypatch.delenv("TOMBOLA_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return serve(monkeypatch, {})
