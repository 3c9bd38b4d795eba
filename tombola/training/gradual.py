"""Pruning while training: the mask is cut on the way, and what survives trains on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tombola.criteria import Probe, needs_of
from tombola.criteria.base import label_of
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.requests import Fit, Gradual
from tombola.streams import derive
from tombola.training.enforce import enforce
from tombola.training.examples import probe_of
from tombola.training.sets import Sets
from tombola.training.settings import Training
from tombola.training.state import State

__all__ = ["Thinning"]


class Thinning:
    """Keeps the mask of a training in force, and cuts it where the fit says: m_t = cut(m, theta_t) after step t.

    A cut sets weights, gradients and optimizer state of what it prunes to 0; those of the survivors stay bit for bit,
    but for weights that the criterion itself adjusts. Criteria see the current weights in evaluation mode, the initial
    ones as the fit began with them, sums as gathered so far, and for each cut other examples.

    Zhu and Gupta (2017, arXiv 1710.01878). There a masked weight keeps its value, and is unmasked where others have
    become smaller; here a pruned weight does not exist, so masks are nested.

    Args:
        model: holds the start weights.
        fit: one with `dynamics`.
        prunable: the mask to begin with where the fit has none.

    Raises:
        UsageError: the criterion needs what the fit does not give it, or there are fewer weights than a cut leaves.

    >>> from tombola.pruning import Pruner
    >>> from tombola.starts import Init
    >>> layer = nn.Linear(3, 1, bias=False)
    >>> dynamics = Gradual(pruner=Pruner(), keeps=((5, 1),), seed=0)
    >>> fit = Fit(start=Init(seed=0), mask=None, last=10, order=0, noise=0, dynamics=dynamics)
    >>> thinning = Thinning(layer, torch.optim.SGD(layer.parameters()), fit, Mask.dense(layer))
    >>> thinning.due(4), thinning.due(5), thinning.mask.alive
    (False, True, 3)
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, fit: Fit, prunable: Mask) -> None:
        assert fit.dynamics is not None
        self.mask = fit.mask or prunable
        _check(fit, fit.dynamics, self.mask)
        self._model, self._optimizer, self._dynamics = model, optimizer, fit.dynamics
        self._keeps = dict(fit.dynamics.keeps)
        self._initial: dict[str, Tensor] | None = None
        if needs_of(fit.dynamics.pruner.criterion).initial:
            self._initial = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        self._held = ExitStack()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, the mask of the moment is in force."""
        with self._held:
            self._hold()
            yield

    def _hold(self) -> None:
        self._held.enter_context(enforce(self._model, self._optimizer, self.mask, remask=False))

    def due(self, step: int) -> bool:
        """Whether there is a cut after `step` steps."""
        return step in self._keeps

    def cut(self, step: int, sets: Sets, training: Training, gathered: dict[str, State]) -> None:
        """Make the cut of this step, and put the new mask in force.

        Args:
            sets, training: where examples and loss come from.
            gathered: sums of the training so far.
        """
        model = self._model
        probe = self._probe(step, sets, training, gathered)
        self._held.close()
        model.eval()
        try:
            cut = self._dynamics.pruner.cut(model, self.mask, self._keeps[step], probe)
        finally:
            model.train()
        with torch.no_grad():
            for name, value in cut.adjusted.items():
                model.get_parameter(name).copy_(value)
        self.mask = cut.mask
        self._hold()

    def _probe(self, step: int, sets: Sets, training: Training, gathered: dict[str, State]) -> Probe:
        spec, seed = self._dynamics.probe, derive(self._dynamics.seed, "cut", step)
        weight = next(self._model.parameters())
        probe = Probe(seed=seed) if spec is None else probe_of(sets, training, spec, seed, weight.dtype)
        sums = {statistic: {n: v.to(weight.device) for n, v in sums.items()} for statistic, sums in gathered.items()}
        return replace(probe, initial=self._initial, gathered=sums)


def _check(fit: Fit, dynamics: Gradual, mask: Mask) -> None:
    """What a cut would be refused for in the midst of a training, it is refused for before."""
    wanted, name = needs_of(dynamics.pruner.criterion), label_of(dynamics.pruner.criterion)
    lacking = [statistic for statistic in wanted.gathered if statistic not in fit.gather]
    if lacking:
        raise UsageError(f"The criterion {name} goes by {lacking[0]!r}, and this fit does not gather it; set gather.")
    if wanted.data and dynamics.probe is None:
        raise UsageError(f"The criterion {name} looks at examples, and this fit's dynamics has no probe; give it one.")
    step, keep = dynamics.keeps[0]
    if keep > mask.alive:
        raise UsageError(f"The cut after step {step} keeps {keep:,} weights, and there are {mask.alive:,} before it.")
