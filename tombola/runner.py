"""The runner: drives many searches at once and knows everything that they do not. Resume is replay."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from tombola.answers import Answer, Pruned, Trained
from tombola.errors import FitFailed, StoreError, TombolaError
from tombola.executors.base import Busy, Done, Executor, Failed, Job, Missing, Outcome
from tombola.executors.work import state_digest
from tombola.lookup import look_up
from tombola.requests import Arm, Fit, Place, Prune, Request, Round, Search, references
from tombola.starts import Adjusted, At
from tombola.store import Store
from tombola.turns import NOWHERE, Turn, turn

__all__ = ["Failure", "Row", "Runner", "Watcher"]

_RETRY = 0.3  # seconds before a request that another process computes is looked at again


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One answered request of an experiment: everything that reports need."""

    place: Place
    request: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A request that could not be answered, or a replicate that ended early."""

    place: Place
    cause: str


class Watcher(Protocol):
    """Who is told how the run goes on."""

    def planned(self, place: Place, job: Job, stored: bool) -> None:
        """A request has come up."""

    def started(self, job: Job) -> None:
        """Its computation has begun."""

    def progress(self, request: str, step: int) -> None:
        """A fit has come to this step."""

    def answered(self, place: Place, answer: Answer) -> None:
        """A request is answered."""

    def failed(self, failure: Failure) -> None:
        """A request has failed."""

    def ended(self, failure: Failure) -> None:
        """A replicate has ended before its last level."""


@dataclass(slots=True)
class _Pending:
    job: Job
    places: list[tuple[Place, Round | None]] = field(default_factory=list)  # with the round that waits for it
    running: bool = False


class Runner:
    """Drives searches to their ends.

    Args:
        fingerprint: of the task.
        searches: replicate -> its search.
        engine: whose answers count; "auto": those of any.
        on_row: called after each answered request.
    """

    def __init__(
        self,
        fingerprint: str,
        searches: Mapping[int, Search],
        *,
        store: Store,
        executor: Executor,
        watcher: Watcher,
        engine: str = "auto",
        on_row: Callable[[Runner], None] = lambda runner: None,
    ) -> None:
        self.rows: list[Row] = []
        self.computed = 0
        self.failures: list[Failure] = []
        self.ended: list[Failure] = []
        self._fingerprint, self._engine, self._searches = fingerprint, engine, dict(searches)
        self._store, self._executor, self._watcher, self._on_row = store, executor, watcher, on_row
        self._pending: dict[str, _Pending] = {}
        self._queue: list[tuple[Turn, str]] = []
        self._later: list[tuple[float, str]] = []
        self._known: dict[str, Job] = {}
        self._blocked: dict[str, list[str]] = {}  # fit -> requests that need a state of it
        self._round: dict[int, tuple[Round, dict[Arm, Answer]]] = {}

    def run(self) -> None:
        """Answer every request. `rows` are the answered ones, `failures` those that could not be computed, `ended` the
        replicates that stopped early; all are complete even when this raises.

        Raises:
            StoreError: the store cannot be written; nothing else would work either.
            KeyboardInterrupt: what is running was asked to write a checkpoint.
        """
        try:
            for replicate in self._searches:
                self._advance(replicate, None)
            while self._pending:
                self._submit()
                outcomes = self._executor.wait(_RETRY)
                self._submit(waited_for=True)  # to settle takes a search's own time; no worker stands still meanwhile
                for outcome in outcomes:
                    self._settle(outcome)
                self._wake()
        finally:
            self._executor.close()

    def _advance(self, replicate: int, answers: Mapping[Arm, Answer] | None, failure: FitFailed | None = None) -> None:
        """Send answers (or a failure) into a search until it waits for something that is not stored."""
        search = self._searches[replicate]
        while True:
            try:
                if failure is not None:
                    asked, failure = search.throw(failure), None
                else:
                    asked = next(search) if answers is None else search.send(answers)
            except StopIteration:
                self._close(replicate)
                return
            except TombolaError as error:
                self._end(replicate, error)
                return
            answers = self._ask(replicate, asked)
            if answers is None:
                return

    def _close(self, replicate: int) -> None:
        """Nobody waits any more for what the last round of a search asked for."""
        self._round[replicate] = Round(level=self._level(replicate)), {}

    def _level(self, replicate: int) -> int:
        return self._round[replicate][0].level if replicate in self._round else 0

    def _end(self, replicate: int, error: TombolaError) -> None:
        level = self._level(replicate)
        self._close(replicate)
        failure = Failure(place=Place(level=level, replicate=replicate, arm=Arm(name="search")), cause=str(error))
        self.ended.append(failure)
        if not isinstance(error, FitFailed):  # else its request stands among the failures, or its row says diverged
            self.failures.append(failure)
        self._watcher.ended(failure)

    def _ask(self, replicate: int, asked: Round) -> dict[Arm, Answer] | None:
        """Look up or queue all requests of a round; its answers if there is nothing to wait for."""
        self._round[replicate] = (asked, {})
        diverged = None
        for waiting, requests in ((asked, asked.ask), (None, asked.aside)):
            for arm, request in requests.items():
                place = Place(level=asked.level, replicate=replicate, arm=arm)
                job, answer = look_up(self._store, self._fingerprint, request, self._engine)
                self._known[job.digest] = job
                self._watcher.planned(place, job, answer is not None)
                if answer is None:
                    self._enqueue(job, place, waiting)
                    continue
                self._record(place, job.digest, answer)
                if waiting:
                    self._round[replicate][1][arm] = answer
                    diverged = diverged or _divergence(place, answer)
        if diverged is not None:
            self._advance(replicate, None, diverged)
            return None
        return self._complete(replicate)

    def _complete(self, replicate: int) -> dict[Arm, Answer] | None:
        asked, answers = self._round[replicate]
        return answers if answers.keys() == asked.ask.keys() else None

    def _enqueue(self, job: Job, place: Place, waiting: Round | None) -> None:
        pending = self._pending.setdefault(job.digest, _Pending(job))
        pending.places.append((place, waiting))
        if not pending.running:
            heapq.heappush(self._queue, (turn(job.request, place, waiting is not None), job.digest))

    def _submit(self, *, waited_for: bool = False) -> None:
        """Hand out jobs, as many as the executor takes; or only those that searches wait for."""
        while self._queue and self._executor.free() and not (waited_for and self._queue[0][0][0]):
            (aside, *_), name = heapq.heappop(self._queue)
            pending = self._pending.get(name)
            if pending is None or pending.running or name in {n for _, n in self._later}:
                continue
            needs = self._lacking(pending.job.request)
            if needs is not None:
                self._make_again(name, needs)
                continue
            pending.running = True
            self._executor.submit(replace(pending.job, aside=aside))
            self._watcher.started(pending.job)

    def _lacking(self, request: Request) -> At | Adjusted | None:
        """A state that a request starts from or compares with, if the store does not have it."""
        for start in references(request):
            if isinstance(start, At | Adjusted):
                digest = state_digest(start, self._store.get(_maker(start)))
                if digest is None or not self._store.has(digest):
                    return start
        return None

    def _make_again(self, name: str, needs: At | Adjusted) -> None:
        """Put a request aside until what it starts from has made the state it needs."""
        maker = _maker(needs)
        known, answer = self._known.get(maker), self._store.get(maker)
        what = f"it starts from {'step ' + str(needs.step) if isinstance(needs, At) else 'the weights'} of {maker[:12]}"
        source = known.request if known else None
        if known is None or not isinstance(source, Fit if isinstance(needs, At) else Prune):
            self._settle(Failed(digest=name, cause=f"{what}, which this experiment does not have"))
            return
        if isinstance(source, Fit) and isinstance(needs, At):
            diverged = isinstance(answer, Trained) and answer.diverged_at is not None
            if not source.first <= needs.step <= source.last or diverged:
                self._settle(Failed(digest=name, cause=f"{what}, which never came there"))
                return
            source = replace(source, keep=(*source.keep, needs.step))
        elif isinstance(answer, Pruned) and answer.state is None:
            self._settle(Failed(digest=name, cause=f"{what}, which adjusts none"))
            return
        blocked = self._blocked.setdefault(maker, [])
        if name not in blocked:
            blocked.append(name)
        if maker not in self._pending:
            self._pending[maker] = _Pending(replace(known, request=source))
            self._requeue(maker)

    def _settle(self, outcome: Outcome) -> None:
        pending = self._pending[outcome.digest]
        pending.running = False
        if isinstance(outcome, Busy):
            self._later.append((time.monotonic() + _RETRY, outcome.digest))
            return
        self.computed += isinstance(outcome, Done)
        if isinstance(outcome, Missing):
            self._make_again(outcome.digest, outcome.needs)
            return
        del self._pending[outcome.digest]
        for name in self._blocked.pop(outcome.digest, ()):
            if isinstance(outcome, Failed):
                self._settle(Failed(digest=name, cause=outcome.cause))
            else:
                self._requeue(name)
        for place, waiting in pending.places:
            if isinstance(outcome, Done):
                self._accept(place, outcome, waiting)
            else:
                self._fail(place, outcome, waiting)
        if isinstance(outcome, Failed) and outcome.fatal:
            raise StoreError(outcome.cause)

    def _requeue(self, name: str) -> None:
        pending = self._pending[name]
        # What stands in no place is made again for others that wait for its state.
        place, waiting = min(pending.places, default=(NOWHERE, None), key=lambda found: (found[1] is None, found[0]))
        heapq.heappush(self._queue, (turn(pending.job.request, place, waiting is not None or place is NOWHERE), name))

    def _wake(self) -> None:
        now = time.monotonic()
        due = [name for moment, name in self._later if moment <= now]
        self._later = [(moment, name) for moment, name in self._later if moment > now]
        for name in due:
            self._requeue(name)
        if self._later and not self._queue and not any(p.running for p in self._pending.values()):
            time.sleep(_RETRY)

    def _record(self, place: Place, name: str, answer: Answer) -> None:
        self.rows.append(Row(place=place, request=name))
        self._watcher.answered(place, answer)
        self._on_row(self)

    def _accept(self, place: Place, outcome: Done, waiting: Round | None) -> None:
        self._record(place, outcome.digest, outcome.answer)
        if waiting is None or waiting is not self._round[place.replicate][0]:
            return  # nobody waits for it, or its search went on after another failure
        diverged = _divergence(place, outcome.answer)
        if diverged is not None:
            self._advance(place.replicate, None, diverged)
            return
        self._round[place.replicate][1][place.arm] = outcome.answer
        answers = self._complete(place.replicate)
        if answers is not None:
            self._advance(place.replicate, answers)

    def _fail(self, place: Place, outcome: Failed, waiting: Round | None) -> None:
        failure = Failure(place=place, cause=outcome.cause)
        self.failures.append(failure)
        self._watcher.failed(failure)
        if waiting is not None and waiting is self._round[place.replicate][0]:
            self._advance(place.replicate, None, FitFailed(_where(place, outcome.cause)))


def _maker(start: At | Adjusted) -> str:
    return start.fit if isinstance(start, At) else start.prune


def _where(place: Place, cause: str) -> str:
    return f"replicate {place.replicate}, level {place.level}, {place.arm.name}: {cause}"


def _divergence(place: Place, answer: Answer) -> FitFailed | None:
    if not isinstance(answer, Trained) or answer.diverged_at is None:
        return None
    return FitFailed(_where(place, f"the loss was not finite at step {answer.diverged_at}"))
