"""Garbage collection: what no experiment names goes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tombola.store.files import read_json, refusal
from tombola.store.packing import notes_of
from tombola.store.store import Store
from tombola.store.studies import FOLDER, studies

__all__ = ["Collected", "collect"]


_FOLDERS = ("answers", "objects", "masks", "checkpoints", "experiments", FOLDER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What a collection removed, or would remove."""

    experiments: int
    files: int
    bytes: int


def collect(store: Store, *, drop: tuple[str, ...] = (), dry_run: bool = False) -> Collected:
    """Remove answers, states and masks that no experiment names, leftovers of interrupted writes, and `drop`.

    Args:
        drop: beginnings of the digests of experiments to remove first.
        dry_run: only count.

    Raises:
        StoreError: a run is using the store, or a file cannot be removed.
        UsageError: an experiment to drop does not exist.
    """
    dropped = {store.experiment(prefix)[0] for prefix in drop}
    with store.alone():
        kept = {digest: content for digest, content in store.experiments() if digest not in dropped}
        noted = [*kept.values(), *(study for digest in kept for study in studies(store, digest))]
        requests = {row["request"] for content in noted for row in content["rows"]}
        unfinished = any(content["state"] != "finished" for content in noted)
        named = _named(store, requests, unfinished)
        doomed = [path for path in _files(store.root) if not _wanted(path, kept.keys(), requests, named, unfinished)]
        size = sum(path.stat().st_size for path in doomed)
        for path in [] if dry_run else doomed:
            try:
                path.unlink()
            except OSError as error:
                raise refusal("remove", path, error) from error
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # only when it is empty
    return Collected(experiments=len(dropped), files=len(doomed), bytes=size)


def _files(root: Path) -> Iterator[Path]:
    for folder in _FOLDERS:
        yield from (path for path in sorted((root / folder).rglob("*")) if path.is_file())


def _named(store: Store, requests: set[str], unfinished: bool) -> set[str]:
    """Digests of the objects that kept answers and checkpoints name, and of the masks that those are packed under."""
    objects: set[str] = set()
    for request in requests:
        with contextlib.suppress(ValueError):
            content = read_json(store.answer_path(request)) or {}
            objects |= {content[name] for name in ("mask", "state") if content.get(name)}
            trained = content.get("answer", {})
            objects |= {digest for _, digest in trained.get("states", ())} | set(trained.get("gathered", {}).values())
    for path in (store.root / "checkpoints").glob("*.safetensors") if unfinished else ():
        with contextlib.suppress(ValueError, KeyError):
            objects |= {digest for _, digest in notes_of(path.read_bytes())["states"]}
    for digest in list(objects):
        with contextlib.suppress(OSError, ValueError, KeyError):
            mask = notes_of(store.object_path(digest).read_bytes()).get("mask")
            link = read_json(store.root / "masks" / f"{mask}.json") if mask else None
            objects |= {mask, link["object"]} if mask and link else set()
    return objects


def _wanted(path: Path, experiments: object, requests: set[str], named: set[str], unfinished: bool) -> bool:
    if path.name.startswith("."):  # interrupted writes, damaged files that were set aside
        return False
    kind, stem = path, path.stem
    while kind.parent.name not in _FOLDERS:
        kind = kind.parent
    folder = kind.parent.name
    if folder == "checkpoints":
        return unfinished
    if folder == FOLDER:
        stem = kind.name  # the experiment that it is of
    named_by = {"answers": requests, "objects": named, "masks": named, "experiments": experiments, FOLDER: experiments}
    return stem in named_by[folder]  # type: ignore[operator]
