"""Reference networks, and any user's factory by import path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily

if TYPE_CHECKING:
    from tombola.models.dropout import CounterDropout
    from tombola.models.entries import INITIALIZERS, NETWORKS
    from tombola.models.fully_connected import mlp
    from tombola.models.imported import import_factory
    from tombola.models.initializers import initialise
    from tombola.models.net import Net
    from tombola.models.registry import MODELS

__all__ = [
    "INITIALIZERS",
    "MODELS",
    "NETWORKS",
    "CounterDropout",
    "Net",
    "import_factory",
    "initialise",
    "mlp",
]

__getattr__ = lazily(
    __name__,
    {
        "CounterDropout": "tombola.models.dropout",
        "INITIALIZERS": "tombola.models.entries",
        "MODELS": "tombola.models.registry",
        "NETWORKS": "tombola.models.entries",
        "Net": "tombola.models.net",
        "import_factory": "tombola.models.imported",
        "initialise": "tombola.models.initializers",
        "mlp": "tombola.models.fully_connected",
    },
)
