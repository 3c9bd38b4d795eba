"""The examples that a criterion scores on, drawn from the training set."""

from __future__ import annotations

import torch
from torch import Tensor

from tombola.criteria import Batch, Probe
from tombola.errors import UsageError
from tombola.requests import ProbeSpec
from tombola.streams import derive, stream
from tombola.training.order import Order
from tombola.training.sets import Sets, loss_of
from tombola.training.settings import Training

__all__ = ["probe_of"]


def probe_of(sets: Sets, training: Training, spec: ProbeSpec, seed: int, dtype: torch.dtype) -> Probe:
    """Batches of the training set (never of validation or test examples) and the training loss.

    Every example of the batches is another one. `more` goes through the whole training set, epoch after epoch.

    Args:
        dtype: of the network's inputs.

    Raises:
        UsageError: more examples are asked for than the training set has, of all or of a class.
    """
    order = Order(sets.train_index, batch=training.batch_size, seed=derive(seed, "probe", "more"))
    batches = [
        _batch(sets, index, spec, derive(seed, "probe", n), dtype) for n, index in enumerate(_drawn(sets, spec, seed))
    ]

    def more(step: int) -> Batch:
        return _batch(sets, order.batch(step), spec, derive(seed, "probe", "more", step), dtype)

    return Probe(seed=seed, batches=batches, loss=lambda outputs, y: loss_of(outputs, y, training), more=more)


def _drawn(sets: Sets, spec: ProbeSpec, seed: int) -> list[Tensor]:
    """For each batch, where its examples are in the training set."""
    index, wanted = sets.train_index, spec.batches * spec.size
    generator = stream(seed, "probe/examples")
    if not spec.balanced:
        if wanted > len(index):
            raise UsageError(
                f"The probe asks for {spec.batches} x {spec.size} examples; the training set has {len(index):,}."
            )
        order = torch.randperm(len(index), generator=generator)[:wanted].to(index.device)
        return list(index[order].view(spec.batches, spec.size))
    if not sets.classes or spec.size % sets.classes:
        what = f"a size that is a multiple of the {sets.classes} classes" if sets.classes else "class labels"
        raise UsageError(f"A balanced probe needs {what}; probe.size is {spec.size}.")
    each = spec.size // sets.classes
    labels = sets.train.y[index]
    columns = []
    for label in range(sets.classes):
        of_class = index[labels == label]
        if each * spec.batches > len(of_class):
            raise UsageError(
                f"The probe asks for {each * spec.batches} examples of class {label}; "
                f"the training set has {len(of_class)}."
            )
        order = torch.randperm(len(of_class), generator=generator)[: each * spec.batches].to(index.device)
        columns.append(of_class[order].view(spec.batches, each))
    mixed = torch.cat(columns, 1)  # a batch that is cut into parts has all classes in each
    return [row[torch.randperm(len(row), generator=generator).to(row.device)] for row in mixed]


def _batch(sets: Sets, index: Tensor, spec: ProbeSpec, seed: int, dtype: torch.dtype) -> Batch:
    x, y = sets.inputs(sets.train.x.index_select(0, index), dtype), sets.train.y.index_select(0, index)
    if spec.random_inputs:
        noise = torch.randn(x.shape, generator=stream(seed, "inputs")).to(x)
        x = noise * x.std() + x.mean()
    if spec.random_labels:
        generator = stream(seed, "labels")
        if sets.classes:
            y = torch.randint(sets.classes, y.shape, generator=generator).to(y.device)
        else:
            y = y[torch.randperm(len(y), generator=generator).to(y.device)]
    return x, y
