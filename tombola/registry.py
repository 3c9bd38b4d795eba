"""Registries: names with options for criteria, allocations, schedules, resets; listed without importing any of them."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from tombola.errors import UsageError, suggest
from tombola.importing import import_path

__all__ = ["Entry", "Registry", "chosen", "name_of", "options_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What a registry says of one of its functions or frozen dataclasses.

    Args:
        home: `package.module:name`, imported when it is chosen.
        summary: one line about it.
        source: author, year, arXiv number.
        aliases: other names of it.
    """

    home: str
    summary: str
    source: str = ""
    aliases: tuple[str, ...] = ()

    def load(self) -> Any:
        """The function, or the class whose fields are its options."""
        module, _, name = self.home.partition(":")
        return getattr(importlib.import_module(module), name)


Registry = Mapping[str, Entry]


def name_of(text: str, registry: Registry, what: str) -> str:
    """The registered name that a choice means; an import path `package.module:name` stands for itself.

    Args:
        text: `NAME[:option=value,...]`.
        what: what errors call it ("criterion").

    Raises:
        UsageError: an unknown name, with the nearest.

    >>> name_of("large_final", {"magnitude": Entry(home="m:f", summary="", aliases=("large_final",))}, "criterion")
    'magnitude'
    """
    name, _ = _split(text, what)
    if name in registry or ":" in name:
        return name
    for known, entry in registry.items():
        if name in entry.aliases:
            return known
    names = [*registry, *(alias for entry in registry.values() for alias in entry.aliases)]
    raise UsageError(f"Unknown {what} {name!r}. {suggest(name, names)} Your own: package.module:name.")


def chosen(text: str, registry: Registry, what: str, defaults: Mapping[str, Any] | None = None) -> Any:
    """The function or frozen dataclass that a choice names, with its options.

    A class that reads options of any name (patterns) has a class method `of_options(given: Mapping[str, str])`.

    Args:
        text: `NAME[:option=value,...]`; a list in a value is written with slashes (`0.5/0.2`).
        defaults: options that hold where the text says nothing of them.

    Raises:
        UsageError: an unknown name or option, or a value that the option cannot have.

    >>> from tombola.schedules import SCHEDULES
    >>> chosen("one-shot:density=0.1", SCHEDULES, "schedule")
    OneShot(density=0.1)
    """
    name, given = _split(text, what)
    known = name_of(text, registry, what)
    made = registry[known].load() if known in registry else import_path(known, what, "name")
    if not inspect.isclass(made):
        if given:
            raise UsageError(f"{what} {name!r} has no options, so {next(iter(given))}= cannot be set.")
        return made
    if hasattr(made, "of_options"):
        try:
            return made.of_options(given)
        except UsageError as error:
            raise UsageError(f"{what} {name!r}: {error}") from error
    hints = options_of(made)
    for option in given:
        if option not in hints:
            raise UsageError(f"{what} {name!r} has no option {option!r}. {suggest(option, hints)}")
    options = {option: _read(hints[option], value, f"{what} {name!r}: {option}") for option, value in given.items()}
    try:
        return made(**{**(defaults or {}), **options})
    except UsageError as error:
        raise UsageError(f"{what} {name!r}: {error}") from error
    except TypeError as error:  # a field without default
        lacking = [name for name in _required(made) if name not in options]
        if not lacking:
            raise
        raise UsageError(f"{what} {name!r} needs {lacking[0]}=...: {name}:{lacking[0]}=VALUE.") from error


def options_of(made: Any) -> dict[str, Any]:
    """Option -> type, of what a registry names; a function has none."""
    if not dataclasses.is_dataclass(made):
        return {}
    hints = get_type_hints(made)
    return {field.name: hints[field.name] for field in dataclasses.fields(made)}


def _required(made: Any) -> list[str]:
    missing = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(made) if f.default is missing and f.default_factory is missing]


def _split(text: str, what: str) -> tuple[str, dict[str, str]]:
    """The name and the options as they were written; a colon before an `=` begins the options."""
    head, equals, _ = text.partition("=")
    name = head.rpartition(":")[0] if equals else text
    rest = text[len(name) + 1 :] if equals else ""
    options: dict[str, str] = {}
    for part in rest.split(",") if rest else ():
        option, equals, value = part.rpartition("=")  # an option may be a pattern with anything in it
        if not (equals and option and value):
            raise UsageError(f"{what} {text!r}: {part!r} is no option=value.")
        if option in options:
            raise UsageError(f"{what} {text!r} sets {option} twice.")
        options[option] = value
    if not name:
        raise UsageError(f"{what} {text!r} has no name; expected NAME[:option=value,...].")
    return name, options


def _read(kind: Any, text: str, place: str) -> Any:
    if get_origin(kind) is tuple:
        return tuple(_read(get_args(kind)[0], part, place) for part in text.split("/"))
    if kind is bool:
        if text not in {"true", "false"}:
            raise UsageError(f"{place} is {text!r}; expected true or false.")
        return text == "true"
    try:
        return kind(text)
    except ValueError as error:
        words = {int: "a whole number", float: "a number"}
        expected = words.get(kind) or " or ".join(member.value for member in kind)
        raise UsageError(f"{place} is {text!r}; expected {expected}.") from error
