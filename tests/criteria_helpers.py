"""Networks and probes that every criterion is tried on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.criteria import Criterion, Probe, Scores, criterion_of
from tombola.masks import Mask
from tombola.streams import seeded

CLASSES = 4

Weights = dict[str, Tensor]


class Last(nn.Module):
    """A recurrent or attention layer whose last position goes through a linear head."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        attends = isinstance(self.body, nn.MultiheadAttention)
        out: Tensor = self.head((self.body(x, x, x) if attends else self.body(x))[0][:, -1])
        return out


def _conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, CLASSES)
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "double": lambda: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, CLASSES)).double(),
    "single": lambda: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, CLASSES)),
    "half": lambda: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, CLASSES)).bfloat16(),
    "conv": _conv,
    "rnn": lambda: Last(nn.LSTM(4, 5, num_layers=2, batch_first=True), 5),
    "attention": lambda: Last(nn.MultiheadAttention(8, 2, batch_first=True), 8),
}
_SHAPES = {"conv": (2, 4, 4), "rnn": (3, 4), "attention": (3, 8)}


def network(kind: str, seed: int = 0) -> nn.Module:
    """The network, with batch-norm statistics that are no start values."""
    with seeded(seed):
        model = NETWORKS[kind]()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
                nn.init.uniform_(module.weight, 0.5, 2.0)
    return model


def probe(model: nn.Module, kind: str, *, seed: int = 3, batches: int = 2, size: int = 12) -> Probe:
    """Everything that a criterion may ask for, drawn from a seed."""
    generator = torch.Generator().manual_seed(seed)
    weights = dict(model.named_parameters())
    dtype = next(iter(weights.values())).dtype

    def batch() -> tuple[Tensor, Tensor]:
        x = torch.randn(size, *_SHAPES.get(kind, (8,)), generator=generator).to(dtype)
        return x, torch.randint(CLASSES, (size,), generator=generator)

    def like(value: Tensor) -> Tensor:
        return torch.randn(value.shape, generator=generator).to(value.dtype)

    moved = {name: value.detach() + 0.5 * like(value) for name, value in weights.items()}
    return Probe(
        seed=seed,
        batches=[batch() for _ in range(batches)],
        loss=F.cross_entropy,
        initial=moved,
        gathered={"movement": {name: like(value) for name, value in weights.items()}},
    )


def smooth() -> nn.Module:
    """A small network without kinks."""
    with seeded(2):
        return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def examples(sizes: tuple[int, ...] = (6, 9), seed: int = 4) -> Probe:
    generator = torch.Generator().manual_seed(seed)
    batches = [
        (torch.randn(n, 5, generator=generator, dtype=torch.float64), torch.randint(3, (n,), generator=generator))
        for n in sizes
    ]
    return Probe(seed=seed, batches=batches, loss=F.cross_entropy)


def masked(model: nn.Module, mask: Mask) -> Weights:
    return {name: (weight * mask[name]).detach() for name, weight in model.named_parameters() if name in mask}


def flat(scores: Scores) -> Tensor:
    return torch.cat([score.double().flatten() for score in scores.values()])


def score(name: str | Criterion, model: nn.Module, mask: Mask, seen: Probe) -> Scores:
    return criterion_of(name)(model, mask, seen)
