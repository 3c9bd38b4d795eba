"""What JSON can hold, and names and texts from elsewhere made safe to print."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tombola.errors import TicketError

__all__ = ["plain", "printable", "shown"]

_DEEP = 32
_LONG = 200
_LARGE = 1 << 64


def plain(value: Any, place: str, depth: int = 0) -> Any:
    """A deep copy of a JSON value: mappings as dicts, tuples as lists.

    Args:
        place: what the value is called in an error message.

    Raises:
        TicketError: something in it is not JSON, not finite, or nested more than 32 deep.

    >>> plain({"shape": (1, 28, 28)}, "metadata")
    {'shape': [1, 28, 28]}
    """
    if depth > _DEEP:
        raise TicketError(f"{shown(place)} is nested more than {_DEEP} deep; keep it flatter.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int) and abs(value) < _LARGE:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TicketError(f"{shown(place)} has the key {shown(name)}; expected only strings.")
        return {str(name): plain(part, f"{place}.{name}", depth + 1) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, f"{place}[{number}]", depth + 1) for number, part in enumerate(value)]
    got = (
        printable(f"{value:.3g}")
        if isinstance(value, float)
        else "too large"
        if isinstance(value, int)
        else f"a {type(value).__name__}"
    )
    raise TicketError(f"{shown(place)} is {got}; expected what JSON can hold: text, finite numbers, lists, mappings.")


def printable(text: str, longest: int = _LONG) -> str:
    """The text with everything that could steer a terminal written out, and cut where it is long.

    >>> printable("fc1\\x1b[2J\\n" + "x" * 300, 16)
    'fc1\\\\x1b[2J\\\\nxxxxx...'
    """
    cut = text[:longest] + ("..." if len(text) > longest else "")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in cut)


def shown(name: object) -> str:
    """A name in quotes, safe and short, for a message.

    >>> shown("fc1.weight")
    "'fc1.weight'"
    """
    return f"'{printable(str(name), 80)}'"
