"""Several trainings of one architecture as one: every tensor has one more dimension, the lane."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from tombola.data.augmentation import augmentation_of
from tombola.masks import Mask
from tombola.models.dropout import CounterDropout
from tombola.requests import Fit
from tombola.streams import seeded
from tombola.training.capture import Keys, Replayed, fix_rate, recorder, set_rate
from tombola.training.captured import noise_purposes
from tombola.training.denormals import flushed_denormals
from tombola.training.enforce import enforce
from tombola.training.evaluation import correct, evaluate
from tombola.training.forward import laid_out, outputs_of
from tombola.training.lanes import clip_lanes, stacked_masks, stacked_module
from tombola.training.order import Order
from tombola.training.reference import dropout_purpose, in_parts, rate_of
from tombola.training.sets import Examples, Sets, loss_of
from tombola.training.settings import Training
from tombola.training.state import State

__all__ = ["Lane", "Stack"]


class Stack:
    """Trains several fits of one network at once, one a lane; lanes beyond the fits repeat the first one, unread.

    One `torch.func.vmap` over the lanes makes batched products of the layers' products, so that a GPU that a small
    network leaves idle has work. The objective is the sum of the lanes' mean losses: no lane's gradient depends on
    another one, what the optimizer does is done to each number by itself, and a norm is clipped lane by lane. A loss
    that is not finite stays in its lane.

    Args:
        model: holds the start weights of the first fit, on the device.
        starts: the weights of each.
        width: lanes; at least as many as fits.
        capture: record the step (`tombola.training.capture`).
    """

    def __init__(
        self,
        model: nn.Module,
        fits: Sequence[Fit],
        starts: Sequence[State],
        sets: Sets,
        training: Training,
        prunable: Mask,
        *,
        width: int | None = None,
        capture: bool = False,
    ) -> None:
        self.fits, self.sets, self.training = fits, sets, training
        self.width, self.capture = width or len(fits), capture
        spare = self.width - len(fits)
        filled = [*fits, *[fits[0]] * spare]
        self.base = model.train()
        self.single = laid_out(copy.deepcopy(model), training)
        self.holder = stacked_module(model, [*starts, *[starts[0]] * spare])
        self.weights = dict(self.holder.named_parameters())
        self.buffers = dict(self.holder.named_buffers())
        self.mask = stacked_masks([f.mask for f in filled], {n: tuple(w.shape[1:]) for n, w in self.weights.items()})
        self.optimizer = training.optimizer.build(self.holder.parameters())
        self.decayed = [self.weights[name] for name in prunable] if training.l2 else []
        self.dtype = next(model.parameters()).dtype
        self.device = sets.train.x.device
        self.orders = [Order(sets.train_index, batch=training.batch_size, seed=fit.order) for fit in filled]
        self.dropouts = [m for m in self.base.modules() if isinstance(m, CounterDropout)]
        self.augment = augmentation_of(training.augment, tuple(sets.train.x.shape[1:]))
        self.keys = Keys([f.noise for f in filled], noise_purposes(len(self.dropouts), training), self.device)
        self.index = torch.zeros(self.width, training.batch_size, dtype=torch.int64, device=self.device)
        self.loss = torch.zeros(self.width, device=self.device)
        self.correct = torch.zeros(self.width, device=self.device, dtype=torch.int64)
        self.replayed = Replayed(self.device, recorder(self.device) if capture else None)
        if capture:
            fix_rate(self.optimizer, self.device)
        self.restored: list[State] = [{} for _ in fits]  # what checkpoints hold of the optimizer, lane by lane
        self._version, self._shown = 0, (-1, -1)

    @property
    def lanes(self) -> list[Lane]:
        """One for each fit."""
        return [Lane(self, number) for number in range(len(self.fits))]

    @property
    def provenance(self) -> Mapping[str, str]:
        """Its name, and how many lanes: kernels may go by it."""
        named = {"engine": "stacked", "stack": str(self.width)}
        if self.capture:
            named["step"] = "captured"
        if self.capture and self.replayed.refused is not None:
            named["not_captured"] = self.replayed.refused
        return named

    @contextmanager
    def running(self) -> Iterator[None]:
        """Masks are in force; what checkpoints have put back goes to the optimizer."""
        self._load_slots()
        enforced: AbstractContextManager[None] = nullcontext()
        with self.replayed.running(), flushed_denormals(), seeded(self.fits[0].noise):
            if self.mask is not None:
                enforced = enforce(self.holder, self.optimizer, self.mask, remask=False)
            with enforced:
                yield

    def advance(self, first: int, last: int) -> None:
        """Train all lanes from absolute step `first` to `last`."""
        self._version += 1
        for step in range(first, last):
            rate = rate_of(self.fits[0], self.training, step)
            if self.capture:
                set_rate(self.optimizer, rate)
            else:
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
            torch.stack([order.batch(step) for order in self.orders], out=self.index)
            self.keys.set(step)
            self.replayed(self._learn)

    def _learn(self) -> None:
        """One optimizer step of every lane on its examples."""
        training, sets, lanes = self.training, self.sets, self.index.shape
        x = sets.train.x.index_select(0, self.index.flatten()).unflatten(0, lanes)
        y = sets.train.y.index_select(0, self.index.flatten()).unflatten(0, lanes)
        if training.augment != "none":
            x = vmap(self.augment)(x, self.keys.values[:, self.keys.rows["augment"]])
        self.optimizer.zero_grad()
        for part, (some, wanted) in enumerate(in_parts(x.transpose(0, 1), y.transpose(0, 1), training.parts)):
            run = vmap(lambda *lane, part=part: self._losses(part, *lane), in_dims=(0, 0, 0, 1, 1), randomness="error")
            losses, hits = run(self.weights, self.buffers, self.keys.values, some, wanted)
            if training.parts > 1:
                losses = losses * (len(wanted) / training.batch_size)
            losses.sum().backward()
            with torch.no_grad():
                self.loss += losses.detach()
                self.correct += hits
        with torch.no_grad():
            found = [(w.grad, w) for w in self.decayed if w.grad is not None]
            if found:
                torch._foreach_add_([g for g, _ in found], [w.detach() for _, w in found], alpha=training.l2)
            if training.clip_norm:
                clip_lanes([w.grad for w in self.weights.values() if w.grad is not None], training.clip_norm)
        self.optimizer.step()

    def _losses(
        self, part: int, weights: State, buffers: State, keys: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and hits of one lane."""
        for number, layer in enumerate(self.dropouts):
            layer.key = keys[self.keys.rows[dropout_purpose(number, part)]]

        def called(inputs: Tensor) -> Tensor:
            outputs: Tensor = functional_call(self.base, (weights, buffers), (inputs,))
            return outputs

        outputs = outputs_of(called, x, self.sets, self.training, self.dtype)
        hits = correct(outputs, y) if self.sets.classes else torch.zeros_like(self.correct[0])
        return loss_of(outputs, y, self.training), hits

    def shown(self, lane: int) -> nn.Module:
        """One network with the weights of a lane as they are now."""
        if self._shown != (self._version, lane):
            self.single.load_state_dict({name: value[lane] for name, value in self.holder.state_dict().items()})
            self._shown = self._version, lane
        return self.single

    def _load_slots(self) -> None:
        """Stack what the lanes' checkpoints hold of the optimizer; every lane has one, or none has."""
        if not self.restored[0]:
            return
        rows = [*self.restored, *self.restored[:1] * (self.width - len(self.fits))]
        parameters = list(self.holder.parameters())
        state: dict[int, dict[str, object]] = {}
        for name, value in rows[0].items():
            index, _, slot = name.partition("/")
            whole = value.shape == parameters[int(index)].shape[1:] and slot != "step"
            state.setdefault(int(index), {})[slot] = torch.stack([row[name] for row in rows]) if whole else value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.restored = [{} for _ in self.fits]

    def put(self, lane: int, state: State) -> None:
        """Put a state into a lane, and into those that repeat the first one."""
        self._version += 1
        rows = [lane, *range(len(self.fits), self.width)] if lane == 0 else [lane]
        with torch.no_grad():
            for name, value in self.holder.state_dict().items():
                for row in rows:
                    value[row].copy_(state[name])


class Lane:
    """One training of a stack; an `Engine` (`tombola.training.engine`), but for its steps: those the stack makes."""

    stride = 1

    def __init__(self, stack: Stack, number: int) -> None:
        self.stack, self.number = stack, number

    @property
    def provenance(self) -> Mapping[str, str]:
        """That of the stack."""
        return self.stack.provenance

    def running(self) -> AbstractContextManager[None]:
        """That of the stack."""
        return self.stack.running()

    def advance(self, first: int, last: int) -> None:
        """All lanes of the stack."""
        self.stack.advance(first, last)

    def sums(self) -> tuple[float, float]:
        """Losses and correct predictions of the lane since `clear`."""
        return float(self.stack.loss[self.number]), float(self.stack.correct[self.number])

    def clear(self, loss: float = 0.0, correct: float = 0.0) -> None:
        """Begin new sums, or go on with those of a checkpoint."""
        self.stack.loss[self.number] = loss
        self.stack.correct[self.number] = int(correct)

    def evaluate(self, examples: Examples, index: Tensor | None = None) -> tuple[float, float]:
        """(loss, metric) by the plain network with the lane's weights: what a single fit measures."""
        return evaluate(self.stack.shown(self.number), examples, self.stack.sets, self.stack.training, index=index)

    def state(self) -> State:
        """A copy of the lane's weights and buffers, on the CPU."""
        return self.snapshot()()

    def snapshot(self) -> Callable[[], State]:
        """The state of now, for later: it stays on the device until it is called for."""
        held = {name: value[self.number].detach().clone() for name, value in self.stack.holder.state_dict().items()}
        return lambda: {name: value.to("cpu", copy=True).contiguous() for name, value in held.items()}

    def slots(self) -> tuple[State, dict[str, dict[str, float]]]:
        """The lane's part of the optimizer's state, as a single fit would have it."""
        found: State = {}
        parameters = list(self.stack.holder.parameters())
        for index, slots in self.stack.optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                if isinstance(value, Tensor):
                    part = value[self.number] if value.shape == parameters[index].shape and value.ndim else value
                    found[f"{index}/{name}"] = part.detach().to("cpu", copy=True).contiguous()
        return found, {}

    def gathered(self) -> dict[str, State]:
        """Nothing: a fit that gathers does not stack."""
        return {}

    def moved(self) -> Mask | None:
        """None: a fit whose mask moves does not stack."""
        return None

    def restore(
        self,
        model: State,
        slots: State,
        numbers: Mapping[str, Mapping[str, float]],
        gathered: Mapping[str, State],
        mask: State,
    ) -> None:
        """Go on from `state()` and `slots()`: in force when the stack is running, for all lanes at once."""
        self.stack.put(self.number, model)
        self.stack.restored[self.number] = dict(slots)
