"""Whether data, network and training go together, found out before anything is trained."""

from __future__ import annotations

import torch
from torch import nn

from tombola.data import NORMALISATIONS, Dataset
from tombola.data.augmentation import augmentation_of
from tombola.errors import UsageError, suggest
from tombola.streams import seeded
from tombola.training.settings import Training
from tombola.training.single import check_single

__all__ = ["check_network", "check_settings"]


def check_settings(training: Training, dataset: Dataset) -> None:
    """Refuse settings that do not fit the data.

    Raises:
        UsageError: an unknown normalisation, an augmentation of what is no image, a loss that needs labels.
    """
    if training.normalise not in NORMALISATIONS:
        known = suggest(training.normalise, NORMALISATIONS)
        raise UsageError(f"Unknown normalisation {training.normalise!r}. {known}")
    augmentation_of(training.augment, dataset.input_shape)
    if training.loss == "cross-entropy" and not dataset.classes:
        raise UsageError("The targets are no class labels; use --loss mean-squared-error.")


def check_network(model: nn.Module, training: Training, dataset: Dataset, outputs: int) -> None:
    """One forward over two examples: refuse a network that cannot read them, or whose output does not fit the targets.

    Args:
        outputs: numbers it must put out for one example.

    Raises:
        UsageError: it has no parameter, raises, puts out something else, or cannot train on a single example where
            batches are that small.
    """
    if not list(model.parameters()):
        raise UsageError(f"{type(model).__name__} has no parameter, so there is nothing to train or prune.")
    x, y = dataset.x_train[:2], dataset.y_train[:2]
    model.eval()
    try:
        with torch.no_grad(), seeded(0):
            found = model(x.to(next(model.parameters()).dtype))
    except Exception as error:  # whatever a user's forward raises
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"The model cannot read inputs of shape {tuple(x.shape)}: {reason}") from error
    if training.batch_size // training.parts == 1:
        check_single(model, x[:1].to(next(model.parameters()).dtype))
    fitting = {(len(x), outputs)} | (set() if dataset.classes else {tuple(y.shape)})
    if not isinstance(found, torch.Tensor) or tuple(found.shape) not in fitting:
        got = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        what = f"{dataset.classes} classes" if dataset.classes else "targets"
        wanted = f"got {got} for {len(x)} inputs, expected {(len(x), outputs)}"
        raise UsageError(f"The model's output does not fit the {what}: {wanted}.")
