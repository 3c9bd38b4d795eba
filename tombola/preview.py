"""What an experiment will cost, before it starts: its searches are run with made-up answers."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from tombola.analysis.document import PLAYED
from tombola.answers import Answer, Curve, Interpolated, Pruned, Trained
from tombola.data.part import Part
from tombola.errors import TombolaError
from tombola.executors.work import packed_under
from tombola.experiment import Experiment
from tombola.lookup import look_up
from tombola.masks import Mask
from tombola.requests import CUT, GRADUAL, Arm, Fit, Prune, Request, Round, Search
from tombola.starts import Init
from tombola.store import Store
from tombola.supervised import Supervised
from tombola.tasks import Task
from tombola.training.engine import EngineName
from tombola.training.loop import silent
from tombola.training.state import state_of

__all__ = ["Asked", "Cost", "Preview", "Searching", "asked", "measure", "preview", "sum_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What an experiment consists of.

    Args:
        fits: trainings in all.
        stored: those whose answer is there.
        steps: optimizer steps of the others.
        evaluations: of the others.
        bytes: that the others will take in the store, about.
        levels: level -> trainings that are reported.
    """

    fits: int
    stored: int
    steps: int
    evaluations: int
    bytes: int
    levels: Mapping[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Seconds of computing: of one optimizer step, one evaluation, and the last look at the whole training set."""

    step: float
    evaluation: float
    end: float

    def seconds(self, found: Preview) -> float:
        """Of all that is not stored, on one core, about."""
        return found.steps * self.step + found.evaluations * self.evaluation + (found.fits - found.stored) * self.end


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request that a search makes, as far as that can be told beforehand.

    Args:
        replicate: number of the search.
        digest: of it; where no pruning is stored yet, masks in it are made up.
        stored: whether its answer is there.
        cut: digest of the pruning that its mask comes from; empty: from none of its level.
    """

    level: int
    replicate: int
    arm: Arm
    request: Request
    digest: str
    stored: bool
    cut: str = ""


class Searching(Protocol):
    """An experiment, or whatever else consists of searches on a task."""

    @property
    def task(self) -> Task:
        """What requests are about."""

    @property
    def engine(self) -> EngineName:
        """Whose answers count."""

    def searches(self) -> Mapping[int, Search]:
        """Number -> a fresh search."""


def asked(experiment: Searching, store: Store | None) -> Iterator[Asked]:
    """What the searches of an experiment ask for, with answers from the store, and made-up ones where it has none."""
    for replicate, search in experiment.searches().items():
        answers: dict[Arm, Answer] | None = None
        cuts: dict[str, str] = {}
        with contextlib.suppress(TombolaError, StopIteration):
            while True:
                round_ = next(search) if answers is None else search.send(answers)
                answers = {}
                for arm, request, waits in _requests(round_):
                    job, known = look_up(store, experiment.task.fingerprint, request, experiment.engine)
                    cut = cuts.get(f"cut-{arm.name}", cuts.get(CUT.name, "")) if isinstance(request, Fit) else ""
                    yield Asked(
                        level=round_.level,
                        replicate=replicate,
                        arm=arm,
                        request=request,
                        digest=job.digest,
                        stored=known is not None,
                        cut=cut,
                    )
                    if waits:
                        answers[arm] = known or (store and store.get(job.digest)) or _made_up(job.digest, request)
                        masks = isinstance(request, Prune) or (
                            isinstance(request, Fit) and request.dynamics is not None
                        )
                        cuts |= {CUT.name if arm == GRADUAL else arm.name: job.digest} if masks else {}


def preview(experiment: Experiment, store: Store | None) -> Preview:
    """What an experiment consists of, and how much of it is stored.

    Without a store replicates are alike, so one is looked at: masks of millions of weights take their time.
    """
    alike = 1 if store is not None else len(experiment.plans)
    one = replace(experiment, plans=experiment.plans[: len(experiment.plans) // alike])
    fits = [found for found in asked(one, store) if isinstance(found.request, Fit)] * alike
    levels = Counter(found.level for found in fits if found.arm.name in PLAYED)
    return sum_of(fits, experiment, levels)


def sum_of(fits: Iterable[Asked], experiment: Experiment, levels: Mapping[int, int]) -> Preview:
    """The sum of trainings, each of which counts; of those that are stored only the number.

    Args:
        experiment: one whose network and evaluations they share.
    """
    dense, every = experiment.plans[0].dense, experiment.recipe.eval_every
    count = stored = steps = evaluations = size = 0
    for found in fits:
        fit = found.request
        assert isinstance(fit, Fit)
        count += 1
        stored += found.stored
        if not found.stored:
            steps += fit.last - fit.first
            evaluations += (fit.last - fit.first) // every + 1
            size += _bytes(fit, dense)
    return Preview(fits=count, stored=stored, steps=steps, evaluations=evaluations, bytes=size, levels=dict(levels))


def _requests(asked: Round) -> list[tuple[Arm, Request, bool]]:
    waiting = [(arm, request, True) for arm, request in asked.ask.items()]
    return waiting + [(arm, request, False) for arm, request in asked.aside.items()]


def _bytes(fit: Fit, dense: Mask) -> int:
    states = 1 + len([step for step in fit.keep if not isinstance(step, int) or step < fit.last])
    weights = (packed_under(fit) or dense).alive
    return states * 4 * weights + len(fit.gather) * 8 * dense.total + dense.total // 8 + 8000


def _made_up(name: str, request: Request) -> Answer:
    if isinstance(request, Fit):
        mask = None
        if request.dynamics is not None and request.mask is not None:
            mask = _thinned(request.mask, request.dynamics.keeps[-1][1])
        return Trained(request=name, first=request.first, last=request.last, curve=Curve(), mask=mask)
    if isinstance(request, Prune):
        return Pruned(request=name, mask=_thinned(request.mask, request.keep))
    return Interpolated(request=name, own=(), recomputed=(), distance=0.0, angle=0.0, ways=(), weights=0)


def _thinned(mask: Mask, keep: int) -> Mask:
    """A mask of about the wanted size: every tensor keeps the same share, its first survivors."""
    found = {}
    for name, left in mask.kept.items():
        budget = max(1, round(left * keep / mask.alive))
        places = mask[name].flatten()
        found[name] = (places & (places.cumsum(0) <= budget)).view(mask.shapes[name])
    return Mask(found)


_LONG = 4.0  # seconds: a network that looks at all examples for longer is measured on some


def measure(task: Task, seconds: float = 1.5) -> Cost:
    """Time a few steps and one evaluation of a task, in about so many seconds of one core."""
    if not isinstance(task, Supervised):
        return Cost(step=0.0, evaluation=0.0, end=0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measured(task, seconds)
    finally:
        torch.set_num_threads(before)


def _smaller(task: Supervised) -> Supervised:
    """The task on some of its examples."""
    data, training = task.dataset, task.training
    train, test = (min(len(x), 10 * training.batch_size + 500) for x in (data.x_train, data.x_test))
    few = min(training.validation, train // 10)
    if train == len(data.x_train) or (training.validation and not few):
        return task
    return replace(task, dataset=Part(train=train, test=test)(data), training=replace(training, validation=few))


def _measured(task: Supervised, seconds: float) -> Cost:
    # On a CPU the time of this process, so that what else the machine does at the moment does not count.
    clock = time.process_time if task.sets.train.x.device.type == "cpu" else time.perf_counter

    def fit(steps: int) -> float:  # without a step it is one evaluation, and the last look
        request = Fit(start=Init(seed=0), mask=None, last=steps, order=0, noise=0)
        start = clock()
        measured.fit(request, state_of(measured.build(0)), events=silent())
        return clock() - start

    measured = _smaller(task)
    fit(1)  # the first call allocates
    looks, ratio = fit(0), _seen(task) / _seen(measured)
    if ratio > 1 and looks * ratio < _LONG:  # a look at everything is bearable, and says more
        measured, ratio = task, 1.0
        fit(1)
        looks = fit(0)
    short, most = fit(1), min(task.training.eval_every, task.training.steps)
    count, taken = 1, short
    while count < most and taken - short < seconds / 2:
        count = min(most, 4 * count)
        taken = fit(count)
    whole, each = task.sets, ratio * looks / _seen(task)
    return Cost(
        step=max(1e-6, (taken - short) / max(1, count - 1)),
        evaluation=each * (len(whole.validation) + len(whole.test)),
        end=each * len(whole.train_index),
    )


def _seen(task: Supervised) -> int:
    """Examples that are looked at when a training ends."""
    return len(task.sets.validation) + len(task.sets.test) + len(task.sets.train_index)
