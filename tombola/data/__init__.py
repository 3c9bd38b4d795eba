"""Data sets: reading, checking, downloading, splitting and normalising them."""

from tombola.data.arrays import from_npz, from_torch
from tombola.data.dataset import Dataset, from_arrays
from tombola.data.normalise import NORMALISATIONS, Affine
from tombola.data.registry import DATASETS, DatasetSource, load
from tombola.data.split import Split, split

__all__ = [
    "DATASETS",
    "NORMALISATIONS",
    "Affine",
    "Dataset",
    "DatasetSource",
    "Split",
    "from_arrays",
    "from_npz",
    "from_torch",
    "load",
    "split",
]
