"""A small training that is pruned on its way, for the tests of gradual pruning."""

from __future__ import annotations

from typing import Any

from helpers import Bench

from tombola.criteria import criterion_of, needs_of
from tombola.models.fully_connected import mlp
from tombola.pruning import Pruner
from tombola.requests import Fit, Gradual, ProbeSpec
from tombola.training.optimizers import Optimizer
from tombola.training.settings import Training

STEPS = 12
KEEPS = ((3, 120), (4, 90), (8, 40))  # of 8 x 16 + 16 x 3 = 176 weights
OPTIMIZERS = {
    "sgd": Optimizer(name="sgd", lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": Optimizer(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": Optimizer(name="adam", lr=0.02, weight_decay=0.01),
    "adamw": Optimizer(name="adamw", lr=0.02, weight_decay=0.1),
}
CRITERIA = ["magnitude", "magnitude_increase", "movement_pruning", "snip", "obs:damping=1e-4"]


def bench(name: str = "sgd", **further: Any) -> Bench:
    training = Training(
        steps=STEPS, batch_size=20, eval_every=5, normalise="none", optimizer=OPTIMIZERS[name], **further
    )
    return Bench(lambda: mlp((8, 16, 3), seed=1), training)


def dynamics(criterion: str = "magnitude", **changes: Any) -> Gradual:
    chosen = criterion_of(criterion)
    probe = ProbeSpec(size=30) if needs_of(chosen).data else None
    return Gradual(**{"pruner": Pruner(criterion=chosen), "keeps": KEEPS, "seed": 4, "probe": probe, **changes})


def thinned(b: Bench, criterion: str = "magnitude", **changes: Any) -> Fit:
    gather = needs_of(criterion_of(criterion)).gathered
    return b.fit(**{"dynamics": dynamics(criterion), "gather": gather, "keep": tuple(range(STEPS)), **changes})
