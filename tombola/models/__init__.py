"""Reference networks, and any user's factory by import path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily

if TYPE_CHECKING:
    from tombola.models.dropout import CounterDropout
    from tombola.models.fully_connected import mlp
    from tombola.models.imported import import_factory
    from tombola.models.net import Net
    from tombola.models.registry import MODELS

__all__ = ["MODELS", "CounterDropout", "Net", "import_factory", "mlp"]

__getattr__ = lazily(
    __name__,
    {
        "CounterDropout": "tombola.models.dropout",
        "MODELS": "tombola.models.registry",
        "Net": "tombola.models.net",
        "import_factory": "tombola.models.imported",
        "mlp": "tombola.models.fully_connected",
    },
)
