"""What a league will cost, before it starts: every request once, whoever asks for it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from tombola.analysis.document import PLAYED
from tombola.criteria.base import work_of
from tombola.cuts import size_of
from tombola.experiment import Experiment
from tombola.preview import Asked, Cost, Preview, asked, sum_of
from tombola.requests import Fit, ProbeSpec, Prune
from tombola.store import Store
from tombola.supervised import Supervised

__all__ = ["Estimate", "estimate", "measure_pass"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What is to be computed.

    Args:
        fits: trainings, each counted once.
        prunes: cuts, each counted once, and those of them that are stored.
        passes: forward-backward passes over a batch of a training's size, of the cuts that are not stored.
        reported: experiment -> trainings that are reported.
    """

    fits: Preview
    prunes: int
    stored_prunes: int
    passes: float
    reported: dict[str, int]

    def seconds(self, cost: Cost, one_pass: float) -> float:
        """On one core, about, where a pass takes so many seconds."""
        return cost.seconds(self.fits) + self.passes * one_pass


def estimate(experiments: Iterable[Experiment], store: Store | None) -> Estimate:
    """Run all searches with made-up answers where the store has none.

    A training under a mask that is not known yet is told apart by the cut that will make it.
    """
    several = list(experiments)
    fits: dict[tuple[str, str], Asked] = {}
    prunes: dict[str, Asked] = {}
    reported: dict[str, int] = {}
    passes = 0.0
    for experiment in several:
        for found in asked(experiment, store):
            if isinstance(found.request, Prune):
                fresh = found.digest not in prunes and not found.stored
                passes += _passes(found.request, experiment.recipe.batch_size) if fresh else 0.0
                prunes.setdefault(found.digest, found)
            elif isinstance(found.request, Fit):
                fits.setdefault((found.digest, "" if found.stored else found.cut), found)
                reported[experiment.digest] = reported.get(experiment.digest, 0) + (found.arm.name in PLAYED)
    if not several:
        nothing = Preview(fits=0, stored=0, steps=0, evaluations=0, bytes=0, levels={})
        return Estimate(fits=nothing, prunes=0, stored_prunes=0, passes=0.0, reported={})
    stored = sum(found.stored for found in prunes.values())
    whole = sum_of(fits.values(), several[0], {})
    return Estimate(fits=whole, prunes=len(prunes), stored_prunes=stored, passes=passes, reported=reported)


def measure_pass(task: Supervised, times: int = 5) -> float:
    """Seconds of a forward-backward pass in torch over a batch of a training's size, on one core, about.

    Criteria see the network as torch has it, also where the native engine trains it faster.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        batches, loss = task.probe(0, ProbeSpec(size=task.training.batch_size)).examples("league")
        model, (x, y) = task.build(0).to(batches[0][0].device), batches[0]
        taken = []
        for _ in range(times):
            begun = time.perf_counter()
            loss(model(x), y).backward()
            taken.append(time.perf_counter() - begun)
        return min(taken)
    finally:
        torch.set_num_threads(before)


def _passes(request: Prune, batch_size: int) -> float:
    spec = request.probe
    if spec is None:
        return 0.0
    return work_of(request.pruner.criterion, size_of(request.mask, request.keep, spec)).passes * spec.size / batch_size
