"""The reference engine: plain torch, any module, any device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from tombola.masks import Mask
from tombola.models.dropout import CounterDropout
from tombola.requests import Fit
from tombola.streams import derive, key, seeded
from tombola.training.denormals import flushed_denormals
from tombola.training.enforce import enforce
from tombola.training.evaluation import correct, evaluate
from tombola.training.frozen import frozen, standing
from tombola.training.gather import Gathering
from tombola.training.gradual import Thinning
from tombola.training.order import Order
from tombola.training.sets import Examples, Sets, loss_of
from tombola.training.settings import Training
from tombola.training.state import State, load_state, state_of

__all__ = ["Reference"]


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
        self.model, self.fit, self.sets, self.training = model, fit, sets, training
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
        with flushed_denormals(), seeded(self.fit.noise), enforced:
            yield

    def advance(self, first: int, last: int) -> None:
        """Train from absolute step `first` to `last`."""
        training, fit, sets = self.training, self.fit, self.sets
        for step in range(first, last):
            torch.default_generator.manual_seed(self.noise + step)
            if self.loss.is_cuda:
                torch.cuda.manual_seed(self.noise + step)
            for number, layer in enumerate(self.dropouts):
                layer.key = key(fit.noise, f"dropout/{number}", step)
            at = step if fit.held_rate is None else fit.held_rate
            rate = training.optimizer.lr * training.schedule.at(at, training.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            index = self.order.batch(step)
            y = sets.train.y.index_select(0, index)
            outputs = self.model(sets.inputs(sets.train.x.index_select(0, index), self.dtype))
            loss = loss_of(outputs, y, training)
            self.optimizer.zero_grad()
            loss.backward()
            self.gathering.add()
            with torch.no_grad():
                if self.decayed:
                    pairs = [(w.grad, self._trained(name, w)) for name, w in self.decayed if w.grad is not None]
                    torch._foreach_add_([g for g, _ in pairs], [w for _, w in pairs], alpha=training.l2)
                if training.clip_norm:
                    nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm)
                self.loss += loss.detach()
                if sets.classes:
                    self.correct += correct(outputs, y)
            self.optimizer.step()
            if self.thinning is not None and self.thinning.due(step + 1):
                self._cut(self.thinning, step + 1)

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
        """The state of now, for later."""
        state = self.state()
        return lambda: state

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
        for name, value in slots.items():
            index, _, slot = name.partition("/")
            found.setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict({"state": found, "param_groups": self.optimizer.state_dict()["param_groups"]})
