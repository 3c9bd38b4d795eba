"""What several test files share: tiny data, masks, an independent training loop, and watchers that count."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.answers import Answer, Trained
from tombola.data import Dataset, from_arrays
from tombola.executors.base import Job
from tombola.masks import Mask
from tombola.models.dropout import CounterDropout
from tombola.models.net import Net
from tombola.recipes import Recipe
from tombola.requests import Fit, Place
from tombola.runner import Failure
from tombola.starts import Init
from tombola.streams import stream
from tombola.training.checkpoint import Checkpoint
from tombola.training.loop import Measured, silent, train
from tombola.training.optimizers import Optimizer
from tombola.training.sets import Sets, prepare
from tombola.training.settings import Training
from tombola.training.state import State, load_state, state_of
from tombola.watching import Silent

CPU = torch.device("cpu")

torch.set_num_threads(1)  # tiny tensors gain nothing from more, and machines are shared


def tiny_data(*, regression: bool = False, seed: int = 0) -> Dataset:
    """200 + 80 examples of 8 features: three noisy classes, or two outputs."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(280, 8, generator=generator)
    scores = x @ torch.randn(8, 3, generator=generator) + 0.5 * torch.randn(280, 3, generator=generator)
    y = scores[:, :2] if regression else scores.argmax(1)
    return from_arrays("tiny", x[:200], y[:200], x[200:], y[200:])


def tiny_recipe(**changes: Any) -> Recipe:
    """A whole experiment in about 60 short trainings or fewer."""
    chosen: dict[str, Any] = {
        "name": "tiny",
        "model": "mlp",
        "net": Net(hidden=(16,)),
        "steps": 60,
        "batch_size": 20,
        "eval_every": 10,
        "normalise": "none",
        "optimizer": Optimizer(lr=0.02),
        "levels": 2,
        "replicates": 2,
    }
    return Recipe(**{**chosen, **changes})


def random_mask(model: nn.Module, density: float = 0.4, seed: int = 0) -> Mask:
    """Every prunable tensor of the model, with a random share of its weights."""
    generator = torch.Generator().manual_seed(seed)
    return Mask({n: torch.rand(s, generator=generator) < density for n, s in Mask.dense(model).shapes.items()})


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal dtype, shape and bits: NaN equals itself, 0.0 and -0.0 differ."""
    plain = a.dtype == b.dtype and a.shape == b.shape
    return plain and torch.equal(a.contiguous().flatten().view(torch.uint8), b.contiguous().flatten().view(torch.uint8))


def same_state(a: State, b: State) -> bool:
    """Two states with the same names and the same bits."""
    return a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in a)


class Recorder(silent):
    """Events that hold the kept states, and stop once or take checkpoints where asked."""

    def __init__(self, *, stop_at: int | None = None) -> None:
        super().__init__()
        self.stop_at, self.step = stop_at, 0
        self.checkpoints: list[Checkpoint] = []

    def progress(self, step: int) -> None:
        self.step = step

    def stopping(self) -> bool:
        return self.stop_at is not None and self.step >= self.stop_at

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.append(checkpoint)


class Bench:
    """A network, data and settings, to be trained as often as a test likes."""

    def __init__(
        self, build: Callable[[], nn.Module], training: Training, data: Dataset | None = None, seed: int = 1
    ) -> None:
        self.build, self.training = build, training
        self.sets: Sets = prepare(data or tiny_data(), training, CPU)
        self.start = state_of(build())

    def fresh(self, start: State | None = None) -> nn.Module:
        """The network with its start weights."""
        model = self.build()
        load_state(model, start or self.start)
        return model

    def fit(self, **changes: Any) -> Fit:
        """A whole training; order 5, noise 6."""
        named = {"start": Init(seed=0), "mask": None, "last": self.training.steps, "order": 5, "noise": 6}
        return Fit(**{**named, **changes})

    def train(
        self,
        fit: Fit | None = None,
        *,
        events: Recorder | None = None,
        start: State | None = None,
        resume: Checkpoint | None = None,
        **further: Any,
    ) -> tuple[Measured, Recorder, nn.Module]:
        """What the reference loop measures, keeps and leaves behind."""
        model, found = self.fresh(start), events or Recorder()
        dense = Mask.dense(model)
        measured = train(
            model,
            fit or self.fit(),
            sets=self.sets,
            training=self.training,
            prunable=dense,
            events=found,
            resume=resume,
            **further,
        )
        return measured, found, model


def order_by_hand(indices: Tensor, batch: int, seed: int, steps: int) -> list[list[int]]:
    """The batches as documented, from one long list."""
    places: list[int] = []
    epoch = 0
    while len(places) < steps * batch:
        draw = torch.randperm(len(indices), generator=stream(seed, f"order/{epoch}"))
        places += indices[draw].tolist()
        epoch += 1
    return [places[i * batch : (i + 1) * batch] for i in range(steps)]


def train_by_hand(
    bench: Bench,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    *,
    steps: int,
    mask: Mask | None = None,
    start: State | None = None,
    first: int = 0,
    order: int = 5,
    rate: Callable[[int], float] | None = None,
    penalty: Callable[[nn.Module], Tensor | float] = lambda model: 0.0,
) -> tuple[nn.Module, list[tuple[float, int]]]:
    """A plain loop that shares nothing with the reference one but torch: (network, (loss, correct) of each batch)."""
    model = bench.fresh(start)
    model.train()
    assert not any(isinstance(m, CounterDropout | nn.Dropout) for m in model.modules())
    named, places = dict(model.named_parameters()), dict(mask or {})
    stepper, seen = optimizer(list(named.values())), []
    with torch.no_grad():
        for name, kept in places.items():
            named[name].mul_(kept)
    batches = order_by_hand(bench.sets.train_index, bench.training.batch_size, order, steps)
    for step, batch in list(enumerate(batches))[first:]:
        x, y = bench.sets.train.x[batch], bench.sets.train.y[batch]
        if rate is not None:
            stepper.param_groups[0]["lr"] = rate(step)
        stepper.zero_grad()
        outputs = model(x.to(next(model.parameters()).dtype))
        loss = F.cross_entropy(outputs, y)
        (loss + penalty(model)).backward()
        seen.append((float(loss.detach()), int((outputs.argmax(1) == y).sum())))
        with torch.no_grad():
            for name, kept in places.items():
                named[name].grad.mul_(kept)  # type: ignore[union-attr]
            stepper.step()
            for name, kept in places.items():
                named[name].mul_(kept)
    return model, seen


class Counting(Silent):
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.plans: list[tuple[Place, bool]] = []
        self.answers: dict[tuple[int, int, str], Answer] = {}
        self.failures: list[Failure] = []
        self.steps: list[int] = []

    def planned(self, place: Place, job: Job, stored: bool) -> None:
        self.plans.append((place, stored))

    def started(self, job: Job) -> None:
        self.jobs.append(job)

    def progress(self, request: str, step: int) -> None:
        self.steps.append(step)

    def answered(self, place: Place, answer: Answer) -> None:
        self.answers[place.level, place.replicate, place.arm.name] = answer

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure)

    def trained(self, level: int, arm: str = "ticket", replicate: int = 0) -> Trained:
        """The answer of one arm."""
        answer = self.answers[level, replicate, arm]
        assert isinstance(answer, Trained)
        return answer


class Marked(nn.Module):
    """A user's network: its own random mark, kept in its state, tells whose training it is in.

    At training step 7 the network whose mark stands in the file `TOMBOLA_TEST_MARK` raises, puts out NaN, or ends its
    process, as the file's second word says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 3)
        self.register_buffer("mark", torch.rand((), dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(torch.relu(self.first(x)))
        self.seen += int(self.training)
        return found * self._misfortune() if self.training and int(self.seen) == 7 else found

    def _misfortune(self) -> float:
        place = Path(os.environ.get("TOMBOLA_TEST_MARK", "/none"))
        mark, how = place.read_text().split() if place.is_file() else ("", "")
        if mark == repr(float(self.mark)):
            if how == "raise":
                raise ZeroDivisionError("a user's\nmistake")
            if how == "kill":
                place.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            return float("nan")
        return 1.0


def numbers(folder: Path) -> dict[str, bytes]:
    """Every object of a store and its bytes; answers carry times and are left out."""
    return {path.name: path.read_bytes() for path in sorted((folder / "objects").rglob("*.safetensors"))}


@contextmanager
def ended(pid: int) -> Iterator[None]:
    """Whatever happens inside, the process group of `pid` is gone afterwards."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
