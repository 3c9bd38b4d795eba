"""Commands with subcommands of their own, by a table of lazy import paths."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

from tombola.errors import UsageError, suggest

__all__ = ["Actions", "act"]

Actions = Mapping[str, tuple[str, str]]
"""name -> (module with `main(arguments) -> exit code`, one line about it)."""


def act(command: str, actions: Actions, arguments: Sequence[str], *, about: str, note: str = "") -> int:
    """Run the action that the first argument names, or print what there is.

    Args:
        command: what stands before it (`ticket`).
        about: one sentence for `--help`.
        note: a line more for it.

    Raises:
        UsageError: none, or an unknown one; suggests the nearest.
    """
    name = arguments[0] if arguments else ""
    if name in actions:
        code: int = importlib.import_module(actions[name][0]).main(arguments[1:])
        return code
    if name in {"-h", "--help"}:
        lines = (f"  {known:<7}  {summary}" for known, (_, summary) in actions.items())
        end = [note] * bool(note) + [f"tombola {command} ACTION --help tells more."]
        print("\n".join([f"usage: tombola {command} ACTION [arguments]", "", about, "", *lines, "", *end]))
        return 0
    known = ", ".join(actions)
    what = f"Unknown action {name!r}. {suggest(name, actions)}" if arguments else f"Name one of {known}."
    raise UsageError(f"{what} More: tombola {command} --help")
