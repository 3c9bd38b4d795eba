"""Finished levels of a user's own loop on disk: a level that is there whole is not trained again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tombola.errors import StoreError, hint
from tombola.levels import Course, Ran
from tombola.masks import Mask
from tombola.specs import digest
from tombola.store import Store
from tombola.store.files import locked, read_json, refusal, write, write_json
from tombola.store.packing import state_bytes, state_from
from tombola.tensors import digest_tensors

__all__ = ["Shelf"]

_VERSION = 1


class Shelf:
    """Levels in the folder `tickets` of a store, beside the experiments of `tombola run`.

    A level is named by everything that determines it: the user's `key`, the weights it starts from, its mask, how it is
    rewound and its seed. It is there once its JSON file is, which is written last and holds checksums of the others.

    Args:
        store: directory; made where it is not there.
        key: names the pair of train and evaluate.

    Raises:
        StoreError: the directory is something else, or cannot be written.
    """

    def __init__(self, store: str | os.PathLike[str], key: str) -> None:
        self.root, self.key = Store(store).root, key

    def name(self, course: Course) -> str:
        """Identity of a level."""
        start = digest_tensors(course.start)
        said = {"key": self.key, "start": start, "mask": course.mask, "seed": course.seed}
        return digest({"level": _VERSION, **said, "hold": course.hold, "keep": course.keep})

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Be the only process that finds the tickets whose level 0 has this name.

        Raises:
            StoreError: another one does.
        """
        with locked(self.root / "locks" / f"ticket-{name}") as got:
            if not got:
                raise StoreError(f"Another process is finding this ticket in {self.root}; wait until it has ended.")
            yield

    def get(self, name: str, mask: Mask) -> tuple[Ran, float | None] | None:
        """A finished level and its metric; None where there is none, or a damaged one (which a hint says)."""
        path = self._path(name, "json")
        try:
            content = read_json(path)
            if content is None:
                return None
            states = [self._read(name, kind, content[kind]) for kind in ("trained", "kept")]
        except ValueError as error:
            hint(f"{path.name} in {path.parent} is damaged ({error}); its level is trained again.")
            return None
        trained, kept = (None if data is None else state_from(data, lambda _: mask) for data in states)
        assert trained is not None
        ran = Ran(trained=trained, kept=kept, steps=content["steps"], seconds=content["seconds"])
        return ran, content["metric"]

    def put(self, name: str, course: Course, ran: Ran, metric: float | None) -> None:
        """Write a finished level."""
        content: dict[str, Any] = {"level": course.name, "key": self.key, "metric": metric}
        content |= {"steps": ran.steps, "seconds": ran.seconds}
        for kind, state in (("trained", ran.trained), ("kept", ran.kept)):
            data = None if state is None else state_bytes(state, course.mask)
            if data is not None:
                write(self._path(name, f"{kind}.safetensors"), data)
            content[kind] = None if data is None else hashlib.sha256(data).hexdigest()
        write_json(self._path(name, "json"), content)

    def _path(self, name: str, suffix: str) -> Path:
        return self.root / "tickets" / name[:2] / f"{name}.{suffix}"

    def _read(self, name: str, kind: str, sha256: str | None) -> bytes | None:
        if sha256 is None:
            return None
        path = self._path(name, f"{kind}.safetensors")
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ValueError(f"{path.name} is gone") from error
        except OSError as error:
            raise refusal("read", path, error) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"{path.name} is truncated or altered")
        return data
