"""SynFlow: what flows through each weight of the network made positive and linear; without data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.looking import scoring
from tombola.criteria.rounds import check_rounds, descend, sizes
from tombola.criteria.slopes import batches_of, gradients, weights_of
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.starts import Moment

__all__ = ["SynFlow", "flow"]

_POWERS = (0, -900, 900)  # of 2, for what goes in and for what comes out: 1, 1e-271, 1e271
_PLAIN = 2.0**-900
_ROUNDING = 1e-12  # a smaller part of R is none: in a row of layers each layer's scores sum to R


@needs(data=True, labels=False, inputs=False, scored_at=Moment.INIT, signed=True, passes=1)
@dataclass(frozen=True, kw_only=True, slots=True)
class SynFlow:
    """Score w dR/dw, with R the sum of what |w|, made linear, puts out for an input of ones: synaptic flow.

    For layers in a row R = 1' |W_L| ... |W_1| 1, and the score of a weight is the sum over all paths through it of
    their weights' product. Into and out of every hidden unit flows the same (conservation), so layers are bled in
    proportion, and in enough rounds none collapses before all others are down to one weight (Tanaka et al.).

    Linear is meant literally: elementwise nonlinearities and a final log-softmax pass their input on, normalisations
    multiply by |gamma| (batch norm by |gamma| / sqrt(running variance + eps)), and what is added (biases, beta,
    means) is 0. The published code takes absolute values of these and keeps them, which is the same before training
    and breaks the conservation afterwards. Recurrent and attention layers keep their inner nonlinearities: their
    flow is not conserved, and queries and keys, which choose between positions that are all alike, score 0.

    Everything is float64. Where R overflows or underflows all the same, ones are scaled by a power of 2 on both sides,
    which scales all scores alike and is exact: products of weights from 1e-540 to 1e540 can be told apart.

    The probe's first batch is looked at for the shape of one example, and for nothing else. Needs `probe.keep`, which
    `Pruner` sets; without it there is one round.

    Args:
        rounds: 1 or more; each costs a forward and backward of a single example.

    Returns:
        As `tombola.criteria.rounds.descend`: survivors of all rounds above those of the last, and so on.

    Raises:
        UsageError: fewer than one round, no batch, or nothing flows through the network (any more).

    Source: Tanaka, Kunin, Yamins and Ganguli (2020, arXiv 2006.05467).

    >>> net = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[-3.0, 1.0]]))
    >>> probe = Probe(batches=[(torch.zeros(1, 2), torch.zeros(1, 1))], loss=nn.functional.mse_loss)
    >>> scores = SynFlow()(net, Mask.dense(net), probe)
    >>> [score.tolist() for score in scores.values()]
    [[[0.375, 0.125]], [[0.5]]]
    """

    rounds: int = 100

    def __post_init__(self) -> None:
        check_rounds(self.rounds)

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The scores."""
        counts = sizes(mask.alive, probe.keep, self.rounds)
        with scoring(model, mask, probe) as copied:
            (x, _), *_ = batches_of(copied, probe, "synflow")[0]
            example = torch.ones_like(x[:1], dtype=torch.float64 if x.is_floating_point() else x.dtype)
            _positive(copied.double())
            weights = weights_of(copied, mask)
            dense = {name: weight.detach().clone() for name, weight in weights.items()}

            def score(left: Mapping[str, Tensor], where: str) -> Scores:
                with torch.no_grad():
                    for name, places in left.items():
                        torch.mul(dense[name], places, out=weights[name])
                return flow(copied, weights, example, where)

            return descend(score, mask, counts, list(weights))


def _positive(model: nn.Module) -> None:
    """Absolute values of all parameters, and 0 for those that are added."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "bias" in name.rpartition(".")[2]:
                weight.zero_()
            elif weight.is_floating_point():
                weight.abs_()


def flow(model: nn.Module, weights: Mapping[str, Tensor], example: Tensor, where: str) -> Scores:
    """w dR/dw of the network as it stands, up to a factor."""
    best: Scores = {}
    for power in _POWERS:
        scale = 2.0**power
        with _Linear():
            out = model(example * scale if example.is_floating_point() else example).sum() * scale
        scores = {name: slope.mul_(weights[name].detach()).abs_() for name, slope in gradients(out, weights).items()}
        total = sum(float(score.sum()) for score in scores.values())
        if _ROUNDING * abs(float(out.detach())) < total < float("inf"):
            best = scores
            if total > _PLAIN:
                break
    if not best:
        raise UsageError(
            f"synflow: nothing that float64 can hold flows from the input of the network to its output{where}. Where "
            f"layers have lost their last path, more rounds or more weights to keep help; use another criterion for a "
            f"network that ends in a softmax or is many hundred layers deep."
        )
    return best


def _as_it_is(x: Tensor, *_: object, **__: object) -> Tensor:
    return x


def _along(x: Tensor, factor: Tensor | None, dim: int) -> Tensor:
    """x times a factor for each channel of a dimension."""
    return x if factor is None else x * factor.view(-1, *[1] * (x.ndim - dim - 1))


def _batch_norm(
    x: Tensor, mean: Tensor | None, var: Tensor | None, weight: Tensor | None = None, bias: Tensor | None = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    return _along(_along(x, weight, 1), None if var is None else (var.abs() + eps).rsqrt(), 1)


def _instance_norm(
    x: Tensor, mean: Tensor | None = None, var: Tensor | None = None, weight: Tensor | None = None, *_: object,
    **__: object,
) -> Tensor:  # fmt: skip
    return _along(x, weight, 1)


def _group_norm(x: Tensor, groups: int, weight: Tensor | None = None, *_: object, **__: object) -> Tensor:
    return _along(x, weight, 1)


def _layer_norm(x: Tensor, shape: object, weight: Tensor | None = None, *_: object, **__: object) -> Tensor:
    return x if weight is None else x * weight


_LINEAR: dict[str, Callable[..., Tensor]] = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _layer_norm,
    **dict.fromkeys(
        (
            "relu", "relu_", "leaky_relu", "leaky_relu_", "elu", "elu_", "selu", "selu_", "celu", "gelu", "silu",
            "tanh", "tanh_", "sigmoid", "sigmoid_", "hardtanh", "hardtanh_", "hardsigmoid", "relu6", "hardswish",
            "mish", "softplus", "softsign", "logsigmoid", "prelu", "rrelu", "log_softmax",
        ),
        _as_it_is,
    ),
}  # fmt: skip


class _Linear(TorchFunctionMode):
    """Puts what is linear in the place of nonlinearities and normalisations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _LINEAR.get(getattr(func, "__name__", ""), func)(*args, **(kwargs or {}))
