"""Write docs/vocabulary.md, every name that a recipe takes: python docs/vocabulary.py"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from tombola.commands.list import KINDS
from tombola.criteria.base import needs_of
from tombola.registry import Registry, options_of

PAGE = Path(__file__).parent / "vocabulary.md"
HEAD = """# The vocabulary

Every name that `tombola run` takes, from the registries of this version (`tombola list KIND` prints the same,
`tombola list KIND NAME` all about one). Options go behind a colon: `--criterion snip`, `--criterion synflow:rounds=50`,
`--allocation per-layer:*fc*=0.1,*=0.5`, `--schedule custom:densities=0.5/0.2/0.1`, `--reset wiggle:c=1`. A name of your
own is an import path: `--criterion mymodule:mine` ([how to write one](own-criterion.md)). How they compare on two data
sets: [the league](league.md).
"""
TITLES = {
    "criteria": "Criteria: `--criterion`",
    "allocations": "Allocations: `--allocation`",
    "granularities": "Granularities: `--granularity`",
    "schedules": "Schedules: `--schedule`",
    "resets": "Resets of the survivors: `--reset`",
    "resets-pruned": "Resets of the pruned: `--reset-pruned`",
    "augmentations": "Augmentations: `--augment`",
    "searches": "Searches: `--search`",
    "controls": "Controls: `--controls`",
    "models": "Networks: `--model`",
    "initializers": "Initialisations: `--net.initializer`",
}


def page() -> str:
    """The text of the page."""
    return "\n".join([HEAD, *(_table(kind, registry) for kind, (_, registry) in KINDS.items())])


def _table(kind: str, registry: Registry) -> str:
    scored = kind == "criteria"
    lines = [f"## {TITLES[kind]}", "", f"| name | {'scored at | ' * scored}what it is | options | source |"]
    lines.append(f"|---|{'---|' * scored}---|---|---|")
    for name, entry in registry.items():
        made = entry.load()
        names = ", ".join(f"`{one}`" for one in (name, *entry.aliases))
        options = ", ".join(f"`{option}`" for option in options_of(made))
        moment = f"{needs_of(_instance(made)).scored_at.value} | " if scored else ""
        summary = entry.summary.replace("|", "\\|")
        lines.append(f"| {names} | {moment}{summary} | {options} | {entry.source} |")
    return "\n".join([*lines, ""])


def _instance(made: Any) -> Any:
    return made() if inspect.isclass(made) else made


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
