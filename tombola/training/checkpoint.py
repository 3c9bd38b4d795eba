"""Checkpoints: all that an interrupted training needs to go on as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from tombola.requests import Point
from tombola.training.state import State, load_state, state_of

__all__ = ["Checkpoint", "Tally", "restore", "take"]


@dataclass(slots=True)
class Tally:
    """What a training has measured and kept in mind so far; the rest of its state is weights and optimizer.

    Args:
        points: the curve.
        loss, correct, steps: sums over the batches since the last point.
        best_loss: smallest validation loss so far, at an evaluated step after 0.
        seconds: of computing before this session.
    """

    points: list[Point] = field(default_factory=list)
    loss: float = 0.0
    correct: float = 0.0
    steps: int = 0
    best_loss: float = float("inf")
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A training after `step` steps, evaluated and ready for the next one.

    Args:
        tensors: `model/NAME`, `optimizer/PARAMETER/NAME`, `best/NAME` and `finite/NAME`.
        notes: JSON of the tally and of the optimizer's numbers.
    """

    step: int
    tensors: State
    notes: str


def take(
    step: int, model: nn.Module, optimizer: torch.optim.Optimizer, tally: Tally, kept: dict[str, State]
) -> Checkpoint:
    """The checkpoint of a training; `kept` are further states by prefix (`best`, `finite`)."""
    tensors = {f"model/{name}": value for name, value in state_of(model).items()}
    numbers: dict[str, dict[str, float]] = {}
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value.detach().to("cpu", copy=True).contiguous()
            elif value is not None:
                numbers.setdefault(str(index), {})[name] = value
    for prefix, state in kept.items():
        tensors |= {f"{prefix}/{name}": value for name, value in state.items()}
    notes = {"step": step, "tally": asdict(tally), "numbers": numbers}
    return Checkpoint(step=step, tensors=tensors, notes=json.dumps(notes))


def restore(
    checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Tally, dict[str, State]]:
    """Put a checkpoint back into model and optimizer; returns the tally and the further states by prefix."""
    groups: dict[str, State] = {}
    for name, value in checkpoint.tensors.items():
        prefix, _, rest = name.partition("/")
        groups.setdefault(prefix, {})[rest] = value
    load_state(model, groups.pop("model"))
    notes = json.loads(checkpoint.notes)
    slots: dict[int, dict[str, object]] = {int(i): dict(named) for i, named in notes["numbers"].items()}
    for name, value in groups.pop("optimizer", {}).items():
        index, _, slot = name.partition("/")
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    points = [Point(**row) for row in notes["tally"].pop("points")]
    return Tally(points=points, **notes["tally"]), groups
