"""One procedure from a dense network to its ticket, in a user's own loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from tombola.asked import Asked, patterns
from tombola.criteria import Criterion, Probe, criterion_of, needs_of
from tombola.criteria.base import label_of
from tombola.criteria.work import Size
from tombola.cuts import check_cut, check_layers
from tombola.errors import Emptied, StoreError, UsageError, hint
from tombola.ladder import Walk, budgets
from tombola.levels import Course, Ran, Stage, Train, run
from tombola.masks import Mask
from tombola.pruning import Cut, Pruner, check_batches, shuffled
from tombola.ranks import agree, announced, is_first, share
from tombola.scopes import Scope
from tombola.shelf import Shelf
from tombola.starts import Moment
from tombola.streams import derive, seeded
from tombola.tensors import digest_tensors
from tombola.tickets import Level
from tombola.training.places import bare, check_model
from tombola.training.state import State, load_state, state_of

__all__ = ["Found", "Given", "Procedure", "begin"]

Evaluate = Callable[[nn.Module], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What all replicates share: the user's functions, what is asked for, where levels are kept, who is told.

    Args:
        probe: what criteria may look at; None: weights alone.
        told: called with every training that is done.
    """

    model: nn.Module | Callable[[], nn.Module]
    train: Train
    evaluate: Evaluate | None
    asked: Asked
    protect: str | Sequence[str] | Callable[[str, Tensor], bool]
    probe: Probe | None
    shelf: Shelf | None
    told: Callable[[Level], None]

    def build(self, purpose: str, replicate: int) -> nn.Module:
        """The user's module, or a fresh one from the factory.

        Raises:
            UsageError: the factory makes something else.
        """
        if isinstance(self.model, nn.Module):
            return self.model
        with seeded(derive(0, purpose, replicate)):
            made = self.model()
        if not isinstance(made, nn.Module):
            raise UsageError(f"The factory of the model gave a {type(made).__name__}; expected a torch.nn.Module.")
        return made


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One trained level: what it began from, what came out, and how good that is."""

    course: Course
    ran: Ran
    metric: float | None

    @property
    def level(self) -> int:
        """Prunings before it."""
        return self.course.level


@dataclass(frozen=True, kw_only=True, slots=True)
class Procedure:
    """One replicate on its way down.

    Args:
        start: the state before the first training.
        whole: the mask of level 0.
        pruner: what cuts.
        keeps: weights left in all, by level.
        path: the levels that were good enough, each cut from the one before it.
    """

    given: Given
    number: int
    stage: Stage
    start: State
    whole: Mask
    pruner: Pruner
    keeps: list[int]
    path: list[int] = field(default_factory=lambda: [0])

    @property
    def first(self) -> Course:
        """The course of level 0."""
        return self.course(self.start, self.whole, keep=self.given.asked.rewind_to)

    def dense(self) -> Found:
        """Train level 0."""
        return self._train(self.first)

    def course(self, start: State, mask: Mask, level: int = 0, **further: Any) -> Course:
        """A training of this replicate: all of them see the same random numbers."""
        seed = derive(0, "train", self.number)
        return Course(start=start, mask=mask, level=level, seed=seed, replicate=self.number, **further)

    def follow(self, dense: Found, walk: Walk) -> Found:
        """Train what the walk asks for; the last level that was good enough.

        Raises:
            UsageError: the dense network is not good enough, or a level cannot be cut.
        """
        asked, now, good, wanted = self.given.asked, dense, True, next(walk, None)
        searching = asked.min_metric is not None and self.number == 0
        if searching and not self._good(dense):
            raise UsageError(
                f"min_metric={asked.min_metric}, but the dense model reaches {dense.metric}; ask for less."
            )
        while wanted is not None:
            level = wanted[1]
            try:
                cut = self._cut(now, level)
            except Emptied as error:
                if not searching and asked.levels is None and not self.number:
                    hint(f"Level {level} cannot be cut: {error} The ticket is that of level {now.level}.")
                    break
                if not searching:
                    raise
                good = False
            else:
                found = self._train(self._below(dense, now, cut, level), dense)
                good = not searching or self._good(found)
                if good:
                    now = found
                    self.path.append(level)
            try:
                wanted = walk.send(good)
            except StopIteration:
                wanted = None
        return now

    def control(self, found: Found, dense: Found) -> None:
        """Train the controls of a level; a dense network has none."""
        for name in self.given.asked.controls if found.level else ():
            course = replace(found.course, arm=name)
            if name == "reinit":
                fresh = share(state_of(bare(self.given.build("reinit", self.number))))
                course = replace(course, start=fresh, hold=0)
            else:
                seed = derive(0, "shuffle", self.number, found.level)
                course = replace(course, mask=shuffled(course.mask, seed))
            self._train(course, dense)

    def leave(self, found: Found) -> None:
        """Put the trained weights of a level into the module, which otherwise is as it was."""
        self.stage.reset("the end")
        load_state(self.stage.own, found.ran.trained)

    def _good(self, found: Found) -> bool:
        least = self.given.asked.min_metric
        return least is None or (found.metric is not None and found.metric >= least)

    def _below(self, dense: Found, above: Found, cut: Cut, level: int) -> Course:
        """The course of a level whose mask was cut from the one above."""
        asked, mask = self.given.asked, cut.mask
        if asked.reset == "fine-tune":
            return self.course({**above.ran.trained, **cut.adjusted}, mask, level)
        hold = asked.rewind_to if asked.after_rewind == "continue" else 0
        return self.course(self.start if dense.ran.kept is None else dense.ran.kept, mask, level, hold=hold)

    def _cut(self, above: Found, level: int) -> Cut:
        at_init = needs_of(self.pruner.criterion).scored_at is Moment.INIT
        self.stage.reset(f"the cut to level {level}")
        load_state(self.stage.own, self.start if at_init else above.ran.trained)
        seed = derive(0, "probe", self.number, level)
        probe = replace(self.given.probe or Probe(), seed=seed, initial=self.start)
        cut = self.pruner.cut(self.stage.own, above.course.mask, self.keeps[level], probe)
        agree(f"The masks of level {level}", cut.mask.digest)
        return cut

    def _train(self, course: Course, dense: Found | None = None) -> Found:
        given, shelf = self.given, self.given.shelf
        name = shelf.name(course) if shelf else ""
        there = self._stored(shelf, name, course.mask) if shelf else None
        if there is None:
            ran = run(self.stage, course)
            agree(f"The trained weights of {course.name}", digest_tensors({n: ran.trained[n] for n in course.mask}))
            ran = replace(ran, trained=share(ran.trained), kept=None if ran.kept is None else share(ran.kept))
        else:
            ran = there[0]
        metric = there[1] if there else None
        if metric is None and given.evaluate is not None:
            load_state(self.stage.own, ran.trained)
            metric = announced(self._metric(given.evaluate, course))
            there = None
        if shelf and there is None and is_first():
            shelf.put(name, course, ran, metric)
        if dense is not None and ran.steps != dense.ran.steps:
            hint(f"{course.name} made {ran.steps} steps and level 0 {dense.ran.steps}: trainings of unequal length.")
        mask = course.mask
        row = Level(
            level=course.level,
            density=mask.density,
            kept=mask.alive,
            metric=metric,
            steps=ran.steps,
            seconds=ran.seconds,
            arm=course.arm,
            replicate=course.replicate,
        )
        given.told(row)
        return Found(course=course, ran=ran, metric=metric)

    def _stored(self, shelf: Shelf, name: str, mask: Mask) -> tuple[Ran, float | None] | None:
        """What the first process finds, in all of them."""
        found = shelf.get(name, mask) if is_first() else None
        if not announced(found is not None):
            return None
        found = found or shelf.get(name, mask)
        if found is None:
            raise StoreError(f"A level in {shelf.root} is not seen by all processes; put the store on a shared disk.")
        return found

    def _metric(self, evaluate: Evaluate, course: Course) -> float:
        with seeded(derive(0, "evaluate", self.number)):
            value: Any = evaluate(self.stage.model)
        try:
            number = float(value.detach() if isinstance(value, Tensor) else value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"evaluate returned a {type(value).__name__} at {course.name}; expected a number, larger is better."
            ) from error
        if not math.isfinite(number):
            raise UsageError(
                f"evaluate returned {number} at {course.name}; expected a finite number, larger is better. Has the "
                f"training diverged (a smaller learning rate, clipped gradients), or is an average over nothing?"
            )
        return number


def begin(given: Given, number: int) -> Procedure:
    """A replicate before its first training.

    Raises:
        UsageError: the model cannot be pruned, or not that far.
    """
    asked, model = given.asked, given.build("init", number)
    own = bare(model)
    check_model(own)
    whole = Mask.dense(own, Scope(protect=patterns(given.protect, own)))
    allocation, keeps = budgets(whole, asked.allocation, asked.rate, asked.levels, asked.least)
    pruner = Pruner(criterion=_criterion(given), allocation=allocation)
    batches = given.probe.batches if given.probe else ()
    check_cut(pruner, Size.of(whole, keeps[1], batches=len(batches), examples=sum(len(batch[0]) for batch in batches)))
    check_layers(pruner, own, whole)
    return Procedure(
        given=given,
        number=number,
        stage=Stage(model=model, train=given.train),
        start=share(state_of(own)),
        whole=whole,
        pruner=pruner,
        keeps=keeps,
    )


def _criterion(given: Given) -> Criterion:
    """What is asked for, where it can be had: what a criterion lacks is said before the first training."""
    criterion = criterion_of(given.asked.criterion)
    needs, name = needs_of(criterion), label_of(criterion)
    if needs.gathered:
        raise UsageError(
            f"The criterion {name} sums {', '.join(needs.gathered)} along a training, which a loop of your own does "
            f"not; use tombola.run, or another criterion."
        )
    probe = given.probe or Probe()
    check_batches(probe, name)
    if probe.lacks(needs):
        probe.examples(name)
    return criterion
