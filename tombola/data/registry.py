"""The data sets that a recipe can name, and the one function that loads any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tombola.data.arrays import from_npz
from tombola.data.cifar import CIFAR_10
from tombola.data.dataset import Dataset, from_arrays
from tombola.data.idx import FASHION_MNIST, MNIST
from tombola.data.part import Part
from tombola.errors import DataError, suggest

__all__ = ["DATASETS", "DatasetSource", "digits", "load"]


class DatasetSource(Protocol):
    """What stands in the registry: reads a data set from the data folder, or makes it without one."""

    def __call__(self, data_dir: str | Path | None = None, quiet: bool = False) -> Dataset:
        """The data set; raises DataError where its files are wrong or not to be had."""


def digits(data_dir: str | Path | None = None, quiet: bool = False) -> Dataset:
    """The 1,797 digits that come with scikit-learn: uint8 images (n, 1, 8, 8) from 0 to 16, 10 classes.

    Every fourth image (index 0, 4, 8, ...) is in the test set (450), the others are in the training set (1,347).
    Both arguments are ignored: no file is needed.

    >>> len(digits().x_train), digits().input_shape
    (1347, (1, 8, 8))
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x.astype("uint8").reshape(-1, 1, 8, 8)
    y = y.astype("int64")
    keep = [index for index in range(len(x)) if index % 4]
    return from_arrays("digits", x[keep], y[keep], x[::4], y[::4], classes=10)


DATASETS: dict[str, DatasetSource] = {
    "digits": digits,
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "cifar-10": CIFAR_10,
}


def load(name_or_path: str | Path, data_dir: str | Path | None = None, quiet: bool = False) -> Dataset:
    """Load a data set by its name in `DATASETS`, or from the path of an .npz file; a known name goes first.

    Options behind a colon take a part of it: `mnist:train=12000,test=2000` (`tombola.data.part`).

    Files are looked for in `data_dir`, else in the folder that the environment variable TOMBOLA_DATA names, else in
    ./data, and downloaded there where they are missing. `quiet` shows neither progress nor notes on stderr.

    Raises DataError for an unknown name, and for files that are wrong, or missing and not to be had.

    >>> load("digits").classes
    10
    """
    name, _, options = str(name_or_path).rpartition(":")
    if name and "=" in options:
        return _part(options)(load(name, data_dir, quiet))
    source = DATASETS.get(str(name_or_path))
    if source is not None:
        return source(data_dir, quiet)
    path = Path(name_or_path).expanduser()
    if path.suffix == ".npz" or _is_file(path):
        return from_npz(path)
    raise DataError(
        f"{str(name_or_path)!r} is neither a known data set nor a file. {suggest(str(name_or_path), DATASETS)} "
        "Data of your own is given as the path of an .npz file."
    )


def _part(options: str) -> Part:
    found: dict[str, int] = {}
    for option in options.split(","):
        name, _, value = option.partition("=")
        if name not in {"train", "test"} or name in found or not value.isdecimal():
            raise DataError(f"data option {option!r}; expected train=N and test=N, once each, with how many examples.")
        found[name] = int(value)
    return Part(**found)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
