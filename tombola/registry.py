"""Registries: names with options for criteria, allocations, schedules, resets; listed without importing any of them."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from tombola.errors import UsageError, suggest
from tombola.importing import import_path, where

__all__ = ["Entry", "Registry", "chosen", "found", "name_of", "options_of", "required_of"]

_CALLED_WITH = {
    "criterion": ("model", "mask", "probe"),
    "allocation": ("scores", "mask", "keep"),
    "granularity": ("scores", "mask", "model"),
    "schedule": ("level", "levels"),
    "reset": ("ground",),
    "reset_pruned": ("ground",),
    "augment": ("x", "key"),
}
"""What errors call it -> what it is given; one of the user's own is asked beforehand whether it takes that."""


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


def found(name: str, registry: Registry, what: str) -> Any:
    """The function or class that a name of `name_of` means.

    Raises:
        UsageError: one of the user's own that cannot be imported, or is no function and no dataclass.

    >>> found("math:pi", {}, "criterion")
    Traceback (most recent call last):
    tombola.errors.UsageError: criterion 'math:pi' is of type float; expected a function, or a frozen dataclass ...
    """
    if name in registry:
        return registry[name].load()
    made = import_path(name, what, "name")
    if not (inspect.isfunction(made) or dataclasses.is_dataclass(made)):
        is_ = "a class without fields" if inspect.isclass(made) else f"of type {type(made).__name__}"
        raise UsageError(
            f"{what} {name!r} is {is_}; expected a function, or a frozen dataclass with __call__ whose fields are its "
            f"options."
        )
    return made


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
    made = found(known, registry, what)
    if not inspect.isclass(made):
        if given:
            raise UsageError(f"{what} {name!r} has no options, so {next(iter(given))}= cannot be set.")
        return _callable(made, known, registry, what)
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
    options = {**(defaults or {}), **options}
    lacking = [option for option in required_of(made) if option not in options]
    if lacking:
        raise UsageError(f"{what} {name!r} needs {lacking[0]}=...: {name}:{lacking[0]}=VALUE.")
    try:
        made = made(**options)
    except UsageError as error:
        raise UsageError(f"{what} {name!r}: {error}") from error
    except Exception as error:  # what a class of the user's own raises
        raise UsageError(f"{what} {name!r} cannot be made: {where(error)}") from error
    return _callable(made, known, registry, what)


def _callable(made: Any, name: str, registry: Registry, what: str) -> Any:
    """As it is; one of the user's own only where it can be called as it will be."""
    if name in registry or what not in _CALLED_WITH or (what.startswith("reset") and not callable(made)):
        return made
    given = _CALLED_WITH[what]
    try:
        inspect.signature(made).bind(*given)
    except TypeError as error:
        raise UsageError(
            f"{what} {name!r} cannot be called as ({', '.join(given)}), as every {what} is: {error}."
        ) from error
    return made


def options_of(made: Any) -> dict[str, Any]:
    """Option -> type, of what a registry names; a function has none.

    Raises:
        UsageError: a type that is not defined.
    """
    if not (inspect.isclass(made) and dataclasses.is_dataclass(made)):
        return {}
    try:
        hints = get_type_hints(made)
    except Exception as error:  # an annotation that is not defined
        raise UsageError(f"The types of the options of {made.__qualname__} cannot be read: {where(error)}") from error
    return {field.name: hints[field.name] for field in dataclasses.fields(made)}


def required_of(made: Any) -> list[str]:
    """The options that have no default, of a registered class."""
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
    if get_origin(kind) in {Union, UnionType}:
        kind = next(one for one in get_args(kind) if one is not NoneType)
    if get_origin(kind) is tuple:
        return tuple(_read(get_args(kind)[0], part, place) for part in text.split("/"))
    if kind is bool:
        if text not in {"true", "false"}:
            raise UsageError(f"{place} is {text!r}; expected true or false.")
        return text == "true"
    if kind not in {int, float, str} and not (inspect.isclass(kind) and issubclass(kind, Enum)):
        raise UsageError(
            f"{place} is of type {getattr(kind, '__name__', kind)}, which cannot be written here; expected an option "
            f"of type int, float, bool, str, an Enum, or a tuple of one of them."
        )
    try:
        return kind(text)
    except ValueError as error:
        words = {int: "a whole number", float: "a number"}
        expected = words.get(kind) or " or ".join(member.value for member in kind)
        raise UsageError(f"{place} is {text!r}; expected {expected}.") from error
