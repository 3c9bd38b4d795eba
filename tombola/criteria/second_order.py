"""Optimal brain damage: what a weight's removal costs by the curvature of the loss along it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.looking import scoring
from tombola.criteria.work import Size, Work
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.streams import stream

__all__ = ["Obd"]


def _work(own: Obd, size: Size) -> Work:
    """A backward pass for each weight, or two passes for each draw."""
    return Work(passes=float(size.alive if size.alive <= own.exact else 2 * own.samples + 2) * size.batches)


@needs(data=True, work=_work)
@dataclass(frozen=True, kw_only=True, slots=True)
class Obd:
    """Optimal brain damage: the rise of the loss by the diagonal of its Hessian.

        s_q = h_q w_q^2 / 2,  h_q = max(H_qq, floor * mean |H_qq|)

    H is the Hessian of the mean loss over all batches of the masked network, in its own precision; sums are float64.
    A curvature below the floor, or negative, says that there is no minimum here or that the estimate is noise; such
    weights go first, in the order of their magnitudes.

    Args:
        exact: the diagonal is computed entry by entry where the mask has no more weights than this (one backward pass
            for each weight and batch), and estimated elsewhere.
        samples: draws z of random signs in each batch for Hutchinson's estimate, H_qq ~ mean z_q (H z)_q; its variance
            is the sum of the squares of row q beside the diagonal, divided by `samples`.
        floor: the smallest curvature, as a share of the mean |H_qq| of the surviving weights; 0: clipped at 0.

    Raises:
        UsageError: no batches, or an option out of range.

    Source: LeCun, Denker and Solla (1990), Optimal Brain Damage. Theirs is the Levenberg-Marquardt approximation, which
    is never negative; Hutchinson's estimator (1990) takes the true Hessian.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 2.0]]))
    >>> x = torch.tensor([[3.0, 1.0], [1.0, 1.0]])
    >>> probe = Probe(batches=[(x, layer(x).detach())], loss=nn.functional.mse_loss)
    >>> Obd()(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[5.0, 4.0]]
    """

    exact: int = 1000
    samples: int = 32
    floor: float = 1e-4

    def __post_init__(self) -> None:
        for option, least in (("exact", 0), ("samples", 1)):
            if getattr(self, option) < least:
                raise UsageError(f"{option} is {getattr(self, option)!r}; expected a whole number, {least} or more.")
        if not 0 <= self.floor <= 1:
            raise UsageError(f"floor is {self.floor!r}; expected a share from 0 to 1.")

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores, float64; weights that are gone have 0."""
        batches, loss = probe.examples("obd")
        total = sum(len(x) for x, _ in batches)
        diagonal = _exact if mask.alive <= self.exact else _estimator(mask, probe.seed, self.samples)
        with scoring(model, mask, probe) as network, _twice_differentiable():
            named = dict(network.named_parameters())
            weights = {name: named[name] for name in mask}
            alive = {name: mask[name].to(weight.device) for name, weight in weights.items()}
            found = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
            for x, y in batches:
                if not len(x):
                    continue
                slopes = _slopes(loss(network(x), y), list(weights.values()), create_graph=True)
                for name, part in zip(
                    mask, diagonal(slopes, list(weights.values()), list(alive.values())), strict=True
                ):
                    found[name] += part * (len(x) / total)
            least = self.floor * sum(float(h.abs().sum()) for h in found.values()) / mask.alive
            return {
                name: (found[name].clamp(min=least) * weights[name].detach().double().square() / 2).where(
                    alive[name], 0.0
                )
                for name in mask
            }


_Diagonal = Callable[[list[Tensor], list[Tensor], list[Tensor]], list[Tensor]]
"""(gradients with graph, weights, alive) -> the diagonal of the Hessian, float64, 0 where nothing is alive."""


def _exact(slopes: list[Tensor], weights: list[Tensor], alive: list[Tensor]) -> list[Tensor]:
    found = []
    for slope, weight, there in zip(slopes, weights, alive, strict=True):
        diagonal = torch.zeros(weight.numel(), dtype=torch.float64, device=weight.device)
        for place in there.flatten().nonzero()[:, 0].tolist():
            if slope.requires_grad:
                diagonal[place] = _slopes(slope.flatten()[place], [weight])[0].flatten()[place].double()
        found.append(diagonal.view(weight.shape))
    return found


def _estimator(mask: Mask, seed: int, samples: int) -> _Diagonal:
    streams = {name: stream(seed, f"obd/{name}") for name in mask}  # go on from batch to batch: independent draws

    def estimate(slopes: list[Tensor], weights: list[Tensor], alive: list[Tensor]) -> list[Tensor]:
        found = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights]
        for _ in range(samples):
            signs = [
                (torch.randint(2, weight.shape, generator=streams[name]).to(weight) * 2 - 1) * there
                for name, weight, there in zip(mask, weights, alive, strict=True)
            ]
            curved = [(slope, sign) for slope, sign in zip(slopes, signs, strict=True) if slope.requires_grad]
            if not curved:
                break  # the loss is linear in all weights
            products = _slopes([slope for slope, _ in curved], weights, [sign for _, sign in curved])
            found = [f + (p * s).double() / samples for f, p, s in zip(found, products, signs, strict=True)]
        return found

    return estimate


def _slopes(
    of: Tensor | list[Tensor], to: list[Tensor], along: list[Tensor] | None = None, *, create_graph: bool = False
) -> list[Tensor]:
    """Gradients, zeros where nothing depends on a weight; the graph stays."""
    return list(
        torch.autograd.grad(
            of, to, along, retain_graph=True, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    )


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """Fused recurrent and attention kernels have no second derivative."""
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        yield
