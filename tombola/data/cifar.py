"""CIFAR-10 in the layout of its official binary version: a folder of batch files, or the archive that holds them."""

from __future__ import annotations

import re
import sys
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tombola.data.dataset import Dataset, from_arrays
from tombola.data.files import PublicFile, data_folder, fetch, unreadable, verify
from tombola.errors import DataError

__all__ = ["CIFAR_10", "CifarSource"]

CIFAR_10_URLS = ("https://www.cs.toronto.edu/~kriz/",)

_RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue plane of one image
_TEST = "test_batch.bin"
_OFFICIAL = (*(f"data_batch_{number}.bin" for number in range(1, 6)), _TEST)


@dataclass(frozen=True, kw_only=True, slots=True)
class CifarSource:
    """CIFAR-10 images (n, 3, 32, 32) and labels 0 to 9, all uint8 in the files.

    Batch files in `folder` come first and may be fewer, smaller or others than the official ones, which is said on
    stderr; `archive` is read in place and must be the official one. An official batch file has `batch_bytes` bytes.
    """

    name: str
    urls: tuple[str, ...]
    archive: PublicFile
    folder: str
    batch_bytes: int

    def __call__(self, data_dir: str | Path | None = None, quiet: bool = False) -> Dataset:
        """Read the batch files, else the archive beside their folder, which is downloaded where it is missing.

        Raises DataError where a file is wrong, or missing and not to be had.
        """
        root = data_folder(data_dir)
        folder = root / self.folder
        batches = _read_folder(folder)
        if batches:
            data = self._dataset(batches, folder)
            if not (quiet or self._official(batches)):
                print(self._note(batches, folder), file=sys.stderr)
            return data
        archive = root / self.archive.name
        if not verify(archive, self.archive):
            instead = f" (or data_batch_1.bin to data_batch_5.bin and {_TEST} into {folder})"
            fetch(self.name, root, [self.archive], self.urls, quiet=quiet, instead=instead)
        return self._dataset(_read_archive(archive), archive)

    def _dataset(self, batches: Mapping[str, bytes], place: Path) -> Dataset:
        """All batches in numeric order, and the test batch, as one data set."""
        names = sorted((name for name in batches if name != _TEST), key=_number)
        if not names or _TEST not in batches:
            found = ", ".join(sorted(batches)) or "no batch file"
            raise DataError(
                f"{self.name}: {place} holds {found}; expected {_TEST} and at least one data_batch_<number>.bin. "
                "Add what is missing, or remove the folder to have the official archive downloaded."
            )
        train = [_records(place / name, batches[name]) for name in names]
        test = _records(place / _TEST, batches[_TEST])
        x_train = np.concatenate([records[:, 1:] for records in train]).reshape(-1, 3, 32, 32)
        y_train = np.concatenate([records[:, 0] for records in train])
        return from_arrays(
            self.name, x_train, y_train, test[:, 1:].reshape(-1, 3, 32, 32), test[:, 0].copy(), classes=10
        )

    def _official(self, batches: Mapping[str, bytes]) -> bool:
        """Whether these are six files with the official names and sizes."""
        return sorted(batches) == sorted(_OFFICIAL) and all(len(raw) == self.batch_bytes for raw in batches.values())

    def _note(self, batches: Mapping[str, bytes], folder: Path) -> str:
        count = len(batches) - 1
        images = sum(len(raw) for name, raw in batches.items() if name != _TEST) // _RECORD
        batch = f"{count} of 5 training batches" if count < 5 else f"{count} training batches"
        return (
            f"tombola: {self.name}: using {batch} ({images:,} images) from {folder}; "
            "not the official files, results are not comparable"
        )


def _number(name: str) -> tuple[int, str]:
    match = re.fullmatch(r"data_batch_([0-9]+)\.bin", name)
    if match is None:
        raise DataError(f"cifar-10: {name} has no number; expected data_batch_<number>.bin. Rename or remove it.")
    return int(match[1]), name


def _wanted(name: str) -> bool:
    return name == _TEST or (name.startswith("data_batch_") and name.endswith(".bin"))


def _read_folder(folder: Path) -> dict[str, bytes]:
    """The contents of all batch files in a folder; empty where the folder is missing or holds none."""
    place = folder
    batches = {}
    try:
        for path in sorted(folder.iterdir()):
            if _wanted(path.name):
                place = path
                batches[path.name] = path.read_bytes()
    except FileNotFoundError as error:
        if place != folder:
            raise unreadable(place, error) from None
    except OSError as error:
        raise unreadable(place, error) from None
    return batches


def _read_archive(path: Path) -> dict[str, bytes]:
    """The contents of all batch files in the archive, read once from front to end; nothing is unpacked on disk."""
    batches = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                file = archive.extractfile(member) if _wanted(name) else None
                if file is not None:
                    batches[name] = file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise unreadable(path, error) from None
    return batches


def _records(path: Path, raw: bytes) -> npt.NDArray[np.uint8]:
    """One batch file as (images, 3073) bytes, its labels checked."""
    if not raw or len(raw) % _RECORD:
        raise DataError(
            f"{path} has {len(raw):,} bytes; expected a multiple of {_RECORD:,} above zero, one label and 3,072 pixels "
            "for each image. It is truncated or something else: replace it by the original file."
        )
    records = np.frombuffer(raw, np.uint8).reshape(-1, _RECORD)
    wrong = np.flatnonzero(records[:, 0] > 9)
    if wrong.size:
        raise DataError(
            f"{path}: record {wrong[0]} (counted from 0) has label {records[wrong[0], 0]}; expected 0 to 9. "
            "The file is altered or has another layout: replace it by the original file."
        )
    return records


CIFAR_10 = CifarSource(
    name="cifar-10",
    urls=CIFAR_10_URLS,
    archive=PublicFile(name="cifar-10-binary.tar.gz", md5="c32a1d4ab5d03f1284b67883e8d87530", size=170_052_171),
    folder="cifar-10-batches-bin",
    batch_bytes=30_730_000,
)
