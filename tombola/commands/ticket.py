"""`tombola ticket`: its own subcommands."""

from __future__ import annotations

from collections.abc import Sequence

from tombola.commands.actions import Actions, act

__all__ = ["ACTIONS", "main"]

ACTIONS: Actions = {
    "save": ("tombola.commands.ticket_save", "write the ticket of an experiment to a file"),
    "inspect": ("tombola.commands.ticket_inspect", "show what is in a ticket file"),
    "diff": ("tombola.commands.ticket_diff", "compare the masks of two ticket files, beside what chance gives"),
}


def main(arguments: Sequence[str]) -> int:
    """Run one of the actions."""
    about = "Ticket files: a mask, the weights it starts from, and how it was found."
    return act("ticket", ACTIONS, arguments, about=about)
