"""A results document as one flat table for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["to_csv"]

_LAYERS = "kept_per_layer"


def to_csv(document: Mapping[str, Any]) -> str:
    """Every row of every arm as comma-separated text with a header, `kept_per_layer` as columns `kept:NAME`.

    Columns stand in the order in which they first appear, layers last. A null is an empty cell, accuracies stay
    fractions, numbers keep every digit.

    >>> print(to_csv({"arms": {"ticket": [{"level": 0, "diverged": False, "kept_per_layer": {"fc": 3}}]}}), end="")
    arm,level,diverged,kept:fc
    ticket,0,false,3
    """
    flat = [_flat(arm, row) for arm, rows in document["arms"].items() for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    ordered = sorted(names or ["arm"], key=lambda name: name.startswith("kept:"))
    text = io.StringIO()
    writer = csv.DictWriter(text, ordered, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(arm: str, row: Mapping[str, Any]) -> dict[str, str]:
    cells = {"arm": arm} | {name: _cell(value) for name, value in row.items() if name != _LAYERS}
    layers = row.get(_LAYERS) or {}
    return cells | {f"kept:{layer}": _cell(kept) for layer, kept in layers.items()}


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
