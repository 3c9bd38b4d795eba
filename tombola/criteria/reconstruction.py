"""Criteria that keep what each layer puts out on examples: Wanda, and SparseGPT with its compensation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.calibration import cholesky, grams_of, reads_of
from tombola.criteria.looking import as_matrix, from_matrix, layers_of
from tombola.criteria.work import Size, Work
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.tensors import smallest

__all__ = ["SparseGpt", "Wanda"]


@needs(data=True, labels=False, inside=True, passes=0.34)
@dataclass(frozen=True, kw_only=True, slots=True)
class Wanda:
    """Weights and activations: the rise of the layer's squared error when one weight goes.

        s_ij = |w_ij| * ||x_j||_2

    x_j is input j of the layer over all examples and positions (for convolutions a column of the unfolded patches, zero
    padding included), in the masked network. s_ij^2 is exactly what the removal of w_ij alone adds to ||W X - W' X||^2,
    and sums of them what a mask adds, where the inputs are orthogonal.

    Args:
        per_output: weights are compared within their row of W only, as in the paper: s_ij is divided by the smallest
            score that the row would keep if every row kept the budget's share (`Probe.keep` / survivors; half where
            there is no budget), so what scores 1 or more stays. Under one threshold over all layers, and under equal
            shares, rows lose alike, to rounding; where a layer gets another share, nearly so. false: s_ij itself.

    Raises:
        UsageError: no batches, a masked weight of another kind than Linear, convolution or `Conv1D`.

    Source: Sun et al. (2023, arXiv 2306.11695), who let a block read what the pruned blocks before it put out; here all
    layers read what the network before the cut puts out.

    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[0.8, -2.0]]))
    >>> probe = Probe(batches=[(torch.tensor([[3.0, 1.0], [4.0, 0.0]]), torch.zeros(2))], loss=nn.functional.mse_loss)
    >>> Wanda(per_output=False)(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[4.0, 2.0]]
    >>> Wanda()(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[1.0, 0.5]]
    """

    per_output: bool = True

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, in float32 or the weights' wider dtype; weights that are gone have 0."""
        reads, found = reads_of(model, mask, probe, "wanda"), {}
        weights = dict(model.named_parameters())
        share = 0.5 if probe.keep is None else probe.keep / mask.alive
        for name, layer in layers_of(model, mask, "wanda").items():
            weight = as_matrix(layer, weights[name].detach())
            wide = torch.promote_types(weight.dtype, torch.float32)
            scores = weight.to(wide).abs() * reads[name].squares.sqrt()[:, None].to(wide)
            if mask.kept[name] < weight.numel():
                scores = scores.where(as_matrix(layer, mask[name].to(weight.device)), 0.0)
            found[name] = from_matrix(layer, _by_row(scores, share) if self.per_output else scores, mask.shapes[name])
        return found


def _by_row(scores: Tensor, share: float) -> Tensor:
    """Scores (groups, units, fan-in) over the last that each unit keeps of its share; those that are 0 do not count.

    The shares are rounded so that over all units they add up.
    """
    there = (scores > 0).sum(-1)
    whole = (share * there.flatten().cumsum(0)).floor().long()
    stay = whole.diff(prepend=whole.new_zeros(1)).view_as(there).clamp(min=1)
    least = _sorted(scores).gather(-1, (scores.shape[-1] - stay)[..., None])
    return scores / least.where(least > 0, 1.0)


def _sorted(rows: Tensor) -> Tensor:
    """Every row in ascending order; on the CPU numpy does it six times as fast as torch."""
    if rows.device.type == "cpu":
        return torch.from_numpy(np.sort(rows.numpy(), axis=-1))
    return rows.sort(dim=-1).values


def _work(own: SparseGpt, size: Size) -> Work:
    """By columns, as measured; the matrices of all layers stand at once."""
    return Work(passes=0.1 * sum(size.fan_ins), memory=8 * sum(n * n for n in size.fan_ins))


@needs(data=True, labels=False, inside=True, work=_work)
@dataclass(frozen=True, kw_only=True, slots=True)
class SparseGpt:
    """Column by column, each weight that goes is made up for by those behind it in its row.

    With H = X XT + lambda I over what the layer reads, U upper with UT U = H^-1, for columns i in order and all rows:

        e = w_i / U_ii where w_i goes, else 0;   w_j -= e U_ij for all j >= i

    Which weights go is chosen at the first column of each block of columns, with what the columns before it have
    changed: those of smallest w_ij^2 / U_jj^2 among the rows' survivors in the block, as many as leave probe.keep /
    alive of them (the same share in every tensor, as in the paper). Those that this procedure keeps score in (1, 2],
    those that it removes in (0, 1], by their rank in the block. `adjusted` goes through the columns again under the
    mask that was really cut; where that is the procedure's own, its weights come out. Weights that went before go
    again, so that columns before them cannot bring them back.

    A weight is made up for by later columns alone: exact least squares where what goes stands before what stays in its
    row, no compensation where it stands behind. Memory: 8 x fan-in^2 bytes for each layer, all at once.

    Args:
        block: columns whose weights are chosen together.
        damp: lambda as a share of the mean diagonal of X XT. Inputs that are always 0 have 1e-9 of it beside lambda,
            so their weights go first, and change nothing (1 where all inputs are 0: the smallest weights go).

    Raises:
        UsageError: no batches or budget (`Probe.keep`), a masked weight of another kind than Linear, convolution or
            `Conv1D`, a fan-in above 20,000, H singular, or an option out of range.

    Source: Frantar and Alistarh (2023, arXiv 2301.00774), who prune block after block of a network on what the pruned
    blocks before it put out, and set weights of inputs that are always 0 to 0; see `Wanda` for ours.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 3.0]]))
    >>> probe = Probe(batches=[(torch.ones(4, 2), torch.zeros(4))], loss=nn.functional.mse_loss, keep=1)
    >>> mask = Mask({"weight": torch.tensor([[False, True]])})
    >>> SparseGpt(damp=1e-6).adjusted(layer, Mask.dense(layer), mask, probe)["weight"].round(decimals=4)
    tensor([[0., 4.]])
    """

    block: int = 128
    damp: float = 0.01

    def __post_init__(self) -> None:
        if self.block < 1:
            raise UsageError(f"block is {self.block!r}; expected a number of columns, 1 or more.")
        if not (math.isfinite(self.damp) and self.damp >= 0):
            raise UsageError(f"damp is {self.damp!r}; expected a share of the mean diagonal, 0 or more.")

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, float64; weights that are gone have 0."""
        if probe.keep is None:
            raise UsageError(
                "The criterion sparsegpt chooses block after block, so it must know how many weights stay; give "
                "Probe(keep=...), or prune with a density."
            )
        share, found = probe.keep / mask.alive, {}
        grams = grams_of(model, mask, probe, "sparsegpt")
        for name, layer in layers_of(model, mask, "sparsegpt").items():
            weight, alive = _matrices(model, layer, name, mask)
            scores = [
                _chosen(w, a, self._root(gram), self.block, share)
                for w, a, gram in zip(weight, alive, grams.pop(name), strict=True)
            ]
            found[name] = from_matrix(layer, torch.stack(scores), mask.shapes[name])
        return found

    def adjusted(self, model: nn.Module, before: Mask, after: Mask, probe: Probe) -> dict[str, Tensor]:
        """Masked weights with what the survivors make up for; pruned places are 0."""
        named, found = dict(model.named_parameters()), {}
        grams = grams_of(model, before, probe, "sparsegpt")
        for name, layer in layers_of(model, before, "sparsegpt").items():
            weight, stays = _matrices(model, layer, name, after)
            weight = weight.where(as_matrix(layer, before[name].to(weight.device)), 0.0)
            swept = [w.clone() for w in weight]
            for w, kept, gram in zip(swept, stays, grams.pop(name), strict=True):
                root = self._root(gram)
                for columns in _columns(w, self.block):
                    _sweep(w, ~kept, root, columns)
            value = from_matrix(layer, torch.stack(swept).where(stays, 0.0), before.shapes[name])
            found[name] = value.to(named[name].dtype)
        return found

    def _root(self, gram: Tensor) -> Tensor:
        """U, upper, with UT U = (gram + lambda I)^-1."""
        mean = float(gram.diagonal().mean())
        gram.diagonal().masked_fill_(gram.diagonal() == 0, 1e-9 * mean or 1.0)
        gram.diagonal().add_(self.damp * mean)
        inverse = torch.cholesky_inverse(cholesky(gram, "sparsegpt", "damp"))
        return cholesky(inverse, "sparsegpt", "damp").mT


def _columns(weight: Tensor, block: int) -> list[slice]:
    width = weight.shape[1]
    return [slice(first, min(first + block, width)) for first in range(0, width, block)]


def _sweep(weight: Tensor, gone: Tensor, root: Tensor, columns: slice) -> None:
    """Remove a block of columns where `gone`, and let everything behind make up for it; in place.

    Args:
        weight, gone: (units, fan-in).
        root: U, (fan-in, fan-in).
    """
    part, inner = weight[:, columns], root[columns, columns]
    errors = torch.zeros_like(part)
    for j in range(part.shape[1]):
        errors[:, j] = part[:, j].where(gone[:, columns.start + j], 0.0) / inner[j, j]
        part[:, j:] -= errors[:, j : j + 1] * inner[j, j:]
    weight[:, columns.stop :] -= errors @ root[columns, columns.stop :]


def _chosen(weight: Tensor, alive: Tensor, root: Tensor, block: int, share: float) -> Tensor:
    """Scores of a matrix (units, fan-in): the procedure's order."""
    weight, gone, scores = weight.where(alive, 0.0), ~alive, torch.zeros_like(weight)
    seen = taken = 0
    for columns in _columns(weight, block):
        there = alive[:, columns]
        cost = weight[:, columns].square() / root.diagonal()[columns].square()
        ranks = _ranks(cost.reshape(1, 1, -1), there.reshape(1, 1, -1)).view_as(cost)
        seen += int(there.sum())
        goes = smallest([cost], seen - round(share * seen) - taken, [there])[
            0
        ]  # rounded over the tensor, not the block
        taken = seen - round(share * seen)
        gone[:, columns] |= goes
        scores[:, columns] = ranks + (there & ~goes)
        _sweep(weight, gone, root, columns)
    return scores


def _ranks(scores: Tensor, alive: Tensor) -> Tensor:
    """rank / survivors within each row (..., n), in (0, 1]; the smallest first, ties by position; 0 where not alive."""
    order = scores.masked_fill(~alive, -torch.inf).argsort(dim=-1, stable=True)
    places = torch.arange(1, scores.shape[-1] + 1, dtype=torch.float64, device=scores.device).expand_as(scores)
    ranks = torch.zeros_like(scores).scatter(-1, order, places)
    there = alive.sum(-1, keepdim=True)
    return ((ranks - (scores.shape[-1] - there)) / there.clamp(min=1)).where(alive, 0.0)


def _matrices(model: nn.Module, layer: nn.Module, name: str, mask: Mask) -> tuple[Tensor, Tensor]:
    """A weight in float64 and its places, as (groups, units, fan-in)."""
    weight = dict(model.named_parameters())[name].detach().double()
    return as_matrix(layer, weight), as_matrix(layer, mask[name].to(weight.device))
