"""The compiled sparse trainer: convolutions and Linear layers, trained and run on the weights that exist alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily

if TYPE_CHECKING:
    from tombola.native.engine import Native
    from tombola.native.fits import why_not
    from tombola.native.inference import compile  # noqa: A004 - as torch.compile is called

__all__ = ["Native", "compile", "why_not"]

__getattr__ = lazily(
    __name__,
    {
        "Native": "tombola.native.engine",
        "compile": "tombola.native.inference",
        "why_not": "tombola.native.fits",
    },
)
