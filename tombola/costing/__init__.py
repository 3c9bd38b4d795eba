"""What a ticket gains and what not: sizes, multiply-adds and measured times of a network and its smaller forms."""

from __future__ import annotations

from tombola.costing.entry import cost
from tombola.costing.report import Cost, Timing

__all__ = ["Cost", "Timing", "cost"]
