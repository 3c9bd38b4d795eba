"""Criteria that learn which weights to keep while the weights themselves stand still: supermasks and edge-popup."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe, Scores, needs
from tombola.criteria.looking import scoring
from tombola.criteria.work import Size, Work
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.starts import Moment
from tombola.streams import stream
from tombola.tensors import smallest

__all__ = ["EdgePopup", "Supermask"]

_Gates = Callable[[Mapping[str, Tensor], int], dict[str, Tensor]]
"""(learned numbers, step) -> what multiplies each weight, differentiable."""


def _whole(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} is {value}; expected a whole number, 1 or more.")


def _of_sgd(**options: float) -> None:
    for name, value in options.items():
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{name} is {value}; expected a finite number, 0 or more.")


def _learned(
    model: nn.Module, mask: Mask, probe: Probe, label: str, first: Scores, gates: _Gates, *, steps: int,
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer], rate: Callable[[int], float], constant: bool,
) -> Scores:  # fmt: skip
    """The numbers after `steps` steps of training them by the loss of the gated network; its weights never change."""
    batch, loss = probe.stream(label)
    with scoring(model, mask, probe) as frozen:
        frozen.requires_grad_(False)
        weights = {name: weight.detach() for name, weight in frozen.named_parameters() if name in mask}
        if constant:
            weights = {name: _signed_constant(weight, mask[name]) for name, weight in weights.items()}
        learned = {name: value.to(weights[name]).requires_grad_() for name, value in first.items()}
        steered = optimizer(list(learned.values()))
        scheduler = torch.optim.lr_scheduler.LambdaLR(steered, rate)
        for step in range(steps):
            x, y = batch(step)
            gated = {name: weights[name] * gate for name, gate in gates(learned, step).items()}
            value = loss(torch.func.functional_call(frozen, gated, (x,)), y)
            if not bool(value.isfinite()):
                raise UsageError(f"{label}: the loss is {float(value.detach())} at step {step}; use a smaller lr.")
            steered.zero_grad()
            value.backward()
            steered.step()
            scheduler.step()
    return {name: value.detach().double() for name, value in learned.items()}


def _signed_constant(weight: Tensor, alive: Tensor) -> Tensor:
    """sign(w) times the deviation of the layer's weights."""
    return weight.sign() * weight[alive.to(weight.device)].double().std(correction=0).to(weight)


def _adjusted(
    model: nn.Module, before: Mask, after: Mask, scale: Callable[[str], float], constant: bool
) -> dict[str, Tensor]:
    weights = dict(model.named_parameters())
    found = {}
    for name in after:
        weight = weights[name].detach()
        value = _signed_constant(weight, before[name]) if constant else weight
        found[name] = value * scale(name) * after[name].to(weight.device)
    return found


def _ranks(size: Tensor, alive: Tensor) -> Tensor:
    order = size[alive].argsort(stable=True).argsort()
    found = torch.zeros_like(size)
    found[alive] = (order.to(size) + 1) / len(order)
    return found


def _work(own: Supermask | EdgePopup, size: Size) -> Work:
    """A pass for each step, over a batch of the training set."""
    return Work(passes=float(own.steps))


@needs(data=True, scored_at=Moment.INIT, signed=True, work=_work)
@dataclass(frozen=True, kw_only=True, slots=True)
class Supermask:
    """Learned supermask: a coin for each weight, whose chances are trained; weights with good chances stay.

    Forward: w * b with b ~ Bernoulli(sigmoid(t)); backward straight through, db/dt = sigmoid'(t). Score: t. With
    `rescale` the weights of a layer are multiplied by (weights / kept weights), in training and in the answer's
    adjusted weights ("dynamic weight rescaling").

    Source: Zhou et al. (2019, arXiv 1905.01067), there with 2,000 epochs and a mask drawn anew at test; here the mask
    is the `keep` likeliest weights. Control `untrained` evaluates it.

    Args:
        steps: of training the chances, on batches of the training set.
        lr, momentum: of SGD; the paper's lr is 100.
        rescale: dynamic weight rescaling.
        constant: weights stand at sign(w) times their layer's deviation.

    Raises:
        UsageError: no examples, or an option out of range.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0, 5.0]]))  # the first is what the targets ask for, the second harms
    >>> probe = Probe(batches=[(torch.eye(2), torch.tensor([[1.0], [0.0]]))], loss=nn.functional.mse_loss, keep=1)
    >>> score = Supermask(steps=20)(net, Mask.dense(net), probe)["weight"]
    >>> bool(score[0, 0] > score[0, 1])
    True
    """

    steps: int = 1000
    lr: float = 100.0
    momentum: float = 0.9
    rescale: bool = True
    constant: bool = False

    def __post_init__(self) -> None:
        _whole("steps", self.steps)
        _of_sgd(lr=self.lr, momentum=self.momentum)

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The chances as logits; what is pruned already has the least."""
        alive = {name: mask[name] for name in mask}

        def gates(logits: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
            found = {}
            for name, logit in logits.items():
                chance = logit.sigmoid()
                draw = torch.rand(logit.shape, generator=stream(probe.seed, f"supermask/{name}/{step}")).to(logit)
                coin = ((draw < chance) & alive[name].to(logit.device)).to(logit)
                gate = coin + (chance - chance.detach()) * alive[name].to(logit)
                if self.rescale:
                    gate = gate * (mask.kept[name] / coin.sum().clamp(min=1))
                found[name] = gate
            return found

        first = {name: torch.zeros(shape) for name, shape in mask.shapes.items()}
        logits = _learned(
            model, mask, probe, "supermask", first, gates, steps=self.steps,
            optimizer=lambda values: torch.optim.SGD(values, lr=self.lr, momentum=self.momentum),
            rate=lambda step: 1.0, constant=self.constant,
        )  # fmt: skip
        least = min(float(value.min()) for value in logits.values()) - 1
        return {name: value.where(alive[name].to(value.device), least) for name, value in logits.items()}

    def adjusted(self, model: nn.Module, before: Mask, after: Mask, probe: Probe) -> dict[str, Tensor]:
        """The weights that were gated: rescaled, constant."""
        was, now = before.kept, after.kept
        return _adjusted(model, before, after, lambda n: was[n] / now[n] if self.rescale else 1.0, self.constant)


@needs(data=True, scored_at=Moment.INIT, work=_work)
@dataclass(frozen=True, kw_only=True, slots=True)
class EdgePopup:
    """Edge-popup: a score for each weight is trained; the forward pass uses the best of each layer.

    Forward: w * 1[|s| among the layer's largest]; backward straight through to |s|: dL/ds = dL/d(gate) sign(s). Each
    layer trains at the density that is asked for in all, so the score is the rank of |s| in its layer, as a fraction: a
    global cut then takes as much from every layer.

    Source: Ramanujan et al. (2020, arXiv 1911.13299): SGD 0.1, momentum 0.9, decay 1e-4, cosine; `scaled` multiplies
    the weights by 1 / sqrt(density). Control `untrained` evaluates it.

    Args:
        steps: of training the scores, on batches of the training set.
        lr, momentum, weight_decay: of SGD, with a cosine to 0.
        scaled: weights times 1 / sqrt(density).
        constant: weights stand at sign(w) times their layer's deviation ("signed constant").

    Raises:
        UsageError: no examples, or an option out of range.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0, 5.0]]))  # the first is what the targets ask for, the second harms
    >>> probe = Probe(batches=[(torch.eye(2), torch.tensor([[1.0], [0.0]]))], loss=nn.functional.mse_loss, keep=1)
    >>> score = EdgePopup(steps=50)(net, Mask.dense(net), probe)["weight"]
    >>> bool(score[0, 0] > score[0, 1])
    True
    """

    steps: int = 1000
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    scaled: bool = True
    constant: bool = False

    def __post_init__(self) -> None:
        _whole("steps", self.steps)
        _of_sgd(lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """The rank of |s| among its layer's survivors, in (0, 1]; what is pruned already has 0."""
        share = (mask.alive if probe.keep is None else probe.keep) / mask.alive
        alive, drops = (
            {name: mask[name] for name in mask},
            {n: k - max(1, round(share * k)) for n, k in mask.kept.items()},
        )
        scale = 1 / math.sqrt(share) if self.scaled else 1.0

        def gates(scores: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
            found = {}
            for name, score in scores.items():
                size, there = score.detach().abs(), alive[name].to(score.device)
                gone = smallest([size], drops[name], [there])[0]
                best = (there & ~gone).to(score)
                found[name] = (best + (score.abs() - size) * there.to(score)) * scale
            return found

        logits = _learned(
            model, mask, probe, "edge_popup", {name: self._first(name, mask, probe) for name in mask}, gates,
            steps=self.steps, rate=lambda step: 0.5 * (1 + math.cos(math.pi * step / self.steps)),
            optimizer=lambda values: torch.optim.SGD(
                values, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
            ), constant=self.constant,
        )  # fmt: skip
        return {name: _ranks(value.abs(), alive[name].to(value.device)) for name, value in logits.items()}

    def _first(self, name: str, mask: Mask, probe: Probe) -> Tensor:
        shape = mask.shapes[name]
        drawn = torch.empty(shape)
        return nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=stream(probe.seed, f"edge-popup/{name}"))

    def adjusted(self, model: nn.Module, before: Mask, after: Mask, probe: Probe) -> dict[str, Tensor]:
        """The weights that were gated: scaled, constant."""
        scale = math.sqrt(before.alive / after.alive) if self.scaled else 1.0
        return _adjusted(model, before, after, lambda name: scale, self.constant)
