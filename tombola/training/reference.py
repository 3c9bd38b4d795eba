"""The reference engine: plain torch, any module, any device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from tombola.data.augmentation import augmentation_of
from tombola.masks import Mask
from tombola.models.dropout import CounterDropout
from tombola.requests import Fit
from tombola.streams import Key, derive, key, seeded
from tombola.training.denormals import flushed_denormals
from tombola.training.enforce import enforce
from tombola.training.evaluation import correct, evaluate
from tombola.training.forward import laid_out, outputs_of
from tombola.training.frozen import frozen, standing
from tombola.training.gather import Gathering
from tombola.training.gradual import Thinning
from tombola.training.order import Order
from tombola.training.sets import Examples, Sets, loss_of
from tombola.training.settings import Training
from tombola.training.state import State, load_state, state_of

__all__ = ["Reference", "dropout_purpose", "in_parts", "rate_of"]


class Reference:
    """Trains the module itself, in place; an `Engine` (`tombola.training.engine`).

    Each step sets torch's own generator from (noise, step), so that a user's `nn.Dropout` can be replayed from any
    step too.

    Args:
        model: holds the start weights.
        prunable: names the tensors that `training.l2` acts on and that statistics are gathered for.
    """

    stride = 1
    provenance: Mapping[str, str] = {"engine": "torch"}

    def __init__(self, model: nn.Module, fit: Fit, sets: Sets, training: Training, prunable: Mask) -> None:
        self.model, self.fit, self.sets, self.training = laid_out(model, training), fit, sets, training
        self.augment = augmentation_of(training.augment, tuple(sets.train.x.shape[1:]))
        self.optimizer = training.optimizer.build(model.parameters())
        named = dict(model.named_parameters())
        self.decayed = [(name, named[name]) for name in prunable] if training.l2 else []
        self.gathering = Gathering(fit.gather, model, prunable)
        self.standing = standing(model, fit.mask) if fit.mask is not None and fit.frozen is not None else None
        self.thinning = Thinning(model, self.optimizer, fit, prunable) if fit.dynamics is not None else None
        self.dtype = next(model.parameters()).dtype
        self.order = Order(sets.train_index, batch=training.batch_size, seed=fit.order)
        self.noise = derive(fit.noise, "step") >> 1  # room for the step
        self.dropouts = [m for m in model.modules() if isinstance(m, CounterDropout)]
        self.loss = torch.zeros((), device=sets.train.x.device)
        self.correct = torch.zeros((), device=sets.train.x.device, dtype=torch.int64)
        model.train()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Mask and random state are in force; global random state is put back afterwards."""
        mask = self.fit.mask
        enforced: AbstractContextManager[None] = nullcontext()
        if self.thinning is not None:
            enforced = self.thinning.running()
        elif mask is not None and self.standing is not None:
            enforced = frozen(self.model, self.optimizer, mask, self.standing)
        elif mask is not None:
            enforced = enforce(self.model, self.optimizer, mask, remask=False)
        device = self.loss.device  # generators are those of the current one, which need not be ours
        current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
        with current, flushed_denormals(), seeded(self.fit.noise), enforced:
            yield

    def advance(self, first: int, last: int) -> None:
        """Train from absolute step `first` to `last`."""
        for step in range(first, last):
            torch.default_generator.manual_seed(self.noise + step)
            if self.loss.is_cuda:
                torch.cuda.manual_seed(self.noise + step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate_of(self.fit, self.training, step)
            self._learn(self.order.batch(step), step)
            if self.thinning is not None and self.thinning.due(step + 1):
                self._cut(self.thinning, step + 1)

    def _learn(self, index: Tensor, step: int) -> None:
        """One optimizer step on the examples at `index`."""
        training, sets = self.training, self.sets
        x, y = sets.train.x.index_select(0, index), sets.train.y.index_select(0, index)
        if training.augment != "none":
            x = self.augment(x, self._key("augment", step))
        self.optimizer.zero_grad()
        self._backward(x, y, step)
        self.gathering.add()
        with torch.no_grad():
            if self.decayed:
                pairs = [(w.grad, self._trained(name, w)) for name, w in self.decayed if w.grad is not None]
                torch._foreach_add_([g for g, _ in pairs], [w for _, w in pairs], alpha=training.l2)
            if training.clip_norm:
                nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm)
        self.optimizer.step()

    def _key(self, purpose: str, step: int) -> Key | Tensor:
        """The key of a step's noise."""
        return key(self.fit.noise, purpose, step)

    def _backward(self, x: Tensor, y: Tensor, step: int) -> None:
        """The gradient of the mean loss over a batch, part by part where the training says so; and the sums."""
        training, sets, count = self.training, self.sets, len(y)
        whole = training.parts == 1
        for part, (some, wanted) in enumerate([(x, y)] if whole else in_parts(x, y, training.parts)):
            for number, layer in enumerate(self.dropouts):
                layer.key = self._key(dropout_purpose(number, part), step)
            outputs = outputs_of(self.model, some, sets, training, self.dtype)
            loss = loss_of(outputs, wanted, training)
            if not whole:
                loss = loss * (len(wanted) / count)
            loss.backward()
            with torch.no_grad():
                self.loss += loss.detach()
                if sets.classes:
                    self.correct += correct(outputs, wanted)

    def _cut(self, thinning: Thinning, step: int) -> None:
        """Cut the mask, unless the training has diverged: nothing says then which weights are the better ones."""
        if bool(self.loss.isfinite()) and all(bool(w.isfinite().all()) for w in self.model.parameters()):
            thinning.cut(step, self.sets, self.training, self.gathering.state())
        else:
            self.loss.fill_(torch.nan)  # so that the next evaluation says so

    def _trained(self, name: str, weight: Tensor) -> Tensor:
        """The weight that a penalty acts on: what stands still has none, so that no norm sees it."""
        mask = self.fit.mask
        if self.standing is None or mask is None or name not in mask:
            return weight.detach()
        return weight.detach().where(mask[name].to(weight.device), 0)

    def sums(self) -> tuple[float, float]:
        """Losses and correct predictions, each summed over the batches since `clear`."""
        return float(self.loss), float(self.correct)

    def clear(self, loss: float = 0.0, correct: float = 0.0) -> None:
        """Begin new sums, or go on with those of a checkpoint."""
        self.loss.fill_(loss)
        self.correct.fill_(int(correct))

    def evaluate(self, examples: Examples, index: Tensor | None = None) -> tuple[float, float]:
        """(loss, metric) as means over the examples, or over those at `index`."""
        return evaluate(self.model, examples, self.sets, self.training, index=index)

    def state(self) -> State:
        """A copy of everything in the module's `state_dict()`, on the CPU."""
        return state_of(self.model)

    def snapshot(self) -> Callable[[], State]:
        """The state of now, for later: it stays on the device until it is called for."""
        held = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        return lambda: {name: value.to("cpu", copy=True).contiguous() for name, value in held.items()}

    def slots(self) -> tuple[State, dict[str, dict[str, float]]]:
        """The state of the torch optimizer: tensors `INDEX/SLOT`, and numbers."""
        tensors: State = {}
        numbers: dict[str, dict[str, float]] = {}
        for index, slots in self.optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                if isinstance(value, Tensor):
                    tensors[f"{index}/{name}"] = value.detach().to("cpu", copy=True).contiguous()
                elif value is not None:
                    numbers.setdefault(str(index), {})[name] = value
        return tensors, numbers

    def gathered(self) -> dict[str, State]:
        """The statistics that the fit gathers, summed so far."""
        return self.gathering.state()

    def moved(self) -> Mask | None:
        """The mask of now, where the fit moves it."""
        return None if self.thinning is None else self.thinning.mask

    def restore(
        self,
        model: State,
        slots: State,
        numbers: Mapping[str, Mapping[str, float]],
        gathered: Mapping[str, State],
        mask: State,
    ) -> None:
        """Put a checkpoint back into module, optimizer and mask."""
        load_state(self.model, model)
        if self.thinning is not None:
            self.thinning.mask = Mask({name: mask[name] for name in self.thinning.mask})  # in the order of the module
        self.gathering.load(gathered)
        found: dict[int, dict[str, object]] = {int(index): dict(named) for index, named in numbers.items()}
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        for name, value in slots.items():
            index, _, slot = name.partition("/")
            found.setdefault(int(index), {})[slot] = _laid_out_as(weights[int(index)], value)
        self.optimizer.load_state_dict({"state": found, "param_groups": self.optimizer.state_dict()["param_groups"]})


def rate_of(fit: Fit, training: Training, step: int) -> float:
    """The learning rate of the step from `step` to `step + 1`."""
    at = step if fit.held_rate is None else fit.held_rate
    return training.optimizer.lr * training.schedule.at(at, training.steps)


def dropout_purpose(number: int, part: int) -> str:
    """The purpose under which a layer's noise is drawn for a part of a batch."""
    return f"dropout/{number}" if part == 0 else f"dropout/{number}/{part}"


def in_parts(x: Tensor, y: Tensor, parts: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A batch in so many parts, the first ones larger by one where it does not divide."""
    return zip(x.tensor_split(parts), y.tensor_split(parts), strict=True)


def _laid_out_as(weight: Tensor, value: Tensor) -> Tensor:
    """A slot in the memory format of its weight: fused optimizers need that, and do not look."""
    if value.shape != weight.shape:
        return value
    return torch.empty_like(weight, dtype=value.dtype, device="cpu").copy_(value)
