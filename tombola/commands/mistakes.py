"""What is wrong with a command line, in one line: tyro, which reads it, answers in boxes that may fill a screen."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from tombola.errors import suggest

__all__ = ["flags_of", "mistake"]

_EXPECTED = {
    bool: ("no value", ""),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    Path: ("a path", "paths"),
    str: ("a value", "values"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Argument:
    """A flag (or, without dashes, a position) and what it takes.

    Args:
        count: of values; None: any.
        words: taken too, beside what the kind reads.
        optional: a position that may be left out.
    """

    name: str
    kind: Any
    choices: tuple[str, ...] = ()
    count: int | None = 1
    words: tuple[str, ...] = ()
    optional: bool = False

    @property
    def expected(self) -> str:
        if self.choices:
            listed = ", ".join(self.choices)
            return f"any of {listed}" if self.count is None else f"one of {listed}"
        one, many = _EXPECTED[self.kind]
        if self.words:
            return f"{one} or {' or '.join(self.words)}"
        return one if self.count in {0, 1} else f"{self.count or ''} {many}".strip()


def mistake(kind: type, tokens: Sequence[str], command: str) -> str | None:
    """The first thing in `tokens` that is no argument of the dataclass `kind`; None where nothing is found.

    >>> @dataclass
    ... class Ask:
    ...     levels: int = 3
    >>> mistake(Ask, ["--levles", "3"], "ask")
    "Unknown flag '--levles'. Did you mean '--levels'? All flags: tombola ask --help"
    >>> mistake(Ask, ["--levels", "three"], "ask")
    "--levels is 'three'; expected a whole number."
    """
    known = {argument.name: argument for argument in _arguments(kind)}
    positions = [argument for name, argument in known.items() if name[0] != "-"]
    rest, seen, before = list(tokens), 0, ""
    while rest:
        token = rest.pop(0)
        if not _is_flag(token):
            seen += 1
            if seen > len(positions) and not (positions and positions[-1].count is None):
                return f"Unexpected argument {token!r}{before}. All flags: tombola {command} --help"
            continue
        name, given, value = token.partition("=")
        argument = known.get("--" + name[2:].replace("_", "-"))
        if argument is None:
            return f"Unknown flag {name!r}. {_nearest(name, known)}All flags: tombola {command} --help"
        values = [value] if given else []
        while rest and not given and not _is_flag(rest[0]) and (argument.count is None or len(values) < argument.count):
            values.append(rest.pop(0))
        wrong = _wrong(argument, values)
        if wrong:
            return wrong
        before = f" after {argument.name}, which takes {argument.expected}"
    missing = [argument.name for argument in positions[seen:] if not argument.optional]
    return f"{missing[0]} is missing: tombola {command} {' '.join(missing)}" if missing else None


def flags_of(kind: type) -> list[str]:
    """The flags of a command, in the order of its dataclass."""
    return [argument.name for argument in _arguments(kind) if argument.name[0] == "-"]


def _arguments(kind: type, prefix: str = "") -> Iterator[_Argument]:
    hints, marks = get_type_hints(kind, include_extras=True), vars(tyro.conf)
    for field in fields(kind):
        hint, notes = hints[field.name], list[Any]()
        if get_origin(hint) is Annotated:
            hint, *notes = get_args(hint)
        if marks["Suppress"] in notes:
            continue
        name = prefix + field.name.replace("_", "-")
        if is_dataclass(hint):
            yield from _arguments(hint, f"{name}.")  # type: ignore[arg-type]
        elif (required := field.default is MISSING and field.default_factory is MISSING) or marks[
            "Positional"
        ] in notes:
            named = [note.metavar for note in notes if getattr(note, "metavar", None)]
            yield replace(_flag(name, hint), name=named[0] if named else name.upper(), optional=not required)
        else:
            yield _flag(f"--{name}", hint)


def _flag(name: str, hint: Any) -> _Argument:
    origin, inside = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        one, *others = (_flag(name, one) for one in inside if one is not NoneType)
        return replace(one, words=tuple(word for other in others for word in other.choices))
    if origin is Literal:
        return _Argument(name=name, kind=str, choices=tuple(map(str, inside)))
    if origin is tuple:
        one = _flag(name, inside[0])
        count = None if inside[-1] is Ellipsis else len(inside)
        return _Argument(name=name, kind=one.kind, choices=one.choices, count=count)
    return _Argument(name=name, kind=hint, count=0 if hint is bool else 1)


def _is_flag(token: str) -> bool:
    if not token.startswith("-") or token == "-":
        return False
    try:
        float(token)
    except ValueError:
        return True
    return False


def _nearest(name: str, known: Sequence[str] | dict[str, _Argument]) -> str:
    last = name.rpartition(".")[2].lstrip("-")
    flags = [flag for flag in known if flag[0] == "-"]
    same = [flag for flag in flags if flag.rpartition(".")[2].lstrip("-") == last]  # --lr is --optimizer.lr
    near = same or (difflib.get_close_matches(name, flags, n=1, cutoff=0.6) if len(last) > 1 else [])
    return f"Did you mean {' or '.join(map(repr, near[:3]))}? " if near else ""


def _wrong(argument: _Argument, values: Sequence[str]) -> str | None:
    """What is wrong with the values of a flag."""
    if argument.count == 0 and values:
        return f"{argument.name} takes no value; got {values[0]!r}."
    if argument.count is not None and len(values) < argument.count:
        got = f"is {' '.join(values)}" if values else "has no value"
        return f"{argument.name} {got}; expected {argument.expected}."
    for value in values:
        if value in argument.words:
            continue
        if argument.choices and value not in argument.choices:
            return f"{argument.name} is {value!r}; expected {argument.expected}. {suggest(value, argument.choices)}"
        if argument.kind in {int, float} and not _reads(argument.kind, value):
            return f"{argument.name} is {value!r}; expected {argument.expected}."
    return None


def _reads(kind: type, value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True
