"""Smaller networks: what a mask has made superfluous is cut out of a copy of the user's own modules."""

from __future__ import annotations

from tombola.shrinking.effective import Effective, effective
from tombola.shrinking.entry import shrink
from tombola.shrinking.lossy import structured
from tombola.shrinking.report import Shrunk

__all__ = ["Effective", "Shrunk", "effective", "shrink", "structured"]
