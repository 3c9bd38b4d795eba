"""Users' modules and users' loops, for the matrix of both, and the reference that trains `torch.where(mask, w, 0)`.

A loop is what a user would write: it takes a module and batches and knows nothing of masks. `seen` collects the norms
that it clips, and `watch` is called with module and optimizers after every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from helpers import same_bits
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import Optimizer

from tombola import Mask, Ticket, find_ticket
from tombola.allocation import Layerwise
from tombola.training.places import bare

Batches = list[tuple[Tensor, Tensor]]
STEPS = 8


# --- modules


class Residual(nn.Module):
    """Two convolutions with batch norm around a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.other = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(x + self.other(self.second(x)))
        found: Tensor = self.last(x.mean((2, 3)))
        return found


class Recurrent(nn.Module):
    """An LSTM or GRU of two layers."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.core, self.last = kind(4, 6, num_layers=2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.core(x)[0][:, -1])
        return found


class Encoder(nn.Module):
    """Embedding, one transformer layer with attention, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.layer(self.embedding(x)).mean(1))
        return found


class Tied(nn.Module):
    """An autoencoder: one parameter under two names, or one matrix used as it is and transposed."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.down, self.last = nn.Linear(6, 6 - transposed), nn.Linear(6, 3)
        if not transposed:
            self.up = nn.Linear(6, 6)
            self.up.weight = self.down.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.down(x))
        whole = self.up(hidden) if hasattr(self, "up") else F.linear(hidden, self.down.weight.t())
        found: Tensor = self.last(torch.tanh(whole))
        return found


class Shared(nn.Module):
    """One block under two names, applied twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.again, self.last = self.block, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.again(self.block(x)))
        return found


class Averaged(nn.Module):
    """Keeps an exponential moving average of its first weight in a buffer, as EMA copies within a module do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("average", self.first.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.average.lerp_(self.first.weight, 0.1)
        found: Tensor = self.last(torch.tanh(self.first(x)))
        return found


def frozen() -> nn.Module:
    """The middle one of three layers is frozen."""
    model = mlp()
    model[2].requires_grad_(False)
    return model


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3))


def cnn() -> nn.Module:
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(16, 3))


def depthwise() -> nn.Module:
    layers = (nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4, padding=1), nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6))
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))


def bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(11, 6, mode="mean"), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def vectors(generator: torch.Generator) -> Tensor:
    return torch.randn(8, 6, generator=generator)


def images(generator: torch.Generator) -> Tensor:
    return torch.randn(8, 1, 6, 6, generator=generator)


def sequences(generator: torch.Generator) -> Tensor:
    return torch.randn(8, 5, 4, generator=generator)


def words(generator: torch.Generator) -> Tensor:
    return torch.randint(11, (8, 5), generator=generator)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A user's module and what it is fed.

    Args:
        wrap: what the user does with it before training, such as `torch.compile`.
        twice: a submodule stands under two names, which `functional_call` must not touch twice.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[torch.Generator], Tensor]
    wrap: Callable[[nn.Module], Any] = lambda model: model
    twice: bool = False


MODULES: dict[str, Kind] = {
    "mlp": Kind(build=mlp, inputs=vectors),
    "cnn+bn": Kind(build=cnn, inputs=images),
    "residual": Kind(build=Residual, inputs=images),
    "depthwise": Kind(build=depthwise, inputs=images),
    "lstm": Kind(build=lambda: Recurrent(nn.LSTM), inputs=sequences),
    "gru": Kind(build=lambda: Recurrent(nn.GRU), inputs=sequences),
    "transformer": Kind(build=Encoder, inputs=words),
    "tied by object": Kind(build=lambda: Tied(False), inputs=vectors),
    "tied by transpose": Kind(build=lambda: Tied(True), inputs=vectors),
    "shared block": Kind(build=Shared, inputs=vectors, twice=True),
    "compiled": Kind(build=mlp, inputs=vectors, wrap=lambda model: torch.compile(model, backend="eager")),
    "frozen parts": Kind(build=frozen, inputs=vectors),
    "ema inside": Kind(build=Averaged, inputs=vectors),
    "embedding bag": Kind(build=bag, inputs=words),
}


# --- loops

Watch = Callable[..., None]


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def clipped(model: nn.Module, seen: list[Tensor], most: float = 0.5) -> None:
    seen.append(nn.utils.clip_grad_norm_(model.parameters(), most).detach().clone())


def sgd(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
    optimizer = torch.optim.SGD(trainable(model), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        watch(model, optimizer)


def adamw_clipped(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
    optimizer = torch.optim.AdamW(trainable(model), lr=0.02, weight_decay=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        clipped(model, seen)
        optimizer.step()
        watch(model, optimizer)


def adam_bfloat16(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
    optimizer = torch.optim.Adam(trainable(model), lr=0.02)
    for x, y in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):  # it caches leaves alone, not the reference's
            loss = F.cross_entropy(model(x).float(), y)
        loss.backward()
        clipped(model, seen)
        optimizer.step()
        watch(model, optimizer)


def scaled(make: Callable[[list[nn.Parameter]], Optimizer]) -> Any:
    """Half precision with a `GradScaler` that overflows now and then."""

    def loop(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
        optimizer = make(trainable(model))
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**18, growth_interval=2)
        for x, y in batches:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16, cache_enabled=False):
                loss = F.cross_entropy(model(x).float(), y)
            scaler.scale(loss).backward()
            if not optimizer.defaults.get("fused"):
                scaler.unscale_(optimizer)
                clipped(model, seen)
            scaler.step(optimizer)
            scaler.update()
            watch(model, optimizer)

    return loop


def two_optimizers(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
    parameters = trainable(model)
    half = len(parameters) // 2
    optimizers = torch.optim.SGD(parameters[:half], lr=0.1, momentum=0.9), torch.optim.Adam(parameters[half:], lr=0.02)
    for x, y in batches:
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
        watch(model, *optimizers)


def three_to_one(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
    parameters = trainable(model)
    half = len(parameters) // 2
    often, seldom = torch.optim.Adam(parameters[:half], lr=0.02), torch.optim.RMSprop(parameters[half:], lr=0.01)
    for number, (x, y) in enumerate(batches, 1):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        often.step()
        if number % 3 == 0:
            seldom.step()
        watch(model, often, seldom)


def accumulated(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
    optimizer = torch.optim.SGD(trainable(model), lr=0.1, momentum=0.9)
    for number, (x, y) in enumerate(batches):
        (F.cross_entropy(model(x), y) / 2).backward()
        if number % 2:
            clipped(model, seen)
            optimizer.step()
            optimizer.zero_grad()
            watch(model, optimizer)


def scheduled(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
    optimizer = torch.optim.RMSprop(trainable(model), lr=0.01, momentum=0.5)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=STEPS)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        scheduler.step()
        watch(model, optimizer)


def lbfgs(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
    optimizer = torch.optim.LBFGS(trainable(model), lr=0.5, max_iter=3, line_search_fn="strong_wolfe")
    for x, y in batches[:3]:

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
        watch(model, optimizer)


LOOPS: dict[str, Any] = {
    "sgd+momentum+decay": sgd,
    "adamw+clipping": adamw_clipped,
    "adam+bfloat16": adam_bfloat16,
    "gradscaler": scaled(lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)),
    "two optimizers": two_optimizers,
    "three to one": three_to_one,
    "accumulation": accumulated,
    "scheduler": scheduled,
    "lbfgs": lbfgs,
}


def muon(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
    """Moves pruned weights by itself, whatever their gradients."""
    matrices = [p for p in trainable(model) if p.ndim == 2]
    others = [p for p in trainable(model) if p.ndim != 2]
    optimizers = torch.optim.Muon(matrices, lr=0.05), torch.optim.AdamW(others, lr=0.02)
    for x, y in batches:
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
        watch(model, *optimizers)


def written(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
    """The user writes into weights, before the step and in a hook after it (as Lookahead does)."""
    generator = torch.Generator().manual_seed(1)

    @torch.no_grad()
    def shake(*_: object) -> None:
        for parameter in trainable(model):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))

    optimizer = torch.optim.SGD(trainable(model), lr=0.1, momentum=0.9)
    optimizer.register_step_post_hook(shake)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        shake()
        optimizer.step()
        watch(model, optimizer)


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization as users have it: an optimizer around another, with a closure."""

    def __init__(self, parameters: Iterable[nn.Parameter], **settings: float) -> None:
        super().__init__(parameters, {"rho": 0.05, **settings})
        self.base = torch.optim.SGD(self.param_groups, lr=0.1, momentum=0.9)

    def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override]
        own = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in own]).norm()
            moves = [p.grad * (0.05 / (norm + 1e-12)) for p in own]
            for parameter, move in zip(own, moves, strict=True):
                parameter.add_(move)
        closure()
        with torch.no_grad():
            for parameter, move in zip(own, moves, strict=True):
                parameter.sub_(move)
        self.base.step()


def sam(model: nn.Module, batches: Batches, seen: list[Tensor], watch: Watch) -> None:
    optimizer = SAM(trainable(model))
    for x, y in batches:

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        closure()
        clipped(model, seen)
        optimizer.step(closure)
        watch(model, optimizer.base)


EXTRA: dict[str, Any] = {
    "muon": muon,
    "weights written by the user": written,
    "sam": sam,
    "fused+gradscaler": scaled(lambda parameters: torch.optim.Adam(parameters, lr=0.02, fused=True)),
}


# --- one cell


class Reference(nn.Module):
    """The function of `torch.where(mask, w, 0)`; the pruned weights are free parameters that nothing depends on."""

    def __init__(self, inner: nn.Module, mask: Mask, twice: bool) -> None:
        super().__init__()
        self.inner, self.twice, self.places = inner, twice, dict(mask)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        own = dict(self.inner.named_parameters())
        weights = {n: torch.where(self.places[n], p, 0) if n in self.places else p for n, p in own.items()}
        return functional_call(self.inner, weights, inputs, named, tie_weights=not self.twice)

    def found(self) -> dict[str, Tensor]:
        """Everything in the inner module's state, with 0 at pruned places, tied tensors under all their names."""
        state = {name: value.detach().clone() for name, value in self.inner.state_dict(keep_vars=True).items()}
        firsts = {parameter: name for name, parameter in self.inner.named_parameters()}
        for name, parameter in self.inner.named_parameters(remove_duplicate=False):
            if firsts[parameter] in self.places:
                state[name] = torch.where(self.places[firsts[parameter]], parameter.detach(), 0)
        return state


@dataclass
class Seen:
    """What a loop shows in one training: clipped norms, and where weights and optimizer state are 0 after each step."""

    norms: list[Tensor] = field(default_factory=list)
    zeros: list[list[tuple[str, str, Tensor]]] = field(default_factory=list)

    def watch(self, model: Any, *optimizers: Optimizer) -> None:
        rows = []
        for name, parameter in bare(model).named_parameters():
            rows.append((name, "weight", parameter.detach() == 0))
            for optimizer in optimizers:
                for slot, value in optimizer.state.get(parameter, {}).items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        rows.append((name, slot, value == 0))
        self.zeros.append(rows)


def built(kind: Kind, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return kind.build()


def batches_for(kind: Kind) -> Batches:
    generator = torch.Generator().manual_seed(4)
    return [(kind.inputs(generator), torch.randint(3, (8,), generator=generator)) for _ in range(STEPS)]


def check_cell(kind: Kind, loop: Any) -> Ticket:
    """`find_ticket` over a user's module and loop trains, bit for bit, what the reference trains."""
    batches, trainings = batches_for(kind), list[Seen]()

    def train(model: Any) -> None:
        trainings.append(Seen())
        loop(model, batches, trainings[-1].norms, trainings[-1].watch)

    start = {name: value.clone() for name, value in built(kind).state_dict().items()}
    ticket = find_ticket(kind.wrap(built(kind)), train, levels=1, allocation=Layerwise(rate=0.6, output=1.0))
    mask, seen, other = ticket.mask, trainings[1], Seen()
    assert len(trainings) == 2 and 0.35 < mask.density < 0.45
    reference = Reference(built(kind), mask, kind.twice)
    loop(reference, batches, other.norms, lambda *_: None)

    wanted = reference.found()
    assert ticket.trained is not None and ticket.trained.keys() == wanted.keys()
    assert [name for name in wanted if not same_bits(ticket.trained[name] + 0.0, wanted[name] + 0.0)] == []
    assert len(seen.norms) == len(other.norms) and all(map(same_bits, seen.norms, other.norms))
    assert all(bool(norm.isfinite()) for norm in seen.norms) or "scal" in loop.__qualname__
    assert len(seen.zeros) >= 3
    for rows in seen.zeros:
        for name, slot, zero in rows:
            assert name not in mask or bool(zero[~mask[name]].all()), f"{slot} of {name} is not 0 where it is pruned"
    moved = [name for name in mask if not torch.equal(ticket.weights[name], ticket.trained[name])]
    assert moved and all(torch.equal(ticket.weights[n][mask[n]], start[n][mask[n]]) for n in mask)
    return ticket
