"""`tombola motif`: its own subcommands, by a table of lazy import paths."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from tombola.errors import UsageError, suggest

__all__ = ["ACTIONS", "main"]

ACTIONS: dict[str, tuple[str, str]] = {
    "score": ("tombola.commands.motif_score", "simulate motifs and say what their patterns are worth"),
    "prune": ("tombola.commands.motif_prune", "take edges away while the pattern holds, or look at all sub-networks"),
    "diverse": ("tombola.commands.motif_diverse", "search for many different networks, and show them on a page"),
    "ticket": (
        "tombola.commands.motif_ticket",
        "do surviving edges need their first weights? random networks, five ways",
    ),
    "plot": ("tombola.commands.motif_plot", "draw motifs: the pattern in time, and who acts on whom"),
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
    raise UsageError(f"{what} More: tombola motif --help")


def _help() -> str:
    return "\n".join(
        [
            "usage: tombola motif ACTION [arguments]",
            "",
            "Gene regulatory networks that make a pattern of stripes (docs/motifs.md).",
            "",
            *(f"  {name:<7}  {summary}" for name, (_, summary) in ACTIONS.items()),
            "",
            'MOTIF is 9, 22, 1, 2, 2b, 8, 4, or a JSON file {"weights": [[...], ...], "morphogen": [...]}.',
            "tombola motif ACTION --help tells more.",
        ]
    )
