"""What a store notes about further studies of its experiments: which requests they consist of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tombola.specs import digest
from tombola.store.files import read_json, write_json
from tombola.store.store import Store

__all__ = ["FOLDER", "name_of", "put_study", "studies", "study"]

FOLDER = "studies"


def _path(store: Store, experiment: str, name: str) -> Path:
    return store.root / FOLDER / experiment / f"{name}.json"


def name_of(kind: str, asked: object) -> str:
    """Under which name a study is noted: the digest of what is asked for.

    Args:
        kind: "stability".
        asked: a specification (`tombola.specs`).
    """
    return digest({"study": kind, "asked": asked})


def put_study(store: Store, experiment: str, name: str, content: Mapping[str, Any]) -> None:
    """Write or replace what is noted about a study.

    Args:
        experiment: its digest.
        name: `name_of` what is asked for.
    """
    write_json(_path(store, experiment, name), dict(content))


def study(store: Store, experiment: str, name: str) -> dict[str, Any]:
    """What is noted about a study; empty where there is nothing, or only damage, which is reported."""
    path = _path(store, experiment, name)
    try:
        return read_json(path) or {}
    except ValueError as error:
        store.report(f"the store's {path.relative_to(store.root)} was damaged ({error}); it is made again")
    return {}


def studies(store: Store, experiment: str) -> Iterator[dict[str, Any]]:
    """What is noted about every study of an experiment, the one written first before the others."""
    names = [path.stem for path in (store.root / FOLDER / experiment).glob("[0-9a-f]*.json")]
    found = [content for name in sorted(names) if (content := study(store, experiment, name))]
    yield from sorted(found, key=lambda content: float(content.get("written", 0)))
