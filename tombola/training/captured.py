"""The reference engine with its step recorded: the same numbers, without a launch from Python for each kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from tombola.masks import Mask
from tombola.requests import Fit
from tombola.streams import Key
from tombola.training.capture import Keys, Replayed, fix_rate, recorder, set_rate
from tombola.training.reference import Reference, dropout_purpose, rate_of
from tombola.training.sets import Sets
from tombola.training.settings import Training

__all__ = ["Captured", "draws_elsewhere", "noise_purposes", "not_captured"]


def draws_elsewhere(model: nn.Module) -> str | None:
    """Which layers draw from torch's own generator, as a clause; None: none that are known to."""
    found = next((name for name, layer in model.named_modules() if isinstance(layer, _DropoutNd) and layer.p), None)
    return None if found is None else f"its {type(model.get_submodule(found)).__name__} draws from torch's generator"


def noise_purposes(dropouts: int, training: Training) -> list[str]:
    """Every purpose for which a step draws noise, for a network with so many layers of counter dropout."""
    augment = [] if training.augment == "none" else ["augment"]
    return augment + [dropout_purpose(number, part) for part in range(training.parts) for number in range(dropouts)]


def not_captured(model: nn.Module, fit: Fit) -> str | None:
    """Why the steps of a fit cannot be recorded, as a clause; None: nothing is known against it."""
    if fit.frozen is not None:
        return "its pruned places stand at constants"
    if fit.dynamics is not None:
        return "its mask moves"
    if fit.gather:
        return f"it gathers {' and '.join(fit.gather)} along the way"
    return draws_elsewhere(model)


class Captured(Reference):
    """The reference engine over buffers that stay where they are, its step a CUDA graph where there is a GPU.

    On a CPU, bit for bit what `Reference` does; on a GPU the learning rate is read in float32. The optimizer is built
    to be recorded (`capturable`).

    Args:
        model, fit: such that `not_captured` finds nothing against them.
    """

    provenance: Mapping[str, str] = {"engine": "torch", "step": "captured"}

    def __init__(self, model: nn.Module, fit: Fit, sets: Sets, training: Training, prunable: Mask) -> None:
        super().__init__(model, fit, sets, training, prunable)
        device = sets.train.x.device
        fix_rate(self.optimizer, device)
        self.index = torch.zeros(training.batch_size, dtype=torch.int64, device=device)
        self.keys = Keys([fit.noise], noise_purposes(len(self.dropouts), training), device)
        self.replayed = Replayed(device, recorder(device))

    @contextmanager
    def running(self) -> Iterator[None]:
        """As the reference engine, on the stream of the recording."""
        with self.replayed.running(), super().running():
            yield

    def advance(self, first: int, last: int) -> None:
        """Train from absolute step `first` to `last`."""
        for step in range(first, last):
            torch.default_generator.manual_seed(self.noise + step)  # for what draws from it outside the layers we know
            if self.loss.is_cuda:
                torch.cuda.manual_seed(self.noise + step)
            set_rate(self.optimizer, rate_of(self.fit, self.training, step))
            self.index.copy_(self.order.batch(step))
            self.keys.set(step)
            self.replayed(lambda: self._learn(self.index, 0))
        if self.replayed.refused is not None:
            self.provenance = {**type(self).provenance, "not_captured": self.replayed.refused}

    def _key(self, purpose: str, step: int) -> Key | Tensor:
        """The buffer of the key: its contents follow the step."""
        return self.keys.values[0, self.keys.rows[purpose]]
