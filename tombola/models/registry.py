"""The named networks."""

from __future__ import annotations

from tombola.models.entries import NETWORKS
from tombola.models.net import Builder

__all__ = ["MODELS"]

MODELS: dict[str, Builder] = {name: entry.load() for name, entry in NETWORKS.items()}
"""name -> builder of every network of `tombola.models.entries.NETWORKS`."""
