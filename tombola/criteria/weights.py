"""Criteria that look at the weights alone, of now (w_f) and of the beginning (w_i).

Most are the mask criteria of Zhou, Lan, Liu and Yosinski (2019, arXiv 1905.01067), there taken layer by layer. Forms
that go by signs are in `tombola.criteria.signs`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, needs
from tombola.masks import Mask
from tombola.streams import stream

__all__ = [
    "large_init",
    "large_init_large_final",
    "least_movement",
    "magnitude",
    "magnitude_increase",
    "movement",
    "random",
    "small_final",
    "small_init",
    "small_init_small_final",
]


def magnitude(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |w|: `large_final` of Zhou et al. (2019, arXiv 1905.01067), the lottery-ticket criterion.

    Source: Frankle and Carbin (2019, arXiv 1803.03635); Han et al. (2015, arXiv 1506.02626).

    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[-3.0, 0.5]]))
    >>> magnitude(layer, Mask.dense(layer), Probe())
    {'weight': tensor([[3.0000, 0.5000]])}
    """
    weights = dict(model.named_parameters())
    return {name: weights[name].detach().abs() for name in mask}


def random(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score a uniform draw in [0, 1), one stream a tensor: independent of weights and data, the same on every device.

    >>> layer = nn.Linear(2, 2)
    >>> scores = [random(layer, Mask.dense(layer), Probe(seed=s))["weight"] for s in (0, 0, 1)]
    >>> torch.equal(scores[0], scores[1]), torch.equal(scores[0], scores[2])
    (True, False)
    """
    return {n: torch.rand(shape, generator=stream(probe.seed, f"random/{n}")) for n, shape in mask.shapes.items()}


@needs(signed=True)
def small_final(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score -|w_f|: large weights go. A control for `magnitude` (Zhou et al. 2019, arXiv 1905.01067).

    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[-3.0, 0.5]]))
    >>> small_final(layer, Mask.dense(layer), Probe())["weight"].tolist()
    [[-3.0, -0.5]]
    """
    return {name: -score for name, score in magnitude(model, mask, probe).items()}


@needs(initial=True)
def large_init(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |w_i|: did the survivors just start large? (Zhou et al. 2019, arXiv 1905.01067)

    Raises:
        UsageError: the probe has no initial weights.

    >>> layer = nn.Linear(2, 1)
    >>> large_init(layer, Mask.dense(layer), Probe(initial={"weight": torch.tensor([[-2.0, 1.0]])}))["weight"].tolist()
    [[2.0, 1.0]]
    """
    return {name: first.abs() for name, (first, _) in both("large_init", model, mask, probe).items()}


@needs(initial=True, signed=True)
def small_init(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score -|w_i|: weights that started large go (Zhou et al. 2019, arXiv 1905.01067).

    Raises:
        UsageError: the probe has no initial weights.

    >>> layer = nn.Linear(2, 1)
    >>> small_init(layer, Mask.dense(layer), Probe(initial={"weight": torch.tensor([[-2.0, 1.0]])}))["weight"].tolist()
    [[-2.0, -1.0]]
    """
    return {name: -first.abs() for name, (first, _) in both("small_init", model, mask, probe).items()}


@needs(initial=True)
def large_init_large_final(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score min(a |w_f|, |w_i|), with a such that both tests prune equally: as min(q(|w_f|), q(|w_i|)).

    q(v) in [0, 1) is the share of the tensor's survivors that are smaller than v. Zhou et al. (2019, arXiv 1905.01067)
    search, for each layer and budget, one percentile Q at which the weights with |w_i| >= P_Q and |w_f| >= P_Q are as
    many as stay. Those are exactly the weights with min(q(|w_f|), q(|w_i|)) >= Q, so this one score ranks them for
    every budget at once, and the search is the cut itself. Equal magnitudes share one q.

    Returns:
        Percentiles in [0, 1), float64: 0.25 for a weight of which one test leaves a quarter below it.

    Raises:
        UsageError: the probe has no initial weights.

    >>> layer = nn.Linear(4, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[4.0, -3.0, 2.0, 1.0]]))
    >>> probe = Probe(initial={"weight": torch.tensor([[0.1, 0.4, -0.3, 0.2]])})
    >>> large_init_large_final(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[0.0, 0.5, 0.25, 0.0]]
    """
    pairs = both("large_init_large_final", model, mask, probe)
    return {n: _common(first.abs(), last.abs(), mask[n]) for n, (first, last) in pairs.items()}


@needs(initial=True, signed=True)
def small_init_small_final(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score -max(a |w_f|, |w_i|), with a such that both tests prune equally: min(q(-|w_f|), q(-|w_i|)).

    As `large_init_large_final`, with magnitudes negated: what stays is small in both (Zhou et al. 2019,
    arXiv 1905.01067).

    Raises:
        UsageError: the probe has no initial weights.

    >>> layer = nn.Linear(4, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[4.0, -3.0, 2.0, 1.0]]))
    >>> probe = Probe(initial={"weight": torch.tensor([[0.1, 0.4, -0.3, 0.2]])})
    >>> small_init_small_final(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[0.0, 0.0, 0.25, 0.5]]
    """
    pairs = both("small_init_small_final", model, mask, probe)
    return {n: _common(-first.abs(), -last.abs(), mask[n]) for n, (first, last) in pairs.items()}


@needs(initial=True, moved=True, signed=True)
def magnitude_increase(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |w_f| - |w_i|: weights that went towards 0 go first (Zhou et al. 2019, arXiv 1905.01067).

    Raises:
        UsageError: the probe has no initial weights.

    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[-3.0, 0.5]]))
    >>> probe = Probe(initial={"weight": torch.tensor([[1.0, 1.0]])})
    >>> magnitude_increase(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[2.0, -0.5]]
    """
    pairs = both("magnitude_increase", model, mask, probe)
    return {name: last.abs() - first.abs() for name, (first, last) in pairs.items()}


@needs(initial=True, moved=True)
def movement(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score |w_f - w_i|: weights that hardly moved go (Zhou et al. 2019, arXiv 1905.01067).

    Not the movement pruning of Sanh et al. (2020), which is `movement_pruning`.

    Raises:
        UsageError: the probe has no initial weights.

    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[-3.0, 0.5]]))
    >>> movement(layer, Mask.dense(layer), Probe(initial={"weight": torch.tensor([[1.0, 1.0]])}))["weight"].tolist()
    [[4.0, 0.5]]
    """
    return {name: (last - first).abs() for name, (first, last) in both("movement", model, mask, probe).items()}


@needs(initial=True, moved=True, signed=True)
def least_movement(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Score -|w_f - w_i|: weights that travelled far go. Our own control for `movement`.

    Raises:
        UsageError: the probe has no initial weights.

    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[-3.0, 0.5]]))
    >>> probe = Probe(initial={"weight": torch.tensor([[1.0, 1.0]])})
    >>> least_movement(layer, Mask.dense(layer), probe)["weight"].tolist()
    [[-4.0, -0.5]]
    """
    return {name: -(last - first).abs() for name, (first, last) in both("least_movement", model, mask, probe).items()}


def both(label: str, model: nn.Module, mask: Mask, probe: Probe) -> dict[str, tuple[Tensor, Tensor]]:
    """Masked weight -> (w_i, w_f), both on the device of the model, at least in float32.

    Raises:
        UsageError: the probe has no initial weights; the criterion is called `label`.
    """
    initial, weights = probe.first(label, mask), dict(model.named_parameters())
    found = {}
    for name in mask:
        last = weights[name].detach()
        wide = torch.promote_types(last.dtype, torch.float32)
        found[name] = (initial[name].detach().to(last.device, wide), last.to(wide))
    return found


def _common(first: Tensor, last: Tensor, alive: Tensor) -> Tensor:
    """The largest percentile at which a value passes both tests."""
    return torch.minimum(_percentile(first, alive), _percentile(last, alive))


def _percentile(values: Tensor, alive: Tensor) -> Tensor:
    """The share of the survivors that are strictly smaller."""
    ordered = values[alive.to(values.device)].sort().values
    return torch.searchsorted(ordered, values.contiguous()).double() / max(1, len(ordered))
