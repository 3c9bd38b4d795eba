"""The named networks."""

from __future__ import annotations

from tombola.models.fully_connected import build_mlp, lenet_300_100
from tombola.models.net import Builder

__all__ = ["MODELS"]

MODELS: dict[str, Builder] = {"lenet-300-100": lenet_300_100, "mlp": build_mlp}
