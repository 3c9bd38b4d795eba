"""Recipes as TOML files: written whole, read strictly."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tombola.errors import UsageError, suggest
from tombola.recipes.recipe import Recipe

__all__ = ["from_toml", "parse_toml", "to_toml"]


def to_toml(recipe: Recipe) -> str:
    """Every field of a recipe; `from_toml` gives back an equal one."""
    plain = dataclasses.asdict(recipe)
    tables = {name: value for name, value in plain.items() if isinstance(value, dict)}
    lines = [f"{name} = {_literal(value)}" for name, value in plain.items() if name not in tables]
    for table, content in tables.items():
        lines += ["", f"[{table}]", *(f"{name} = {_literal(value)}" for name, value in content.items())]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(_literal(item) for item in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def from_toml(path: Path) -> Recipe:
    """The recipe in a TOML file; what the file leaves out keeps `Recipe`'s default.

    Raises:
        UsageError: no such file, not TOML, an unknown key (suggests the nearest), or a value of the wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"The recipe {path} is no TOML: {error}.") from error
    return parse_toml(text, str(path), name=path.stem)


def parse_toml(text: str, place: str, *, name: str = "custom") -> Recipe:
    """The recipe in a TOML text; `place` is named in errors, `name` is the recipe's unless the text gives one.

    Raises:
        UsageError: as `from_toml`.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The recipe {place} is no TOML: {error}.") from error
    recipe: Recipe = _record(Recipe, {"name": name, **content}, place)
    return recipe


def _record(kind: type, content: dict[str, Any], place: str) -> Any:
    hints = get_type_hints(kind)
    for name in content:
        if name not in hints:
            raise UsageError(f"{place}: unknown key {name!r}. {suggest(name, hints)}")
    values = {name: _value(hints[name], value, f"{place}: {name}") for name, value in content.items()}
    try:
        return kind(**values)
    except UsageError as error:  # a value of the right type that cannot be
        raise UsageError(f"{place}: {error}") from error


def _value(kind: Any, value: Any, place: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _record(kind, value, place)  # type: ignore[arg-type]
    if origin is Literal:
        if value in arguments:
            return value
        known = suggest(str(value), [str(a) for a in arguments])
        raise UsageError(f"{place} is {value!r}. {known}")
    if origin is tuple and isinstance(value, list):
        items = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(items) == len(value):
            return tuple(_value(item, one, place) for item, one in zip(items, value, strict=True))
    if origin in {Union, UnionType}:
        return _value(next(a for a in arguments if a is not type(None)), value, place)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise UsageError(f"{place} is {value!r}; expected {_words(kind)}.")


def _words(kind: Any) -> str:
    """What a field takes, for people."""
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        count = "" if arguments[-1] is Ellipsis else f" of {len(arguments)}"
        return f"a list{count}, each {_words(arguments[0])}"
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, arguments))
    plain = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return plain.get(kind, "a table of its own")
