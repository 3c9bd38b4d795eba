"""A data set on a device, split and ready to be trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tombola.data import NORMALISATIONS, Affine, Dataset, split
from tombola.training.settings import Training

__all__ = ["Examples", "Sets", "loss_of", "prepare"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Examples:
    """Inputs as they are stored (uint8 where the source is) and targets, on one device."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sets:
    """Training, validation and test examples, and the affine map that every input passes.

    `train` holds the validation examples too, where the data set keeps them; `train_index` says which ones to train on.
    """

    train: Examples
    train_index: Tensor
    validation: Examples
    test: Examples
    affine: Affine
    classes: int

    def inputs(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Normalised inputs in the dtype of the network."""
        if len(self.affine.scale) > 1 or any(self.affine.shift):
            return self.affine.apply(x).to(dtype)
        return x.to(torch.float32, copy=True).mul_(self.affine.scale[0]).to(dtype)  # each step pays for this


def prepare(dataset: Dataset, training: Training, device: torch.device) -> Sets:
    """Split, normalise (by the training part alone) and move a data set.

    Raises:
        DataError: too few examples, or inputs that the normalisation cannot take.
    """
    parts = split(dataset, training.split_seed, validation=training.validation or None)
    x, y = dataset.x_train, dataset.y_train
    return Sets(
        train=Examples(x=x.to(device), y=y.to(device)),
        train_index=parts.train.to(device),
        validation=Examples(x=x[parts.validation].to(device), y=y[parts.validation].to(device)),
        test=Examples(x=dataset.x_test.to(device), y=dataset.y_test.to(device)),
        affine=NORMALISATIONS[training.normalise](x[parts.train]),
        classes=dataset.classes,
    )


def loss_of(outputs: Tensor, y: Tensor, training: Training, *, reduction: str = "mean") -> Tensor:
    """The training loss: -log p(y) (smoothed), or the squared error averaged over outputs.

    Args:
        outputs: (n, outputs).
        y: class labels (n,) or targets of the shape of the outputs.
        reduction: over examples, "mean" or "sum".
    """
    if training.loss == "cross-entropy":
        return F.cross_entropy(outputs, y, label_smoothing=training.label_smoothing, reduction=reduction)
    if not y.is_floating_point():
        y = F.one_hot(y, outputs.shape[1])
    errors = (outputs - y.view(outputs.shape).to(outputs.dtype)).square().view(len(y), -1).mean(1)
    return errors.mean() if reduction == "mean" else errors.sum()
