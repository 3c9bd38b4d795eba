"""Under which digest a request is found in a store, or computed: an explicitly chosen engine is part of it."""

from __future__ import annotations

from collections.abc import Iterator

from tombola.answers import Answer, Pruned, Trained
from tombola.executors.base import Job
from tombola.executors.work import packed_under, unmet
from tombola.requests import Fit, Request
from tombola.specs import digest
from tombola.store import Store

__all__ = ["look_up", "request_digest"]


def request_digest(task_fingerprint: str, request: Request, engine: str = "auto") -> str:
    """Identity of a request: the task and everything in the request that determines the result.

    Args:
        engine: an explicitly chosen one is part of the identity; "auto" is not.
    """
    chosen = {} if engine == "auto" else {"engine": engine}
    return digest({"task": task_fingerprint, "request": request, **chosen})


def look_up(store: Store | None, task_fingerprint: str, request: Request, engine: str) -> tuple[Job, Answer | None]:
    """The job that a request is, and its answer where the store has a whole one.

    "auto" accepts the answer of any engine: its own digest is looked at first, then native's, then torch's. What none
    of them has is computed under the first that has at least a part (it then lacks a state or mask, which is made
    again bit for bit), else under the digest without an engine. References go by what was found, for `Trained.request`
    is the digest it was found under. An explicit engine accepts its own answers only.
    """
    partly: Job | None = None
    for job in _jobs(task_fingerprint, request, engine):
        answer = store.get(job.digest) if store else None
        if store and answer is not None:
            if _whole(request, answer, store):
                return job, answer
            partly = partly or job
    return partly or next(_jobs(task_fingerprint, request, engine)), None


def _jobs(task_fingerprint: str, request: Request, engine: str) -> Iterator[Job]:
    for name in ("auto", "native", "torch") if engine == "auto" else (engine,):
        named = None if name == "auto" else name
        yield Job(digest=request_digest(task_fingerprint, request, name), request=request, engine=named)


def _whole(request: Request, answer: Answer, store: Store) -> bool:
    if isinstance(answer, Pruned):
        return answer.state is None or store.has(answer.state)
    if not isinstance(request, Fit) or not isinstance(answer, Trained):
        return True
    return store.has_mask(packed_under(request)) and not unmet(request, answer, store)
