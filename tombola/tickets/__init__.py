"""Tickets: a mask and the weights it starts from, in memory, in a file, and out of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tombola.lazy import lazily

if TYPE_CHECKING:
    from tombola.tickets.jaccard import overlap
    from tombola.tickets.level import Level
    from tombola.tickets.seed import NamedModel
    from tombola.tickets.stored import stored_ticket
    from tombola.tickets.ticket import Ticket

__all__ = ["Level", "NamedModel", "Ticket", "overlap", "stored_ticket"]

__getattr__ = lazily(
    __name__,
    {
        "Level": "tombola.tickets.level",
        "NamedModel": "tombola.tickets.seed",
        "Ticket": "tombola.tickets.ticket",
        "overlap": "tombola.tickets.jaccard",
        "stored_ticket": "tombola.tickets.stored",
    },
)
