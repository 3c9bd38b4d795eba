"""The fixed validation split, drawn from the training set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.data.dataset import Dataset
from tombola.errors import DataError
from tombola.streams import stream

__all__ = ["Split", "split"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Split:
    """Two disjoint sets of training examples that together are all of them: int64 indices in ascending order."""

    train: Tensor
    validation: Tensor


def split(dataset: Dataset, seed: int, validation: int | None = None) -> Split:
    """Draw the validation examples from the training set with the stream "split" of `seed`.

    `validation` is their number, 1 or more; None stands for 5,000 where there are at least 50,000 training examples,
    else for a tenth of them (rounded, half up, at least 1).

    Raises DataError where there are fewer than two examples, or none would be left to train on.
    """
    count = len(dataset.x_train)
    if count < 2:
        raise DataError(f"{dataset.name}: x_train has {count} example; a validation split needs at least 2. Add some.")
    number = validation if validation is not None else (5_000 if count >= 50_000 else max(1, (count + 5) // 10))
    if not 1 <= number < count:
        raise DataError(
            f"{dataset.name}: {number} validation examples asked for, out of {count} training examples; "
            f"expected 1 to {count - 1}."
        )
    order = torch.randperm(count, generator=stream(seed, "split"))
    return Split(train=order[number:].sort().values, validation=order[:number].sort().values)
