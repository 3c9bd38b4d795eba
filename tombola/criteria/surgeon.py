"""Optimal brain surgeon: what a weight's removal costs when all others answer to it, and what they answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, label_of, needs
from tombola.criteria.calibration import cholesky
from tombola.criteria.looking import scoring
from tombola.criteria.work import Size, Work
from tombola.errors import UsageError
from tombola.masks import Mask

__all__ = ["Obs", "WoodFisher"]

_MOST = 2_000_000_000  # numbers of all gradients together: 8 GB in float32
_ROOM = 1 << 24  # numbers of the blocks that are solved together: 128 MB in float64


def _work(own: Obs | WoodFisher, size: Size) -> Work:
    """As measured on fully connected networks; a tenth of it where convolutions make up the time."""
    n = math.ceil(size.examples / own.group)
    _check_room(label_of(own).lower(), n, size.total)
    largest = max(map(math.prod, size.shapes))
    return Work(passes=10.0 * n, memory=4 * n * size.total + (0 if own.block else 24 * n * largest))


@needs(data=True, work=_work)
@dataclass(frozen=True, kw_only=True, slots=True)
class Obs:
    """Optimal brain surgeon: the rise of the loss when all other weights of the tensor answer to a removal.

        s_q = w_q^2 / (2 [H^-1]_qq),   H = 1/N sum_n g_n g_nT + damping * I

    g_n is the gradient of example n's loss in the masked network, so H is the empirical Fisher matrix, one for each
    tensor, surviving weights only. Once the mask is cut, the survivors K of a tensor answer to the removed Q together:
    dw_K = H_KK^-1 H_KQ w_Q, which is -H^-1_:Q ([H^-1]_QQ)^-1 w_Q.

    Nothing of the size of H is formed: with n gradients of k weights the solution comes from a matrix of min(n, k)^2
    numbers, exactly (Woodbury). Memory: n x prunable weights numbers in the
    network's precision, and with block=0 three times n x weights of the largest tensor in float64.

    Args:
        block: consecutive weights of a tensor whose H is one; others count as independent; 0: the whole tensor.
        damping: added to the diagonal, above 0; in units of squared gradients, as in the papers (1e-8 to 1e-4). Where
            it is above all curvatures the criterion is magnitude.
        group: examples whose gradients are averaged to one g_n.

    Raises:
        UsageError: no batches, more than 2e9 numbers of gradients, a singular H, or an option out of range.

    Source: Hassibi and Stork (1993), Optimal Brain Surgeon, with the Fisher matrix of Singh and Alistarh (2020, arXiv
    2004.14340). Hassibi and Stork take gradients of the output; both build H^-1 by rank-1 updates, which is the same.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 1.0]]))
    >>> x = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    >>> probe = Probe(batches=[(x, layer(x).detach() + 1)], loss=nn.functional.mse_loss)
    >>> before, after = Mask.dense(layer), Mask({"weight": torch.tensor([[True, False]])})
    >>> Obs().adjusted(layer, before, after, probe)["weight"].round(decimals=4)  # two equal inputs: one takes over
    tensor([[2., 0.]])
    """

    block: int = 0
    damping: float = 1e-6
    group: int = 1

    def __post_init__(self) -> None:
        _check(self.block, self.damping, self.group)

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, float64; weights that are gone have 0."""
        return _fisher_scores("obs", model, mask, probe, self.block, self.damping, self.group)

    def adjusted(self, model: nn.Module, before: Mask, after: Mask, probe: Probe) -> dict[str, Tensor]:
        """Masked weights with what the survivors take over; pruned places are 0."""
        return _fisher_adjusted("obs", model, before, after, probe, self.block, self.damping, self.group)


@needs(data=True, work=_work)
@dataclass(frozen=True, kw_only=True, slots=True)
class WoodFisher:
    """As `Obs`, with an H for each block of consecutive weights: interactions between blocks count as none.

    Args:
        block: weights in a block; 50 to 2000 in the paper.
        damping: added to the diagonal, above 0.
        group: examples whose gradients are averaged to one ("mini-batch size" of the paper, which sums 400 gradients).

    Raises:
        UsageError: as for `Obs`.

    Source: Singh and Alistarh (2020, arXiv 2004.14340). There a level is reached in many small steps with gradients
    of their own each; here H is that of the network before the cut.
    """

    block: int = 1000
    damping: float = 1e-5
    group: int = 1

    def __post_init__(self) -> None:
        _check(self.block, self.damping, self.group)

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, float64; weights that are gone have 0."""
        return _fisher_scores("woodfisher", model, mask, probe, self.block, self.damping, self.group)

    def adjusted(self, model: nn.Module, before: Mask, after: Mask, probe: Probe) -> dict[str, Tensor]:
        """Masked weights with what the survivors take over; pruned places are 0."""
        return _fisher_adjusted("woodfisher", model, before, after, probe, self.block, self.damping, self.group)


def _check(block: int, damping: float, group: int) -> None:
    if block < 0 or group < 1:
        raise UsageError(f"block={block!r}, group={group!r}; expected whole numbers, block 0 or more, group 1 or more.")
    if not (math.isfinite(damping) and damping > 0):
        raise UsageError(f"damping is {damping!r}; expected a number above 0.")


def _check_room(name: str, gradients: int, weights: int) -> None:
    if gradients * weights > _MOST:
        raise UsageError(
            f"The criterion {name} would hold {gradients:,} gradients of {weights:,} weights; expected at most "
            f"{_MOST:,} numbers. Give the probe fewer examples, or average gradients "
            f"(group={math.ceil(gradients * weights / _MOST)})."
        )


def _fisher_scores(
    name: str, model: nn.Module, mask: Mask, probe: Probe, block: int, damping: float, group: int
) -> Scores:
    weights, found = dict(model.named_parameters()), {}
    for weight, slopes in _gradients(name, model, mask, probe, group).items():
        parts = [_inverse_diagonal(part, damping, name) for part in _blocks(slopes, block)]
        inverse = torch.cat(parts).flatten()[: slopes.shape[1]].view(mask.shapes[weight])
        value = weights[weight].detach().double()
        found[weight] = (value.square() / (2 * inverse)).where(mask[weight].to(value.device), 0.0)
    return found


def _fisher_adjusted(
    name: str, model: nn.Module, before: Mask, after: Mask, probe: Probe, block: int, damping: float, group: int
) -> dict[str, Tensor]:
    weights, found = dict(model.named_parameters()), {}
    for weight, slopes in _gradients(name, model, before, probe, group).items():
        value = weights[weight].detach()
        there, stays = before[weight].to(value.device), after[weight].to(value.device)
        gone = value.double().where(there & ~stays, 0.0).view(1, -1)
        parts = [
            _answer(slope, removed[:, 0], kept[:, 0], damping, name)
            for slope, removed, kept in zip(
                _blocks(slopes, block),
                _blocks(gone, block, len(slopes)),
                _blocks(stays.double().view(1, -1), block, len(slopes)),
                strict=True,
            )
        ]
        moved = torch.cat(parts).flatten()[: slopes.shape[1]].view(value.shape)
        found[weight] = (value.double() + moved).where(stays, 0.0).to(value.dtype)
    return found


def _gradients(name: str, model: nn.Module, mask: Mask, probe: Probe, group: int) -> dict[str, Tensor]:
    """Masked weight -> gradients of single examples (or means of groups), shape (n, weights), 0 where none is alive."""
    batches, loss = probe.examples(name)
    n = sum(math.ceil(len(x) / group) for x, _ in batches)
    _check_room(name, n, mask.total)
    with scoring(model, mask, probe) as network:
        named = dict(network.named_parameters())
        weights = {weight: named[weight] for weight in mask}
        gone = {weight: ~places.to(weights[weight].device) for weight, places in mask.sparse().items()}
        found = {weight: torch.empty((n, w.numel()), dtype=w.dtype, device=w.device) for weight, w in weights.items()}
        pairs = [pair for x, y in batches if len(x) for pair in zip(x.split(group), y.split(group), strict=True)]
        for row, (x, y) in enumerate(pairs):
            value = loss(network(x), y)
            slopes = torch.autograd.grad(value, list(weights.values()), allow_unused=True, materialize_grads=True)
            for weight, slope in zip(mask, slopes, strict=True):
                found[weight][row] = (slope.masked_fill(gone[weight], 0) if weight in gone else slope).flatten()
    return found


def _blocks(rows: Tensor, block: int, like: int = 0) -> Iterator[Tensor]:
    """Rows (n, weights) as blocks (some, n, block) in float64, as many at once as fit; filled up with 0.

    Args:
        like: rows of the tensor whose parts these must match; 0: its own.
    """
    n, size = like or len(rows), min(block or rows.shape[1], rows.shape[1])
    filled = torch.nn.functional.pad(rows, (0, -rows.shape[1] % size))
    for part in filled.view(len(rows), -1, size).split(max(1, _ROOM // (n * size)), dim=1):
        yield part.movedim(0, 1).double()


def _inverse_diagonal(slopes: Tensor, damping: float, name: str) -> Tensor:
    """[H^-1]_qq, shape (blocks, size), of gradients (blocks, n, size)."""
    n, size = slopes.shape[1:]
    if size <= n:
        root = cholesky(_damped(slopes.transpose(1, 2) @ slopes / n, damping), name, "damping")
        found = torch.cholesky_inverse(root).diagonal(dim1=1, dim2=2)
    else:
        root = cholesky(_damped(slopes @ slopes.transpose(1, 2), n * damping), name, "damping")
        found = (1 - torch.linalg.solve_triangular(root, slopes, upper=False).square().sum(1)) / damping
    # [H^-1]_qq >= 1 / H_qq holds for every H; rounding may not break it, for the score divides by it.
    return found.maximum(1 / (slopes.square().mean(1) + damping))


def _answer(slopes: Tensor, removed: Tensor, kept: Tensor, damping: float, name: str) -> Tensor:
    """H_KK^-1 H_KQ w_Q, shape (blocks, size); 0 outside K.

    Args:
        slopes: gradients (blocks, n, size).
        removed: w_Q, 0 elsewhere (blocks, size).
        kept: 1 at K, 0 elsewhere (blocks, size).
    """
    n, size = slopes.shape[1:]
    along = slopes @ removed[:, :, None] / n
    slopes = slopes * kept[:, None]
    across = slopes.transpose(1, 2)
    if size <= n:
        root = cholesky(_damped(across @ slopes / n, damping), name, "damping")
        return torch.cholesky_solve(across @ along, root)[:, :, 0]
    root = cholesky(_damped(slopes @ across / n, damping), name, "damping")
    return (across @ torch.cholesky_solve(along, root))[:, :, 0]


def _damped(matrices: Tensor, damping: float) -> Tensor:
    matrices.diagonal(dim1=1, dim2=2).add_(damping)
    return matrices
