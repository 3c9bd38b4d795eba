"""Data sets: reading, checking, downloading, splitting and normalising them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily

if TYPE_CHECKING:
    from tombola.data.arrays import from_npz, from_torch
    from tombola.data.dataset import Dataset, from_arrays
    from tombola.data.normalise import NORMALISATIONS, Affine
    from tombola.data.registry import DATASETS, DatasetSource, load
    from tombola.data.splitting import Split, split

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

__getattr__ = lazily(
    __name__,
    {
        "Affine": "tombola.data.normalise",
        "DATASETS": "tombola.data.registry",
        "Dataset": "tombola.data.dataset",
        "DatasetSource": "tombola.data.registry",
        "NORMALISATIONS": "tombola.data.normalise",
        "Split": "tombola.data.splitting",
        "from_arrays": "tombola.data.dataset",
        "from_npz": "tombola.data.arrays",
        "from_torch": "tombola.data.arrays",
        "load": "tombola.data.registry",
        "split": "tombola.data.splitting",
    },
)
