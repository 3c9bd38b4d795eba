"""`tombola show`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import tyro

from tombola.analysis.engines import described, engines_of
from tombola.answers import Trained
from tombola.commands.arguments import (
    STORE,
    JsonFile,
    StorePath,
    check_targets,
    counted,
    flag,
    open_store,
    parse,
    write_out,
)
from tombola.errors import UsageError, suggest
from tombola.recipes import RECIPES, find_recipe, to_toml
from tombola.store import Store

__all__ = ["Show", "main"]


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show an experiment in a store, or a recipe."""

    what: tyro.conf.Positional[
        Annotated[str, flag("digest (or its beginning), name, or .toml file.", metavar="EXPERIMENT|RECIPE")]
    ]
    toml: Annotated[bool, flag("print the recipe alone, as a file for `tombola run FILE.toml`.", default="")] = False
    json: JsonFile = ""
    store: StorePath = STORE


def main(arguments: Sequence[str]) -> int:
    """Print what is known of an experiment, or a recipe as TOML."""
    asked = parse(Show, arguments, command="show")
    check_targets(asked.json)
    if asked.what in RECIPES or asked.what.endswith(".toml"):
        recipe = find_recipe(asked.what)
        if asked.json != "-":
            print(to_toml(recipe), end="")
        write_out(asked.json, {"schema": 1, "recipe": asdict(recipe)})
        return 0
    store, digest, content = _experiment(asked)
    found = _facts(digest, content, store)
    if asked.toml and asked.json != "-":
        print(content["settings"], end="")
    elif asked.json != "-":
        _print(found, content)
    write_out(asked.json, {"schema": 1, **found, "settings": content["settings"]})
    return 0


def _experiment(asked: Show) -> tuple[Store, str, dict[str, Any]]:
    try:
        store = open_store(asked.store)
        return store, *store.experiment(asked.what)
    except UsageError as error:
        raise UsageError(f"No recipe is named {asked.what!r}. {suggest(asked.what, RECIPES)} {error}") from error


def _facts(digest: str, content: Mapping[str, Any], store: Store) -> dict[str, Any]:
    fits = [row for row in content["rows"] if row["arm"] != "cut"]
    answers = [answer for row in fits if isinstance(answer := store.get(row["request"]), Trained)]
    return {
        "experiment": digest,
        "recipe": content["recipe"],
        "state": content["state"],
        "begun": content["begun"],
        "command": content["command"],
        "fits": dict(Counter(row["arm"] for row in fits)),
        "levels": max((row["level"] for row in fits), default=0),
        "replicates": len({row["replicate"] for row in fits}),
        "steps": sum(answer.last - answer.first for answer in answers),
        "seconds": sum(answer.seconds for answer in answers),
        "diverged": sum(answer.diverged_at is not None for answer in answers),
        "engines": engines_of(answers),
        "made_with": content["provenance"],
        "failures": content["failures"],
        "ended": content["ended"],
    }


def _print(found: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(found["begun"]))
    print(f"experiment  {found['experiment']}")
    print(f"recipe      {found['recipe']} ({found['state']}, begun {begun})")
    arms = ", ".join(f"{count} {arm}" for arm, count in found["fits"].items())
    print(f"fits        {arms or 'none yet'}; levels 0-{found['levels']}, {counted(found['replicates'], 'replicate')}")
    print(f"computing   {found['steps']:,} steps in {found['seconds']:,.0f} s; {found['diverged']} diverged")
    print(f"engine      {described(found['engines'])}")
    print(f"made with   {', '.join(f'{k} {v}' for k, v in found['made_with'].items() if k != 'engine')}")
    if found["command"]:
        print(f"command     {found['command']}")
    for word in ("failures", "ended"):
        for row in found[word]:
            print(f"{word:<10}  replicate {row['replicate']}, level {row['level']}, {row['arm']}: {row['cause']}")
    print(f"\n{content['settings']}", end="")
