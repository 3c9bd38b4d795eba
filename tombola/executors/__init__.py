"""Executors: where requests are computed. In this process, or in a pool of worker processes."""

from __future__ import annotations

from tombola.executors.base import Busy, Done, Executor, Failed, Job, Missing, Outcome
from tombola.executors.inline import Inline
from tombola.executors.pool import Pool

__all__ = ["Busy", "Done", "Executor", "Failed", "Inline", "Job", "Missing", "Outcome", "Pool"]
