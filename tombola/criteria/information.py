"""Mutual information between what units put out and the answer, by a Gaussian copula."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.looking import pooled
from tombola.criteria.units import FORWARD, observe, unit_scores
from tombola.criteria.work import Size, Work
from tombola.errors import UsageError
from tombola.granularity.units import hidden_of
from tombola.masks import Mask

__all__ = ["Estimator", "MutualInformation", "copula", "drops", "information"]


class Estimator(Enum):
    """How mutual information is estimated; both are exact for Gaussians and bounds on nothing else."""

    COPULA = "copula"
    GAUSSIAN = "gaussian"


def copula(x: Tensor) -> Tensor:
    """Each column as normal scores of its ranks, Phi^-1(rank / (n + 1)); equals share their mean rank.

    Args:
        x: (n, columns); only the order within each column is looked at.

    >>> copula(torch.tensor([[1.0], [5.0], [2.0]])).flatten().tolist()  # quartiles of the normal distribution
    [-0.674..., 0.674..., 0.0]
    """
    columns = x.double().t().contiguous()
    ordered = columns.sort(1).values
    low, high = (torch.searchsorted(ordered, columns, side=side) for side in ("left", "right"))
    ranks = (low + high + 1).double() / 2
    normal: Tensor = torch.special.ndtri(ranks / (len(x) + 1))
    return normal.t()


def information(x: Tensor, y: Tensor, *, shrinkage: float = 0.0) -> float:
    """Mutual information of jointly Gaussian columns, in nats: 1/2 log(det R_x det R_y / det R_xy).

    Args:
        x: (n, columns), with more examples than columns of x and y, or with shrinkage; columns that never move say
            nothing.
        y: (n, columns).
        shrinkage: s of the correlation R -> (1 - s) R + s I.

    >>> z = torch.randn(20000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> y = 0.6 * z[:, :1] + 0.8 * z[:, 1:]  # correlation 0.6: -1/2 log(1 - 0.36) = 0.223
    >>> round(information(z[:, :1], y), 1)
    0.2
    """
    joint, count = _correlation(x, y, shrinkage), x.shape[1]
    parts = (joint[:count, :count], joint[count:, count:], joint)
    one, other, both = (float(torch.linalg.slogdet(part).logabsdet) for part in parts)
    return (one + other - both) / 2


def drops(x: Tensor, y: Tensor, *, shrinkage: float = 0.0) -> Tensor:
    """What `information(x, y)` loses without each column of x: I(x_j; y | the others), 0 or more, shape (columns,).

    1/2 log([R_xy^-1]_jj / [R_x^-1]_jj), for 1 / [R^-1]_jj is the variance that is left of j when all else is known.
    """
    joint, count = _correlation(x, y, shrinkage), x.shape[1]
    whole, alone = (torch.linalg.inv(part).diagonal()[:count] for part in (joint, joint[:count, :count]))
    lost: Tensor = (whole / alone).log() / 2
    return lost.clamp(min=0)


def _correlation(x: Tensor, y: Tensor, shrinkage: float) -> Tensor:
    both = torch.cat([x, y], 1).double()
    both = both - both.mean(0)
    size = both.norm(dim=0)
    moving = size > 1e-12 * size.max()
    both = (both / size.where(moving, 1.0)).where(moving, 0.0)
    found: Tensor = (1 - shrinkage) * (both.t() @ both)
    return found.fill_diagonal_(1.0)


def _work(own: MutualInformation, size: Size) -> Work:
    units = [shape[0] for shape in size.shapes]
    if not own.shrinkage:
        _check_examples(size.examples, max(units[:-1], default=0))
    return Work(passes=FORWARD * size.batches, memory=8 * size.examples * sum(units))


@needs(data=True, inside=True, work=_work, units=True)
@dataclass(frozen=True, kw_only=True, slots=True)
class MutualInformation:
    """Score a unit by what its layer no longer tells about the answer without it: I(T; Y) - I(T without j; Y), in nats.

    T are the activations of a hidden layer (the largest over positions), Y the classes (one column each) or target
    numbers. Each column is made Gaussian by its ranks (copula), and then I = 1/2 log(det R_T det R_Y / det R_TY) of the
    correlations R. Scores are 0 or more. One forward pass over the batches; what the units of all layers put out is
    held at once, one number an example and unit.

    Bias: with n examples, C units and D columns of Y, chance adds about C D / 2n nats, so give many more examples than
    units; shrinkage makes all of it smaller, most where units are alike. What is not monotone between T and Y is not
    seen. True mutual information of a deterministic network with continuous inputs is infinite (Saxe et al. 2018), so
    this measures the estimator, not the network alone.

    Source: the copula estimator of Ince et al. (2017, Human Brain Mapping 38), there with a covariance for each class
    where we have one for all; pruning by it as in the survey of Hoefler et al. (2021, arXiv 2102.00554).

    Args:
        to_next: Y are the activations of the next masked layer in module order (of the output layer: what it puts out).
        estimator: copula, or gaussian: of the activations as they are.
        shrinkage: s in [0, 1) of R -> (1 - s) R + s I, off the diagonal; above 0 it holds with any number of examples.
    """

    to_next: bool = False
    estimator: Estimator = Estimator.COPULA
    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.shrinkage < 1:
            raise UsageError(f"shrinkage is {self.shrinkage!r}; expected 0 to below 1.")

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, 0 or more."""
        seen: dict[str, list[Tensor]] = {weight: [] for weight in mask}
        answers: list[Tensor] = []

        def see(weight: str, layer: nn.Module, activations: Tensor, targets: Tensor) -> None:
            rows = pooled(layer, activations)
            _aligned(rows, targets, weight)
            seen[weight].append(rows)
            if weight == first:
                answers.append(targets)

        order = [name for name, _ in model.named_parameters() if name in mask]
        first = order[0]
        observe(model, mask, probe, "mutual_information", see)
        if not self.shrinkage:
            widest = max((seen[weight][0].shape[1] for weight in hidden_of(model, mask)), default=0)
            _check_examples(sum(map(len, answers)), widest)
        columns = {weight: self._made(torch.cat(rows)) for weight, rows in seen.items()}
        following = dict(pairwise(order))
        asked = _answers(torch.cat(answers)).to(columns[first].device)
        truth = asked if self.to_next else self._made(asked)
        found = {}
        for weight in hidden_of(model, mask):
            beside = columns[following[weight]] if self.to_next and weight in following else truth
            found[weight] = drops(columns[weight], beside, shrinkage=self.shrinkage)
        return unit_scores(found, model, mask)

    def _made(self, rows: Tensor) -> Tensor:
        return copula(rows) if self.estimator is Estimator.COPULA else rows.double()


def _check_examples(examples: int, units: int) -> None:
    if examples <= units:
        raise UsageError(
            f"The criterion mutual_information with shrinkage=0 needs more examples than a layer has units, and there "
            f"are {examples:,} for {units:,} units; give the probe more, or leave shrinkage at 0.1."
        )


def _aligned(rows: Tensor, targets: Tensor, weight: str) -> None:
    if len(rows) != len(targets):
        raise UsageError(
            f"The criterion mutual_information compares each example with its target; {weight!r} puts out "
            f"{len(rows)} rows for {len(targets)} targets."
        )


def _answers(targets: Tensor) -> Tensor:
    """Targets as columns: of each class but the last, or the numbers themselves."""
    if targets.is_floating_point():
        return targets.flatten(1) if targets.ndim > 1 else targets[:, None]
    if targets.ndim > 1:
        raise UsageError(
            f"The criterion mutual_information has class labels of shape {tuple(targets.shape)}; expected one of each "
            f"example, (n,)."
        )
    _, labels = targets.unique(return_inverse=True)
    return F.one_hot(labels).double()[:, :-1]
