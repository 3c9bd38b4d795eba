"""The granularities by name, listed without importing torch."""

from __future__ import annotations

from tombola.registry import Entry

__all__ = ["GRANULARITIES"]

GRANULARITIES: dict[str, Entry] = {
    "weight": Entry(
        home="tombola.granularity.units:weight", summary="every weight by itself", aliases=("unstructured",)
    ),
    "unit": Entry(home="tombola.granularity.units:Unit", summary="all weights into a unit (row, filter) go together"),
    "filter": Entry(
        home="tombola.granularity.units:Filter",
        summary="whole filters of convolutions; other layers weight by weight",
        source="Li et al. 2017, arXiv 1608.08710",
    ),
}
"""What `--granularity` takes."""
