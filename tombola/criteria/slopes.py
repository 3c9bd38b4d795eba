"""Gradients for criteria: of whole batches, of each example, and what is done when they are all 0."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from tombola.criteria.base import Batch, Loss, Probe, Scores
from tombola.errors import UsageError
from tombola.masks import Mask

__all__ = ["batches_of", "example_gradients", "gradients", "mean_gradient", "require_some", "shares", "weights_of"]

_HELD = 1 << 26  # numbers in the gradients of single examples that are held at once: 256 MiB in float32


def weights_of(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """The masked weights, in module order: rounding does not hang on the order of the mask."""
    return {name: weight for name, weight in model.named_parameters() if name in mask}


def batches_of(model: nn.Module, probe: Probe, label: str) -> tuple[list[Batch], Loss]:
    """The batches with examples, on the model's device, and the loss; raises `UsageError` where there are none."""
    batches, loss = probe.examples(label)
    device = next(model.parameters()).device
    return [(x.to(device), y.to(device)) for x, y in batches if len(x)], loss


def gradients(loss: Tensor, weights: Mapping[str, Tensor], *, graph: bool = False) -> dict[str, Tensor]:
    """The gradient of a number in each weight, at least in float32; 0 where the number does not depend on it.

    Each has memory of its own, to be written to.

    Args:
        graph: it can be differentiated again.
    """
    found: dict[str, Tensor] = {}
    places: set[int] = set()
    slopes = torch.autograd.grad(loss, [*weights.values()], create_graph=graph, materialize_grads=True)
    for name, slope in zip(weights, slopes, strict=True):
        wide = slope.to(torch.promote_types(slope.dtype, torch.float32))
        # The gradient of a sum is one tensor for all its terms, or one number seen at all places.
        shared = wide.data_ptr() in places or 0 in wide.stride()
        found[name] = wide.clone(memory_format=torch.contiguous_format) if shared else wide
        places.add(wide.data_ptr())
    return found


def shares(batches: list[Batch]) -> list[float]:
    """The part of all examples that each batch has: means of batches weighted so are the mean over the examples."""
    total = sum(len(x) for x, _ in batches)
    return [len(x) / total for x, _ in batches]


def mean_gradient(model: nn.Module, weights: Mapping[str, Tensor], probe: Probe, label: str) -> dict[str, Tensor]:
    """The gradient of the mean loss over all examples: one forward and backward a batch.

    Args:
        label: of the criterion, for errors.
    """
    batches, loss = batches_of(model, probe, label)
    total: dict[str, Tensor] = {}
    for (x, y), share in zip(batches, shares(batches), strict=True):
        found = gradients(loss(model(x), y) * share, weights)
        total = {name: total[name].add_(g) for name, g in found.items()} if total else found
    return total


def require_some(scores: Scores, mask: Mask, label: str, where: str = "") -> None:
    """Refuse scores that are 0 at every survivor, for then the gradients say nothing.

    Raises:
        UsageError: they are.
    """
    for name, score in scores.items():
        if bool((score * mask[name].to(score.device)).any()):
            return
    raise UsageError(
        f"Every gradient is 0{where}, so the criterion {label} has nothing to go by: first-order criteria say nothing "
        f"at a minimum, or where no path is left from the weights to the loss. Use obd or magnitude, score at another "
        f"moment of the training, or give the probe other examples."
    )


def example_gradients(
    model: nn.Module, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, loss: Loss
) -> Iterator[dict[str, Tensor]]:
    """The gradients of single examples, some at a time: weight -> (examples, *shape).

    By `torch.func.vmap` where it can follow the network; else (recurrent layers, control flow that looks at numbers)
    example by example.
    """
    sizes = sum(weight.numel() for weight in weights.values())
    parts = max(1, _HELD // max(1, sizes))
    held = {name: weight.detach() for name, weight in weights.items()}

    def single(values: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
        return loss(torch.func.functional_call(model, values, (one[None],)), target[None])

    mapped = torch.func.vmap(torch.func.grad(single), in_dims=(None, 0, 0))

    def one_by_one(xs: Tensor, ys: Tensor) -> dict[str, Tensor]:
        each = [gradients(loss(model(a[None]), b[None]), weights) for a, b in zip(xs, ys, strict=True)]
        return {name: torch.stack([g[name] for g in each]) for name in weights}

    together = True
    for xs, ys in zip(x.split(parts), y.split(parts), strict=True):
        if together:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # operations without a batching rule are slow, not wrong
                    yield mapped(held, xs, ys)
                continue
            except Exception:  # whatever vmap cannot do; a mistake of the network's own comes back below
                together = False
        yield one_by_one(xs, ys)
