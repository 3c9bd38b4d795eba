"""`tombola ticket`: its own subcommands, by a table of lazy import paths."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from tombola.errors import UsageError, suggest

__all__ = ["ACTIONS", "main"]

ACTIONS: dict[str, tuple[str, str]] = {
    "save": ("tombola.commands.ticket_save", "write the ticket of an experiment to a file"),
    "inspect": ("tombola.commands.ticket_inspect", "show what is in a ticket file"),
    "diff": ("tombola.commands.ticket_diff", "compare the masks of two ticket files, beside what chance gives"),
}
"""name -> (module with `main(arguments) -> exit code`, one line about it)."""


def main(arguments: Sequence[str]) -> int:
    """Run one of the actions."""
    name = arguments[0] if arguments else ""
    if name in ACTIONS:
        code: int = importlib.import_module(ACTIONS[name][0]).main(arguments[1:])
        return code
    if name in {"-h", "--help"}:
        print(_help())
        return 0
    known = ", ".join(ACTIONS)
    what = f"Unknown action {name!r}. {suggest(name, ACTIONS)}" if arguments else f"Name one of {known}."
    raise UsageError(f"{what} More: tombola ticket --help")


def _help() -> str:
    return "\n".join(
        [
            "usage: tombola ticket ACTION [arguments]",
            "",
            "Ticket files: a mask, the weights it starts from, and how it was found.",
            "",
            *(f"  {name:<7}  {summary}" for name, (_, summary) in ACTIONS.items()),
            "",
            "tombola ticket ACTION --help tells more.",
        ]
    )
