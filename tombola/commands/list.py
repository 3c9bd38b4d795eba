"""`tombola list`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, get_args, get_origin

import tyro

from tombola.allocation.registry import ALLOCATIONS
from tombola.commands.arguments import JsonFile, check_targets, flag, parse, write_out
from tombola.criteria.registry import CRITERIA
from tombola.data.augmentation import AUGMENTATIONS
from tombola.errors import UsageError, suggest
from tombola.granularity.registry import GRANULARITIES
from tombola.models.entries import INITIALIZERS, NETWORKS
from tombola.registry import Entry, Registry, found, name_of, options_of, required_of
from tombola.resets.registry import RESETS, RESETS_PRUNED
from tombola.schedules import SCHEDULES
from tombola.search.registry import CONTROLS, SEARCHES

__all__ = ["KINDS", "List", "main"]

KINDS: dict[str, tuple[str, Registry]] = {
    "criteria": ("criterion", CRITERIA),
    "allocations": ("allocation", ALLOCATIONS),
    "granularities": ("granularity", GRANULARITIES),
    "schedules": ("schedule", SCHEDULES),
    "resets": ("reset", RESETS),
    "resets-pruned": ("reset of pruned places", RESETS_PRUNED),
    "augmentations": ("augment", AUGMENTATIONS),
    "searches": ("search", SEARCHES),
    "controls": ("control", CONTROLS),
    "models": ("model", NETWORKS),
    "initializers": ("initializer", INITIALIZERS),
}
"""What can be listed -> (what one of them is called, registry)."""

_OURS = {"search", "control", "initializer"}  # a recipe takes none of the user's own


@dataclass(frozen=True, kw_only=True)
class List:
    """List what a recipe can name: criteria, allocations, ...; with a NAME, all that is known of one."""

    what: tyro.conf.Positional[
        Annotated[tuple[str, ...], flag(f"{', '.join(KINDS)}; then one of them.", metavar="KIND [NAME]", default="")]
    ]
    json: JsonFile = ""


def main(arguments: Sequence[str]) -> int:
    """Print one line for each, or one whole."""
    if not arguments:
        raise UsageError(f"Name what to list: tombola list KIND [NAME]. Kinds: {', '.join(KINDS)}.")
    asked = parse(List, arguments, command="list")
    check_targets(asked.json)
    if not 1 <= len(asked.what) <= 2:
        raise UsageError(f"Expected tombola list KIND [NAME], got {len(asked.what)} words. Kinds: {', '.join(KINDS)}.")
    kind, *names = asked.what
    if kind not in KINDS:
        raise UsageError(f"Unknown kind {kind!r}. {suggest(kind, KINDS)}")
    what, registry = KINDS[kind]
    if names:
        content: dict[str, Any] = _whole(names[0], registry, what)
        lines = list(_shown(content))
    else:
        content = {kind: [_line(name, entry) for name, entry in registry.items()]}
        lines = _lines(registry)
    if asked.json != "-":
        print("\n".join(lines))
    write_out(asked.json, {"schema": 1, **content})
    return 0


def _line(name: str, entry: Entry) -> dict[str, Any]:
    return {"name": name, "aliases": list(entry.aliases), "summary": entry.summary, "source": entry.source}


def _lines(registry: Registry) -> list[str]:
    titles = [" = ".join([name, *entry.aliases]) for name, entry in registry.items()]
    width = max(map(len, titles))
    sources = [f"  [{entry.source}]" if entry.source else "" for entry in registry.values()]
    parts = zip(titles, registry.values(), sources, strict=True)
    return [f"{title:<{width}}  {entry.summary}{source}" for title, entry, source in parts]


def _whole(text: str, registry: Registry, what: str) -> dict[str, Any]:
    """Everything about one, which is imported for it."""
    if what in _OURS and text not in registry:
        raise UsageError(f"Unknown {what} {text!r}. {suggest(text, registry)}")
    name = name_of(text, registry, what)
    entry = registry.get(name, Entry(home=name, summary="your own"))
    made = found(name, registry, what)
    return {
        **_line(name, entry),
        "options": _options(made),
        "needs": _needs(made) if what == "criterion" else [],
        "text": inspect.getdoc(made) or "",
    }


def _options(made: Any) -> list[dict[str, Any]]:
    if hasattr(made, "of_options"):  # any name stands for itself; the text says what it is
        return [{"name": "PATTERN", "values": "FLOAT", "default": None}]
    fields = {field.name: field for field in dataclasses.fields(made)} if dataclasses.is_dataclass(made) else {}
    return [
        {"name": name, "values": _values(hint), "default": _default(fields[name])}
        for name, hint in options_of(made).items()
    ]


def _values(hint: Any) -> str:
    """What an option takes, as it is written on the command line."""
    if get_origin(hint) is tuple:
        return f"{_values(get_args(hint)[0])}/..."
    if hint is bool:
        return "true|false"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "|".join(str(member.value) for member in hint)
    return {int: "INT", float: "FLOAT", str: "TEXT"}.get(hint, str(getattr(hint, "__name__", hint)))


def _default(field: dataclasses.Field[Any]) -> str | None:
    """As it is written on the command line; None: the option must be given."""
    missing = dataclasses.MISSING
    if field.default is missing and field.default_factory is missing:
        return None
    return _written(field.default if field.default_factory is missing else field.default_factory())


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "/".join(map(_written, value))
    return str(value.value if isinstance(value, Enum) else value)


def _needs(made: Any) -> list[str]:
    from tombola.criteria.base import needs_of

    by_default = inspect.isclass(made) and not required_of(made)
    found = needs_of(made() if by_default else made)  # options count
    passes = f"; {found.passes:.2g} x forward and backward over each batch" if found.passes else ""
    said = {
        f"examples (--probe.batches, --probe.size){passes}": found.data,
        "the initial weights": found.initial,
        f"sums gathered while training: {', '.join(found.gathered)}": bool(found.gathered),
        "whole units are scored: --granularity natural removes them whole": found.units,
    }
    return [f"scored at {found.scored_at.value}, unless --score-at says otherwise", *(s for s in said if said[s])]


def _shown(content: dict[str, Any]) -> Iterator[str]:
    yield f"{' = '.join([content['name'], *content['aliases']])}: {content['summary']}"
    if content["source"]:
        yield f"source: {content['source']}"
    for option in content["options"]:
        default = "must be given" if option["default"] is None else f"default {option['default'] or 'empty'}"
        yield f"option: {option['name']}={option['values']} ({default})"
    yield from (f"needs: {line}" for line in content["needs"])
    yield from ("", content["text"])
