"""Numbers about numbers: means over replicates and intervals. Needs numpy and scipy, never torch."""

from __future__ import annotations

from tombola.statistics.intervals import Interval, interval, replicate_means

__all__ = ["Interval", "interval", "replicate_means"]
