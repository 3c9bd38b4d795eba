"""What layers read on the examples of a probe, summed in float64; and the factors of such sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe
from tombola.criteria.looking import layers_of, patches, reading, scoring, units_last
from tombola.errors import UsageError
from tombola.masks import Mask

__all__ = ["WIDEST", "Moments", "Read", "cholesky", "grams_of", "reads_of", "require_called"]

WIDEST = 20_000  # fan-in of the largest Gram matrix: 3.2 GB in float64
_ROOM = 1 << 24  # numbers of one part of patches: 128 MB in float64


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Read:
    """What a layer reads and puts out, over all examples and positions; float64.

    Args:
        mean: E[x_j], shape (groups, fan-in); the columns of `as_matrix`. Zero padding counts as read.
        variance: Var[x_j], shape (groups, fan-in); exactly 0 where x_j is one number throughout.
        squares: sum of x_j^2, shape (groups, fan-in).
        output: variance of each unit's output, shape (groups, units).
    """

    mean: Tensor
    variance: Tensor
    squares: Tensor
    output: Tensor


class Moments:
    """Sums about the first row: no cancellation where a column hardly varies, exactly 0 where it is constant."""

    def __init__(self) -> None:
        self.n = 0

    def add(self, rows: Tensor) -> None:
        """Rows (groups, n, columns)."""
        if not self.n:
            self.origin = rows[:, :1].clone()
            self.first, self.second, self.squares = (torch.zeros_like(self.origin[:, 0]) for _ in range(3))
        away = rows - self.origin
        self.n += rows.shape[1]
        self.first += away.sum(1)
        self.second += away.square().sum(1)
        self.squares += rows.square().sum(1)

    @property
    def mean(self) -> Tensor:
        return self.origin[:, 0] + self.first / self.n

    @property
    def variance(self) -> Tensor:
        return (self.second / self.n - (self.first / self.n).square()).clamp(min=0)


def reads_of(model: nn.Module, mask: Mask, probe: Probe, name: str) -> dict[str, Read]:
    """Masked weight -> moments of what its layer reads in the masked network; one forward over each batch.

    Args:
        name: of the criterion, for errors.

    Raises:
        UsageError: no batches, a layer of another kind, or one that the network never calls.

    >>> probe = Probe(batches=[(torch.tensor([[1.0, 2.0], [1.0, 4.0]]), torch.zeros(2))], loss=nn.functional.mse_loss)
    >>> layer = nn.Linear(2, 1)
    >>> read = reads_of(layer, Mask.dense(layer), probe, "mine")["weight"]
    >>> read.mean.tolist(), read.variance.tolist()
    ([[1.0, 3.0]], [[0.0, 1.0]])
    """
    inputs: dict[str, Moments] = {weight: Moments() for weight in mask}
    outputs: dict[str, Moments] = {weight: Moments() for weight in mask}

    def see(weight: str, layer: nn.Module, x: Tensor, out: Tensor) -> None:
        for rows in _rows(layer, x):
            inputs[weight].add(rows)
        outputs[weight].add(units_last(layer, out).double()[None])

    _look(model, mask, probe, name, see)
    found = {}
    for weight in mask:
        seen = inputs[weight]
        require_called(bool(seen.n), weight, name)
        output = outputs[weight].variance.view(len(seen.mean), -1)
        found[weight] = Read(mean=seen.mean, variance=seen.variance, squares=seen.squares, output=output)
    return found


def grams_of(model: nn.Module, mask: Mask, probe: Probe, name: str) -> dict[str, Tensor]:
    """Masked weight -> the sum of x xT over what its layer reads, shape (groups, fan-in, fan-in), float64.

    All examples and positions count alike. Memory: 8 x groups x fan-in^2 bytes for each layer.

    Args:
        name: of the criterion, for errors.

    Raises:
        UsageError: as `reads_of`; a fan-in above `WIDEST`.
    """
    grams: dict[str, Tensor] = {}

    def see(weight: str, layer: nn.Module, x: Tensor, out: Tensor) -> None:
        for rows in _rows(layer, x):
            if rows.shape[2] > WIDEST:
                raise UsageError(
                    f"The criterion {name} needs a matrix of fan-in x fan-in numbers, and {weight!r} has a fan-in of "
                    f"{rows.shape[2]:,}; expected at most {WIDEST:,}. Protect it, or use wanda."
                )
            gram = rows.transpose(1, 2) @ rows
            grams[weight] = grams[weight] + gram if weight in grams else gram

    _look(model, mask, probe, name, see)
    for weight in mask:
        require_called(weight in grams, weight, name)
    return grams


def cholesky(matrix: Tensor, name: str, option: str) -> Tensor:
    """The lower factor L of positive definite matrices L LT (..., n, n).

    Args:
        name, option: of the criterion and of its damping, for the error.

    Raises:
        UsageError: a matrix is not positive definite.

    >>> cholesky(torch.tensor([[4.0]]), "obs", "damping")
    tensor([[2.]])
    """
    found: Tensor
    found, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed.any()) or not bool(found.isfinite().all()):
        raise UsageError(
            f"The criterion {name} has to invert a matrix that is singular or not finite; expected finite examples "
            f"and weights, and a larger {option}."
        )
    return found


def _look(
    model: nn.Module, mask: Mask, probe: Probe, name: str, see: Callable[[str, nn.Module, Tensor, Tensor], None]
) -> None:
    batches, _ = probe.examples(name)
    with scoring(model, mask, probe) as network, torch.no_grad():
        layers = layers_of(network, mask, name)
        with reading(layers, lambda weight, x, out: see(weight, layers[weight], x, out)):
            for x, _ in batches:
                if len(x):
                    network(x)


def _rows(layer: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """`patches` in float64, in parts: an unfolded batch of a wide convolution would not fit."""
    if isinstance(layer, nn.modules.conv._ConvNd):
        x = x if x.ndim == len(layer.kernel_size) + 2 else x[None]
        each = x[0].numel() * math.prod(layer.kernel_size)
    else:
        x = x.reshape(-1, x.shape[-1])
        each = x.shape[-1]
    for part in x.split(max(1, _ROOM // each)):
        yield patches(layer, part).double()


def require_called(called: bool, weight: str, name: str) -> None:
    """Raises `UsageError` where hooks of a masked weight's layer saw nothing: its weight is used past the module."""
    if not called:
        raise UsageError(
            f"The criterion {name} looks at what layers read, and the layer of {weight!r} was never called as a module "
            f"on the probe's examples. Leave it out with protect=({weight!r},), or use another criterion."
        )
