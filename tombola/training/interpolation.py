"""The straight line between two networks: what they do on it, and how far apart they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tombola.answers import Interpolated, Mixed
from tombola.masks import Mask
from tombola.requests import Interpolate
from tombola.streams import stream
from tombola.training.evaluation import evaluate
from tombola.training.forward import laid_out, outputs_of
from tombola.training.loop import Stopped
from tombola.training.sets import Sets
from tombola.training.settings import Training
from tombola.training.state import State, load_state

__all__ = ["angle", "blend", "drawn", "interpolate", "recompute", "running", "survivors"]

_BATCH = 500  # examples of which batch norm takes mean and variance at once


def blend(one: Mapping[str, Tensor], other: Mapping[str, Tensor], alpha: float) -> State:
    """(1 - alpha) * one + alpha * other, exactly `one` at 0 and `other` at 1; counters and other integers are `one`'s.

    Args:
        alpha: in [0, 1].

    >>> blend({"w": torch.tensor([0.0, 4.0])}, {"w": torch.tensor([1.0, 4.0])}, 0.25)
    {'w': tensor([0.2500, 4.0000])}
    """
    return {n: a.lerp(other[n], alpha) if a.is_floating_point() else a.clone() for n, a in one.items()}


def survivors(state: Mapping[str, Tensor], mask: Mask) -> Tensor:
    """The weights that the mask keeps, one behind the other, in float64.

    >>> survivors({"w": torch.tensor([1.0, 2.0])}, Mask({"w": torch.tensor([False, True])}))
    tensor([2.], dtype=torch.float64)
    """
    return torch.cat([state[name][kept].double() for name, kept in mask.items()])


def angle(a: Tensor, b: Tensor) -> float | None:
    """Between two vectors, in degrees: 2 * atan2(|u - v|, |u + v|) of the unit vectors u and v, exact for small angles
    too (Kahan 2006); None where one of them is 0.

    >>> angle(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]))
    90.0
    """
    if not (a.norm() > 0 and b.norm() > 0):
        return None
    u, v = a / a.norm(), b / b.norm()
    return math.degrees(2 * math.atan2(float((u - v).norm()), float((u + v).norm())))


def running(model: nn.Module) -> list[nn.Module]:
    """The layers that keep running statistics of what passes them (batch norm)."""
    kept = (module for module in model.modules() if isinstance(getattr(module, "running_mean", None), Tensor))
    return [module for module in kept if hasattr(module, "reset_running_stats")]


def drawn(sets: Sets, training: Training, count: int) -> Tensor:
    """Indices of so many examples of the training part, or of all: always the same ones, in the same order.

    Drawn by torch.randperm from `stream(split_seed, "interpolation")`.
    """
    order = torch.randperm(len(sets.train_index), generator=stream(training.split_seed, "interpolation"))
    return sets.train_index[order[:count].to(sets.train_index.device)]


@torch.no_grad()
def recompute(model: nn.Module, sets: Sets, training: Training, index: Tensor) -> None:
    """Give batch norm the mean and variance of these training examples, in place of its running ones.

    Batches of about 500 pass the network in evaluation mode, with batch norm alone in training mode (no dropout, no
    augmentation); each layer takes the plain mean over batches of their means and unbiased variances. As the repair of
    interpolated networks does it (Jordan et al. 2022, arXiv 2211.08403), without its rescaling.

    Args:
        index: which of `sets.train`, 2 or more.
    """
    dtype = next(model.parameters()).dtype
    with _averaging(model):
        for part in index.tensor_split(max(1, round(len(index) / _BATCH))):
            outputs_of(model, sets.train.x[part], sets, training, dtype)


@contextmanager
def _averaging(model: nn.Module) -> Iterator[None]:
    """Batch norm begins new statistics and takes plain means of all that passes; everything else is evaluated."""
    layers, mode = running(model), model.training
    before = [getattr(layer, "momentum", None) for layer in layers]
    model.eval()
    try:
        for layer in layers:
            layer.reset_running_stats()  # type: ignore[operator]
            layer.momentum = None  # type: ignore[assignment] # a cumulative mean
            layer.train()
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum  # type: ignore[assignment]
        model.train(mode)


def interpolate(
    model: nn.Module,
    request: Interpolate,
    one: State,
    other: State,
    origin: State | None,
    *,
    sets: Sets,
    training: Training,
    stopping: Callable[[], bool] = lambda: False,
) -> Interpolated:
    """Loss and error at alpha = 0, 1 / (points - 1), ..., 1, and distance and angle of the ends.

    W(alpha) = (1 - alpha) * one + alpha * other for weights and running statistics alike (`own`); where there are
    running statistics, also with new ones at each point (`recomputed`). Frankle et al. (2020, arXiv 1912.05671).

    Args:
        model: a network of the kind, on the device of the sets; its weights are lost.
        origin: where both set out.

    Returns:
        The answer, without its request.

    Raises:
        Stopped: `stopping()` said so.
    """
    ends = [survivors(state, request.mask) for state in (one, other)]
    start = None if origin is None else survivors(origin, request.mask)
    laid_out(model, training)
    measured, images = drawn(sets, training, request.examples), drawn(sets, training, request.recompute)
    own: list[Mixed] = []
    recomputed: list[Mixed] = []
    for number in range(request.points):
        if stopping():
            raise Stopped
        alpha = number / (request.points - 1)
        load_state(model, blend(one, other, alpha))
        own.append(_mixed(model, alpha, measured, sets, training))
        if running(model):
            recompute(model, sets, training, images)
            recomputed.append(_mixed(model, alpha, measured, sets, training))
    return Interpolated(
        request="",
        own=tuple(own),
        recomputed=tuple(recomputed),
        distance=float((ends[0] - ends[1]).norm()),
        angle=angle(*ends),
        ways=() if start is None else tuple(float((end - start).norm()) for end in ends),
        weights=request.mask.alive,
    )


def _mixed(model: nn.Module, alpha: float, index: Tensor, sets: Sets, training: Training) -> Mixed:
    train_loss, train_metric = evaluate(model, sets.train, sets, training, index=index)
    test_loss, test_metric = evaluate(model, sets.test, sets, training)
    # Without classes the metric is an error already.
    train_error, test_error = (1 - m if sets.classes else m for m in (train_metric, test_metric))
    return Mixed(
        alpha=alpha,
        train_loss=train_loss if math.isfinite(train_loss) else None,
        train_error=train_error,
        test_loss=test_loss if math.isfinite(test_loss) else None,
        test_error=test_error,
    )
