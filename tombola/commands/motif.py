"""`tombola motif`: its own subcommands."""

from __future__ import annotations

from collections.abc import Sequence

from tombola.commands.actions import Actions, act

__all__ = ["ACTIONS", "main"]

ACTIONS: Actions = {
    "score": ("tombola.commands.motif_score", "simulate motifs and say what their patterns are worth"),
    "prune": ("tombola.commands.motif_prune", "take edges away while the pattern holds, or look at all sub-networks"),
    "diverse": ("tombola.commands.motif_diverse", "search for many different networks, and show them on a page"),
    "ticket": (
        "tombola.commands.motif_ticket",
        "do surviving edges need their first weights? random networks, five ways",
    ),
    "plot": ("tombola.commands.motif_plot", "draw motifs: the pattern in time, and who acts on whom"),
}

_MOTIF = 'MOTIF is 9, 22, 1, 2, 2b, 8, 4, or a JSON file {"weights": [[...], ...], "morphogen": [...]}.'


def main(arguments: Sequence[str]) -> int:
    """Run one of the actions."""
    about = "Gene regulatory networks that make a pattern of stripes (docs/motifs.md)."
    return act("motif", ACTIONS, arguments, about=about, note=_MOTIF)
