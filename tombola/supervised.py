"""The task of supervised learning: a network trained on examples with labels or targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from tombola.answers import Interpolated
from tombola.criteria import Probe
from tombola.criteria.paths import on_path
from tombola.data import Dataset, Split, split
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.models.choice import Choice
from tombola.models.costs import uses_per_weight
from tombola.models.net import Net
from tombola.requests import Fit, Interpolate, ProbeSpec
from tombola.scopes import Scope
from tombola.specs import digest
from tombola.starts import Init
from tombola.tasks import Metric
from tombola.training.captured import Captured, not_captured
from tombola.training.checking import check_network, check_settings
from tombola.training.checkpoint import Checkpoint
from tombola.training.determinism import fix_workspace, kernels
from tombola.training.device import resolve_device
from tombola.training.engine import ENGINES, EngineName, MakeEngine, check_engine
from tombola.training.examples import probe_of
from tombola.training.interpolation import interpolate
from tombola.training.loop import CHECKPOINT_SECONDS, Events, Measured, train
from tombola.training.reference import Reference
from tombola.training.scale import Capture, check_capture
from tombola.training.sets import Sets, prepare
from tombola.training.settings import Training
from tombola.training.stacking import lanes_for, peak_memory, why_not_stacked
from tombola.training.state import State, load_state
from tombola.training.together import train_many

__all__ = ["Supervised"]


@dataclass(kw_only=True, eq=False)
class Supervised:
    """A network trained on examples with labels or targets.

    Args:
        dataset: the examples.
        model: a name of `tombola.models.MODELS`, an import path `package.module:factory`, or a factory `() -> module`
            (at the top level of a module, where requests run in other processes).
        net: options of a registered network.
        training: how it is trained.
        device: where ("cpu", "cuda", ...); no part of the identity.
        engine: native, torch, or the native trainer where it knows the network and else torch; no part of the identity.
        checkpoint_seconds: between two checkpoints of a training; no part of the identity.
        capture: whether steps are recorded (`tombola.training.capture`); no part of the identity.
        deterministic: deterministic kernels alone (`tombola.training.determinism`); no part of the identity.

    Raises:
        UsageError: the network cannot be built, or its output does not fit the labels.
    """

    dataset: Dataset
    model: str | Callable[[], nn.Module]
    training: Training
    net: Net = field(default_factory=Net)
    device: str = "cpu"
    engine: EngineName = "auto"
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    capture: Capture = "auto"
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_engine(self.engine)
        check_capture(self.capture)
        if self.deterministic:
            fix_workspace()  # before anything is computed: CUDA reads it once
        self._sets: Sets | None = None
        self._dense: dict[tuple[Scope, int | None], Mask] = {}
        self._network = Choice(
            model=self.model, net=self.net, input_shape=self.dataset.input_shape, outputs=self.outputs
        )
        check_settings(self.training, self.dataset)
        sets = prepare(self.dataset, self.training, torch.device("cpu"))  # splits, and looks at every training input
        if resolve_device(self.device).type == "cpu":
            self._sets = sets
        check_network(self.build(0), self.training, self.dataset, self.outputs)
        data, network = self.dataset.fingerprint, self._network.identity
        self._fingerprint = digest({"data": data, "model": network, "training": self.training, "kind": "supervised"})

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_sets": None}  # another process prepares its own

    @property
    def fingerprint(self) -> str:
        """Identity of arrays, network and training settings."""
        return self._fingerprint

    @property
    def metric(self) -> Metric:
        """Accuracy for class labels, mean squared error for targets."""
        if self.dataset.classes:
            return Metric(name="accuracy", larger_is_better=True)
        return Metric(name="mean squared error", larger_is_better=False)

    @property
    def steps(self) -> int:
        """Optimizer steps of a whole training."""
        return self.training.steps

    @property
    def outputs(self) -> int:
        """Numbers the network must put out for one example: classes, or the width of the targets."""
        return self.dataset.classes or max(1, self.dataset.y_train[0].numel())

    def build(self, seed: int, *, at_most: int | None = None) -> nn.Module:
        """The network of this seed, in training mode, on the CPU.

        Raises:
            UsageError: a factory of one's own cannot be made narrower, or no network is as small as `at_most`.
        """
        return self._network.build(seed, at_most=at_most)

    def prunable(self, scope: Scope, *, at_most: int | None = None) -> Mask:
        """The dense mask of the network, or of its narrower form."""
        if (scope, at_most) not in self._dense:
            self._dense[scope, at_most] = Mask.dense(self.build(0, at_most=at_most), scope)
        return self._dense[scope, at_most]

    def probe(self, seed: int, spec: ProbeSpec | None = None) -> Probe:
        """What criteria may look at: examples of the training set as `spec` says, drawn from the seed; None: none.

        Raises:
            UsageError: the training set has too few examples, or not enough of a class.
        """
        return Probe(seed=seed) if spec is None else probe_of(self.sets, self.training, spec, seed, self._dtype)

    def effective(self, mask: Mask) -> int | None:
        """How many weights of `mask` lie on a path from an input to an output (`tombola.criteria.paths.on_path`)."""
        try:
            found = on_path(self.build(0), mask, self.dataset.x_train[:1].to(self._dtype))
        except Exception:  # whatever a user's module raises when it is copied, or run in float64: it is a note only
            return None
        return None if found is None else found.alive

    @cached_property
    def _dtype(self) -> torch.dtype:
        return next(self.build(0).parameters()).dtype

    def notes(self) -> dict[str, Any]:
        """Examples in each set and their fingerprint, shape of an input, multiply-adds of one weight of each tensor."""
        parts, model = self._split(), self.build(0)
        one = self.dataset.x_train[:1].to(next(model.parameters()).dtype)
        counts = {"train": len(parts.train), "validation": len(parts.validation), "test": len(self.dataset.x_test)}
        shape = list(self.dataset.input_shape)
        data = {"examples": counts, "data_fingerprint": self.dataset.fingerprint, "input_shape": shape}
        return {**data, "multiply_adds": uses_per_weight(model, one)}

    def _split(self) -> Split:
        return split(self.dataset, self.training.split_seed, validation=self.training.validation or None)

    @property
    def sets(self) -> Sets:
        """The examples on the device, made when first needed."""
        if self._sets is None:
            try:
                self._sets = prepare(self.dataset, self.training, resolve_device(self.device))
            except torch.OutOfMemoryError as error:
                raise UsageError(
                    f"The data set {self.dataset.name} does not fit into the memory of {self.device}, where it stays "
                    f"while it is trained on; free some, or take fewer examples (--data NAME:train=N)."
                ) from error
        return self._sets

    @property
    def not_native(self) -> str | None:
        """Why the native trainer is not the one that trains here, as a clause; None: it is.

        Raises:
            UsageError: the native trainer was asked for, and does not know the network.
        """
        if self.engine == "native" and self._unknown is not None:
            raise UsageError(f"The native engine cannot train this: {self._unknown}. Use --engine auto.")
        if self.engine == "torch":
            return "torch was asked for"
        return self._unknown or (self._unwise if self.engine == "auto" else None)

    def _reason(self, named: str) -> str | None:
        """Why the engine that a stored training names is not the native one; None: it is."""
        if named == "torch":
            return "torch was asked for"
        reason = f"there is no engine {named!r}" if named not in ENGINES else self._unknown
        if reason is not None:
            raise UsageError(
                f"The store's training was made by the engine {named!r}, which cannot train it here: {reason}. "
                f"Go on with the installation that made it, or name another --store."
            )
        return None

    @cached_property
    def _unknown(self) -> str | None:
        """What the native trainer does not know; found once, so that a ticket is trained as its dense network was."""
        from tombola.native import why_not

        return why_not(self.build(0), self.sets, self.training)

    @cached_property
    def _unwise(self) -> str | None:
        """Why torch is chosen though the native trainer knows the network."""
        from tombola.native.fits import unwise

        return unwise(self.build(0))

    def fit(
        self,
        fit: Fit,
        start: State,
        *,
        events: Events,
        resume: Checkpoint | None = None,
        engine: str | None = None,
    ) -> Measured:
        """Train, by the native trainer where it knows the network (unless an engine is named).

        Raises:
            UsageError: the named engine is not available here, or does not do what the fit asks for.
        """
        from tombola.native.fits import beyond

        reason = self.not_native if engine is None else self._reason(engine)
        lacking = beyond(fit)
        if reason is None and lacking is not None:
            if self.engine == "native":
                raise UsageError(f"The native engine cannot train this: {lacking}. Use --engine auto.")
            reason = lacking
        make: MakeEngine = Reference
        if reason is None:
            from tombola.native import Native

            make = Native
        model = self.build(0, at_most=fit.start.at_most if isinstance(fit.start, Init) else None)
        load_state(model, start)
        model.to(resolve_device(self.device))
        because = {} if reason is None else {"not_native": reason}
        if reason is not None and self._captures:
            against = not_captured(model, fit)
            make = Captured if against is None else Reference
            because |= {} if against is None else {"not_captured": against}
        with kernels(repeatable=self.deterministic):
            measured = train(
                model,
                fit,
                sets=self.sets,
                training=self.training,
                prunable=Mask.dense(model),
                events=events,
                resume=resume,
                checkpoint_seconds=self.checkpoint_seconds,
                engine=make,
            )
        return replace(measured, provenance={**measured.provenance, **because})

    @property
    def _captures(self) -> bool:
        return self.capture == "on" or (self.capture == "auto" and resolve_device(self.device).type == "cuda")

    def why_not_stacked(self) -> str | None:
        """Why fits do not stack here, as a clause; None: they do. An engine asked for by name trains one by one."""
        return self._unstacked if self.engine == "auto" else f"the {self.engine} engine was asked for"

    @cached_property
    def _unstacked(self) -> str | None:
        with kernels(repeatable=self.deterministic):
            return why_not_stacked(self.build(0).to(resolve_device(self.device)), self.sets, self.training)

    def lanes(self) -> int:
        """How many fits at once a GPU has memory for; elsewhere 1, for nothing is gained."""
        device = resolve_device(self.device)
        if device.type != "cuda":
            return 1
        with kernels(repeatable=self.deterministic):
            return lanes_for(self.build(0).to(device), self.sets, self.training, measure=peak_memory(device))

    def fit_many(
        self,
        fits: Sequence[Fit],
        starts: Sequence[State],
        *,
        events: Sequence[Events],
        resume: Sequence[Checkpoint | None] = (),
        width: int | None = None,
    ) -> list[Measured]:
        """Train fits of equal `tombola.training.stacking.stack_key` as one (`tombola.training.together`).

        Raises:
            UsageError: the network does not stack, or a start is of another network.
            torch.OutOfMemoryError: the device does not hold so many at once.
        """
        reason = self.why_not_stacked()
        if reason is not None:
            raise UsageError(f"These fits cannot be trained as one: {reason}. Use --stack 1.")
        model = self.build(0)
        for start in starts:
            load_state(model, start)  # names and shapes fit
        model.to(resolve_device(self.device))
        with kernels(repeatable=self.deterministic):
            return train_many(
                model,
                fits,
                starts,
                sets=self.sets,
                training=self.training,
                prunable=Mask.dense(model),
                events=events,
                resume=resume,
                checkpoint_seconds=self.checkpoint_seconds,
                width=width,
                capture=self._captures,
            )

    def interpolate(
        self, request: Interpolate, one: State, other: State, origin: State | None, *, stopping: Callable[[], bool]
    ) -> Interpolated:
        """Measure the network on the line between two states (`tombola.training.interpolation`).

        Raises:
            Stopped: `stopping()` said so.
        """
        model = self.build(0).to(resolve_device(self.device))
        with kernels(repeatable=self.deterministic):
            return interpolate(
                model, request, one, other, origin, sets=self.sets, training=self.training, stopping=stopping
            )
