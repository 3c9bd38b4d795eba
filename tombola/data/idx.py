"""MNIST and Fashion-MNIST: four IDX files, compressed with gzip, as their authors published them."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tombola.data.dataset import Dataset, from_arrays
from tombola.data.files import PublicFile, data_folder, fetch, unreadable, verify
from tombola.errors import DataError

__all__ = ["FASHION_MNIST", "MNIST", "IdxSource", "parse_idx"]

MNIST_URLS = ("https://ossci-datasets.s3.amazonaws.com/mnist/",)
FASHION_MNIST_URLS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)


@dataclass(frozen=True, kw_only=True, slots=True)
class IdxSource:
    """A data set in four IDX files: images (n, 1, height, width) and labels 0 to 9, all uint8 in the files.

    `files` are the training images, training labels, test images and test labels; all four are always verified.
    """

    name: str
    urls: tuple[str, ...]
    files: tuple[PublicFile, ...]

    def __call__(self, data_dir: str | Path | None = None, quiet: bool = False) -> Dataset:
        """Read the files in the subfolder `name` of the data folder; missing ones are downloaded first.

        Raises DataError where a file is wrong, or missing and not to be had.
        """
        folder = data_folder(data_dir) / self.name
        missing = [public for public in self.files if not verify(folder / public.name, public)]
        if missing:
            fetch(self.name, folder, missing, self.urls, quiet=quiet)
        x_train, y_train, x_test, y_test = (
            _read(folder / public.name, ndim) for public, ndim in zip(self.files, (3, 1, 3, 1), strict=True)
        )
        return from_arrays(self.name, x_train[:, None], y_train, x_test[:, None], y_test, classes=10)


def parse_idx(where: str, raw: bytes, ndim: int) -> npt.NDArray[np.uint8]:
    """The array of bytes with `ndim` dimensions in an IDX file's contents; `where` names the file in errors.

    >>> parse_idx("labels", bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), 1).tolist()
    [7, 9]
    """
    magic, start = bytes((0, 0, 8, ndim)), 4 + 4 * ndim
    if raw[:4] != magic:
        raise DataError(
            f"{where} begins with {raw[:4].hex()!r}; expected {magic.hex()!r}, an IDX file of bytes with {ndim} "
            "dimensions. Check that images and labels have not changed places."
        )
    shape = struct.unpack(f">{ndim}I", raw[4:start]) if len(raw) >= start else (0,)
    size = math.prod(shape)
    if size == 0 or len(raw) != start + size:
        raise DataError(
            f"{where} holds {len(raw):,} bytes; its header says shape {shape}, which needs {start + size:,} and may "
            "not be empty. Replace it by the original file."
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _read(path: Path, ndim: int) -> npt.NDArray[np.uint8]:
    try:
        with gzip.open(path) as file:
            raw = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None
    return parse_idx(str(path), raw, ndim)


def _four(md5s: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[PublicFile, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        PublicFile(name=f"{name}-ubyte.gz", md5=md5, size=size)
        for name, md5, size in zip(names, md5s, sizes, strict=True)
    )


MNIST = IdxSource(
    name="mnist",
    urls=MNIST_URLS,
    files=_four(
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        (9_912_422, 28_881, 1_648_877, 4_542),
    ),
)
FASHION_MNIST = IdxSource(
    name="fashion-mnist",
    urls=FASHION_MNIST_URLS,
    files=_four(
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        (26_421_880, 29_515, 4_422_102, 5_148),
    ),
)
