"""Specifications: frozen dataclasses -> canonical JSON -> digest. All that determines a result is in the digest."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from tombola.errors import UsageError

__all__ = ["added", "canonical", "canonical_json", "digest", "wish"]

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def wish(default: Any) -> Any:
    """A dataclass field that is no part of the identity: it changes what is kept or shown, never a number.

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Fit:
    ...     steps: int
    ...     keep: tuple[int, ...] = wish(())
    >>> digest(Fit(steps=3, keep=(1, 2))) == digest(Fit(steps=3))
    True
    """
    return dataclasses.field(default=default, metadata={"identity": False})


def added(neutral: Any) -> Any:
    """A dataclass field that came later: left out of the digest only while it equals the frozen neutral value.

    So results stored before the field existed keep their identity.
    """
    return dataclasses.field(default=neutral, metadata={"neutral": neutral})


def _number(value: float) -> Json:
    if not math.isfinite(value):
        raise UsageError(f"A specification holds {value!r}; every number in it must be finite.")
    return int(value) if value.is_integer() else value  # 1 and 1.0 say the same


def _fields(value: Any) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        neutral = field.metadata.get("neutral", dataclasses.MISSING)
        if field.metadata.get("identity", True) and not (neutral is not dataclasses.MISSING and content == neutral):
            found[field.name] = canonical(content)
    return found


def _own(value: Any) -> bool:
    return bool(value.__module__.split(".")[0] == "tombola")


def _source(value: Any) -> str:
    try:
        return hashlib.sha256(inspect.getsource(value).encode()).hexdigest()
    except (OSError, TypeError) as error:
        name = f"{value.__module__}:{value.__qualname__}"
        raise UsageError(
            f"The source of {name} cannot be read, so its results could not be told apart; define it in a file."
        ) from error


def _function(value: Callable[..., Any]) -> Json:
    name, captured = f"{value.__module__}:{value.__qualname__}", value.__code__.co_freevars
    if captured or value.__name__ == "<lambda>":
        what = f"captures {', '.join(captured)}" if captured else "has no name"
        raise UsageError(
            f"The function {name} {what}, so its results could not be told apart; "
            f"define it at the top of a file, its options as fields of a frozen dataclass with __call__."
        )
    if _own(value):
        return {"function": value.__name__}
    defaults = [value.__defaults__, value.__kwdefaults__]
    return {"function": name, "source": _source(value)} | ({"defaults": canonical(defaults)} if any(defaults) else {})


def canonical(value: Any) -> Json:
    """The JSON form of a specification: class name, schema version and every identity field, defaults included.

    Values: None, bool, int, finite float, str, Enum, sequence, mapping with string keys, frozen dataclass, an object
    with a `digest` (a `Mask`), or a function (Tombola's own by name; a user's by name, source and default arguments, as
    a user's dataclass with `__call__` is by fields and source).

    Raises `UsageError` for anything else: what cannot be written down cannot identify a result.
    """
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str) else value.name
    if isinstance(value, float):
        return _number(value)
    if isinstance(getattr(value, "digest", None), str):
        return {"class": type(value).__name__, "digest": value.digest}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        code = {"source": _source(type(value))} if callable(value) and not _own(type(value)) else {}
        return {"class": type(value).__name__, "schema": getattr(type(value), "schema", 1), **code, **_fields(value)}
    if isinstance(value, Mapping):
        odd = [name for name in value if not isinstance(name, str)]
        if odd:
            raise UsageError(f"A specification holds a mapping with the key {odd[0]!r}; expected only strings.")
        return {name: canonical(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(content) for content in value]
    if isinstance(value, Path):
        raise UsageError(f"A specification holds the path {value}; identities are made of contents, never of paths.")
    if inspect.isfunction(value):
        return _function(value)
    raise UsageError(f"A specification holds {value!r} of type {type(value).__name__}, which has no canonical form.")


def canonical_json(value: Any) -> str:
    """`canonical` as text: sorted keys, no white space."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """Identity of a specification: the first 32 hex digits of SHA-256 of its canonical JSON.

    >>> digest({"a": 1, "b": (1.0, None)}) == digest({"b": [1, None], "a": 1.0})
    True
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]
