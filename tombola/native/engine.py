"""The native engine: the same trainings as the reference loop, by the compiled kernels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from tombola.compiled import Compiled, compiled
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.models.dropout import CounterDropout
from tombola.native.data import Source, source_of
from tombola.native.fits import beyond
from tombola.native.kernels import Opened, formats_of, machine_of
from tombola.native.layout import Array
from tombola.native.structure import links_of
from tombola.requests import Fit
from tombola.streams import words
from tombola.training.denormals import flushed_denormals
from tombola.training.order import Order
from tombola.training.sets import Examples, Sets
from tombola.training.settings import Training
from tombola.training.state import State, load_state, state_of

__all__ = ["Native"]

_SECONDS = 0.2  # of training between two looks outside
_KINDS = {"sgd": 0, "adam": 1, "adamw": 2}
_LOSSES = {"cross-entropy": 0, "mean-squared-error": 1}


class Native:
    """Trains convolutions and Linear layers on their surviving weights alone; an `Engine` (`tombola.training.engine`).

    The same requests and streams as in the reference loop give the same numbers to rounding: sums are taken in another
    order. The module gets the trained weights at the end.

    Args:
        model: holds the start weights; one that `tombola.native.why_not` finds nothing against.
        prunable: names the tensors that `training.l2` acts on.
        library: the compiled kernels; None: `tombola.compiled.compiled()`.

    Raises:
        UsageError: there are no compiled kernels, the mask prunes something else than weights of layers, or the fit has
            frozen places, statistics to gather or a mask that moves (`tombola.native.fits.beyond`).
        Unknown: the network is none that the kernels know.
    """

    def __init__(
        self,
        model: nn.Module,
        fit: Fit,
        sets: Sets,
        training: Training,
        prunable: Mask,
        *,
        library: Compiled | None = None,
    ) -> None:
        library = library or compiled()
        if library is None:
            raise UsageError("There are no compiled kernels to train with; see tombola.compiled.absent().")
        lacking = beyond(fit)
        if lacking is not None:
            raise UsageError(f"The native engine cannot train this: {lacking}. Use --engine auto.")
        self.model, self.fit, self.sets, self.training = model, fit, sets, training
        self.provenance: Mapping[str, str] = {"engine": "native", "variant": library.name}
        self.order = Order(sets.train_index, batch=training.batch_size, seed=fit.order)
        links = links_of(model, sets.train.x.shape[1:])
        self.source: Source = source_of(sets, images=links[0].image is not None)
        alive = {} if fit.mask is None else {name: kept.contiguous() for name, kept in fit.mask.sparse().items()}
        other = alive.keys() - {link.weight for link in links}
        if other:
            raise UsageError(f"The mask prunes {min(other)!r}, and the native engine weights of layers alone.")
        drops = sum(isinstance(module, CounterDropout) for module in model.modules())
        self.opened = Opened(
            library,
            links,
            alive,
            order=self.source.order,
            formats=formats_of(links, alive, machine_of(library), ink=self.source.ink if self.source.packed else None),
            options=_options(training, self.source),
            l2=dict.fromkeys(prunable, training.l2) if training.l2 else {},
            noise={number: words(fit.noise, f"dropout/{number}") for number in range(drops)},
        )
        self._index = {name: number for number, (name, _) in enumerate(model.named_parameters())}
        self._seconds = 0.0  # of one step
        self._loss = self._correct = 0.0
        self._load(state_of(model))

    def _load(self, state: State) -> None:
        self.opened.layout.pack(state, self.opened.param)

    @property
    def stride(self) -> int:
        """So many steps as a fraction of a second takes; 1 before that is known."""
        return max(1, int(_SECONDS / self._seconds)) if self._seconds else 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """Numbers below 1e-38 count as 0; afterwards the module has the trained weights."""
        with flushed_denormals():
            yield
        load_state(self.model, self.state())

    def advance(self, first: int, last: int) -> None:
        """Train from absolute step `first` to `last`, in one call."""
        begun, training = time.perf_counter(), self.training
        steps = range(first, last) if self.fit.held_rate is None else [self.fit.held_rate] * (last - first)
        rates = np.array([training.optimizer.lr * training.schedule.at(step, training.steps) for step in steps])
        index = self.source.index(self.order.span(first, last))
        examples = self.source.examples(self.sets.train, self.opened)
        self._loss, self._correct = self.opened.train(examples, index, rates, first, self.sums())
        self._seconds = (time.perf_counter() - begun) / (last - first)

    def sums(self) -> tuple[float, float]:
        """Losses and correct predictions, each summed over the batches since `clear`."""
        return self._loss, self._correct

    def clear(self, loss: float = 0.0, correct: float = 0.0) -> None:
        """Begin new sums, or go on with those of a checkpoint."""
        self._loss, self._correct = loss, correct

    def evaluate(self, examples: Examples, index: Tensor | None = None) -> tuple[float, float]:
        """(loss, metric) as means over the examples, or over those at `index`, by the same kernels."""
        places = None if index is None else self.source.index(index)
        tiles = self.source.tiled(examples, self.opened) if index is None else None
        loss, correct = self.opened.evaluate(self.source.examples(examples, self.opened), index=places, tiles=tiles)
        count = len(examples) if index is None else len(index)
        return loss / count, (correct if self.sets.classes else loss) / count

    def state(self) -> State:
        """Weights and biases, dense; exactly 0 where no weight exists."""
        return self._unpacked(self.opened.param)

    def snapshot(self) -> Callable[[], State]:
        """The state of now, made dense when it is called."""
        vector = self.opened.param.copy()
        return lambda: self._unpacked(vector)

    def _unpacked(self, vector: Array) -> State:
        made = self.opened.layout.unpack(vector)
        return {name: made[name] for name in self._index}

    def slots(self) -> tuple[State, dict[str, dict[str, float]]]:
        """The optimizer's state as torch's own optimizer would hold it."""
        tensors: State = {}
        for slot, vector in self._moments().items():
            tensors |= {f"{self._index[name]}/{slot}": value for name, value in self._unpacked(vector).items()}
        if self.training.optimizer.name != "sgd" and self.opened.updates:
            count = torch.tensor(float(self.opened.updates))
            tensors |= {f"{number}/step": count.clone() for number in self._index.values()}
        return (tensors if self.opened.updates else {}), {}

    def _moments(self) -> dict[str, Array]:
        if self.training.optimizer.name == "sgd":
            return {"momentum_buffer": self.opened.first} if self.training.optimizer.momentum else {}
        return {"exp_avg": self.opened.first, "exp_avg_sq": self.opened.second}

    def gathered(self) -> dict[str, State]:
        """Nothing: the kernels sum no statistics."""
        return {}

    def moved(self) -> Mask | None:
        """None: the kernels go by one mask from beginning to end."""
        return None

    def restore(
        self,
        model: State,
        slots: State,
        numbers: Mapping[str, Mapping[str, float]],
        gathered: Mapping[str, State],
        mask: State,
    ) -> None:
        """Go on from `state()` and `slots()`."""
        self._load(model)
        for slot, vector in self._moments().items() if slots else ():
            self.opened.layout.pack({name: slots[f"{i}/{slot}"] for name, i in self._index.items()}, vector)
        steps = slots.get("0/step")
        self.opened.updates = 0 if steps is None else int(steps)


def _options(training: Training, source: Source) -> dict[str, float]:
    spec = training.optimizer
    scale, shift = (source.sets.affine.scale[0], source.sets.affine.shift[0]) if source.packed else (1.0, 0.0)
    return {
        "loss": _LOSSES[training.loss],
        "kind": _KINDS[spec.name],
        "nesterov": spec.nesterov,
        "beta1": spec.betas[0],
        "beta2": spec.betas[1],
        "eps": spec.eps,
        "momentum": spec.momentum,
        "weight_decay": spec.weight_decay,
        "clip_norm": training.clip_norm,
        "smoothing": training.label_smoothing,
        "scale": scale,
        "shift": shift,
    }
