"""Checkpoints: all that an interrupted training needs to go on as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from tombola.answers import Point
from tombola.training.engine import MAKERS, Engine
from tombola.training.state import State

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
        tensors: `model/NAME`, `optimizer/PARAMETER/NAME`, `gathered/STATISTIC/NAME`, `mask/NAME` (where it moves),
            `best/NAME` and `finite/NAME`.
        notes: JSON of the tally, of the optimizer's numbers, and of the engine's provenance.
    """

    step: int
    tensors: State
    notes: str

    def fits(self, engine: Engine) -> bool:
        """Whether such an engine has made it; another one would go on by other roundings."""
        return all(self.made_by.get(name) == engine.provenance.get(name) for name in MAKERS)

    @property
    def made_by(self) -> Mapping[str, str]:
        """The provenance of the engine that has made it."""
        found: Mapping[str, str] = json.loads(self.notes).get("engine", {"engine": "torch"})
        return found


def take(step: int, engine: Engine, tally: Tally, kept: Mapping[str, State]) -> Checkpoint:
    """The checkpoint of a training; `kept` are further states by prefix (`best`, `finite`)."""
    tensors = {f"model/{name}": value for name, value in engine.state().items()}
    slots, numbers = engine.slots()
    tensors |= {f"optimizer/{name}": value for name, value in slots.items()}
    for statistic, sums in engine.gathered().items():
        tensors |= {f"gathered/{statistic}/{name}": value for name, value in sums.items()}
    tensors |= {f"mask/{name}": places for name, places in (engine.moved() or {}).items()}
    for prefix, state in kept.items():
        tensors |= {f"{prefix}/{name}": value for name, value in state.items()}
    notes = {"step": step, "tally": asdict(tally), "numbers": numbers, "engine": dict(engine.provenance)}
    return Checkpoint(step=step, tensors=tensors, notes=json.dumps(notes))


def restore(checkpoint: Checkpoint, engine: Engine) -> tuple[Tally, dict[str, State]]:
    """Put a checkpoint back into an engine that it fits; returns the tally and the further states by prefix."""
    groups: dict[str, State] = {}
    for name, value in checkpoint.tensors.items():
        prefix, _, rest = name.partition("/")
        groups.setdefault(prefix, {})[rest] = value
    notes = json.loads(checkpoint.notes)
    gathered: dict[str, State] = {}
    for place, value in groups.pop("gathered", {}).items():
        statistic, _, name = place.partition("/")
        gathered.setdefault(statistic, {})[name] = value
    mask = groups.pop("mask", {})
    engine.restore(groups.pop("model"), groups.pop("optimizer", {}), notes["numbers"], gathered, mask)
    points = [Point(**row) for row in notes["tally"].pop("points")]
    tally = Tally(points=points, **notes["tally"])
    engine.clear(tally.loss, tally.correct)
    return tally, groups
