"""A league as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from tombola.league.figures import accuracies
from tombola.league.tables import notes, sanity, standings, versus
from tombola.league.words import facts, how, per_cent
from tombola.report.page import rendered
from tombola.report.svg import inline_svg

__all__ = ["league_page"]


def league_page(document: Mapping[str, Any], *, details: Mapping[str, str]) -> str:
    """The text of the page: every division's tables and figure. Equal input gives equal text.

    Args:
        document: as `standings.league_document` gives it.
        details: what it does not hold: command, versions, the recipe.
    """
    from markupsafe import Markup

    parts = [
        {
            "name": division["name"],
            "title": division["title"],
            "facts": facts(division, document["margin"]),
            "standings": standings(division),
            "sanity": sanity(division),
            "versus": {rival: versus(division, rival) for rival in division["rivals"]},
            "svg": Markup(inline_svg(accuracies(division), division["name"].replace("-", ""), division["title"])),
            "notes": notes(division),
        }
        for division in document["divisions"]
    ]
    return rendered(
        (files("tombola.league") / "league.html").read_text(encoding="utf-8"),
        document=document,
        densities=", ".join(map(per_cent, document["densities"])),
        how=how(),
        parts=parts,
        details=details,
    )
