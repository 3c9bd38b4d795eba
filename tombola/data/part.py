"""A smaller data set, drawn from a larger one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.data.dataset import Dataset, from_arrays
from tombola.errors import DataError
from tombola.streams import stream

__all__ = ["Part"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """So many training and test examples of a data set, drawn once and for all with the streams "part/train" and
    "part/test" of seed 0; validation examples are drawn from those training examples.

    Args:
        train, test: how many; 0: all.

    Raises:
        DataError: a number below 0.
    """

    train: int = 0
    test: int = 0

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise DataError(f"{name} is {value!r}; expected how many examples, 0 for all.")

    def __call__(self, dataset: Dataset) -> Dataset:
        """The part; its examples keep their order.

        Raises:
            DataError: more examples are asked for than there are.

        >>> from tombola.data import load
        >>> len(Part(train=100)(load("digits")).x_train)
        100
        """
        train = self._index(dataset, "train", len(dataset.x_train))
        test = self._index(dataset, "test", len(dataset.x_test))
        return from_arrays(
            dataset.name,
            dataset.x_train[train],
            dataset.y_train[train],
            dataset.x_test[test],
            dataset.y_test[test],
            classes=dataset.classes or None,
        )

    def _index(self, dataset: Dataset, name: str, count: int) -> Tensor:
        wanted: int = getattr(self, name)
        if wanted > count:
            raise DataError(f"{dataset.name}: {wanted:,} {name} examples asked for, and there are {count:,}.")
        if not wanted:
            return torch.arange(count)
        return torch.randperm(count, generator=stream(0, f"part/{name}"))[:wanted].sort().values
