"""A directory of answers. Reading it needs no torch until a state or a mask is asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.answers import Answer, Curve, Interpolated, Mixed, Point, Pruned, Trained
from tombola.errors import StoreError, UsageError, suggest
from tombola.requests import Request
from tombola.specs import canonical
from tombola.store import packing
from tombola.store.files import locked, read_json, refusal, shared, sweep, write, write_json

if TYPE_CHECKING:
    from tombola.masks import Mask
    from tombola.training.checkpoint import Checkpoint
    from tombola.training.state import State

__all__ = ["Damaged", "Store"]

_FORMAT = {"format": "tombola-store", "version": 1}


class Damaged(StoreError):
    """A file of the store is truncated, altered or gone; it has been set aside and can be made again."""


class Store:
    """Answers by request digest, states and masks by content, experiments by identity.

    Args:
        root: the directory.
        create: make it if it is not there; otherwise its absence is an error.
        report: called with one line for each damaged file that is found.

    Raises:
        StoreError: the directory is something else, or cannot be written.
        UsageError: there is no store, and none may be made.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, create: bool = True, report: Callable[[str], None] = lambda line: None
    ) -> None:
        self.root = Path(root)
        self.report = report
        self._sound: set[str] = set()
        found = self._format()
        if found is None:
            if not create:
                raise UsageError(
                    f"There is no store at {self.root}; run an experiment first, or name one with --store."
                )
            found = self._make()
        if found != _FORMAT:
            raise StoreError(f"The store {self.root} has format {found}; this version reads {_FORMAT}.")

    def _format(self) -> dict[str, Any] | None:
        try:
            content = read_json(self.root / "format.json")
        except ValueError as error:
            raise StoreError(
                f"{self.root / 'format.json'} is damaged: {error}; name another store with --store."
            ) from error
        if content is not None:
            content.pop("sha256")
        return content

    def _make(self) -> dict[str, Any]:
        try:
            if self.root.exists() and not self.root.is_dir():
                raise StoreError(f"{self.root} is a file, not a directory; name another place with --store.")
            if self.root.is_dir() and any(
                p.name not in {"locks", "format.json"} and p.name[0] != "." for p in self.root.iterdir()
            ):
                found = self._format()  # another process may have made it just now
                if found is None:
                    raise StoreError(f"{self.root} holds other files and is no store; name another place with --store.")
                return found
        except OSError as error:
            raise refusal("read", self.root, error) from error
        write_json(self.root / "format.json", _FORMAT)
        return _FORMAT

    # --- answers

    def answer_path(self, request: str) -> Path:
        """Where the answer to a request is."""
        return self.root / "answers" / request[:2] / f"{request}.json"

    def get(self, request: str) -> Answer | None:
        """The answer to a request, by its digest; None where there is none, or a damaged one (which is reported)."""
        path = self.answer_path(request)
        try:
            content = read_json(path)
            if content is None:
                return None
            if content["kind"] == "pruned":
                mask, state = self.mask(content["mask"]), content.get("state")
                return Pruned(request=request, mask=mask, seconds=content["seconds"], state=state)
            if content["kind"] == "interpolated":
                return _interpolated(request, content["answer"])
            moved = self.mask(content["mask"]) if "mask" in content else None
            return dataclasses.replace(_trained(request, content["answer"]), mask=moved)
        except (ValueError, KeyError, TypeError) as error:
            self._set_aside(path, str(error))
        except Damaged:
            pass  # reported where it was found; the answer is made again
        return None

    def asked(self, request: str) -> dict[str, Any]:
        """The canonical form (`specs.canonical`) of the request that an answer is to; empty where there is none."""
        try:
            return dict((read_json(self.answer_path(request)) or {}).get("request", {}))
        except ValueError as error:
            self._set_aside(self.answer_path(request), str(error))
        return {}

    def put(self, request: str, asked: Request, answer: Answer) -> None:
        """Write an answer, with the request it belongs to for people to read."""
        content: dict[str, Any] = {"request": canonical(asked)}
        if isinstance(answer, Pruned):
            content |= {"kind": "pruned", "mask": self.keep_mask(answer.mask), "seconds": answer.seconds}
            content |= {} if answer.state is None else {"state": answer.state}
        elif isinstance(answer, Interpolated):
            content |= {"kind": "interpolated", "answer": _without_request(answer)}
        else:
            content |= {"kind": "trained", "answer": _plain(answer)}
            content |= {} if answer.mask is None else {"mask": self.keep_mask(answer.mask)}
        write_json(self.answer_path(request), content)

    # --- objects

    def object_path(self, digest: str) -> Path:
        """Where an object is."""
        return self.root / "objects" / digest[:2] / f"{digest}.safetensors"

    def _put_object(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            write(self.object_path(digest), data)
            self._sound.add(digest)
        return digest

    def _object(self, digest: str) -> bytes:
        path = self.object_path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise Damaged(f"The store has lost {path.name}.") from error
        except OSError as error:
            raise refusal("read", path, error) from error
        if hashlib.sha256(data).hexdigest() != digest:
            self._set_aside(path, "its content does not fit its name")
            raise Damaged(f"The store's {path.name} was damaged.")
        self._sound.add(digest)
        return data

    def _set_aside(self, path: Path, reason: str) -> None:
        self._sound.discard(path.stem)
        with contextlib.suppress(OSError):
            path.replace(path.with_name(f".{path.name}.damaged"))
        self.report(f"the store's {path.relative_to(self.root)} was damaged ({reason}); it is computed again")

    def keep(self, state: State, mask: Mask | None) -> str:
        """Write a state, packed under its mask; returns its digest."""
        if mask is not None:
            self.keep_mask(mask)
        return self._put_object(packing.state_bytes(state, mask))

    def state(self, digest: str) -> State:
        """A state by its digest. Raises `Damaged` where it is gone or altered."""
        return packing.state_from(self._object(digest), self._mask_by_content)

    def has(self, digest: str) -> bool:
        """Whether there is an object of this digest, and a sound one: its content is looked at once, so that damage is
        found before an answer is relied upon."""
        if not self.object_path(digest).exists():
            return False
        if digest not in self._sound:
            with contextlib.suppress(Damaged):  # which says so
                self._object(digest)
        return digest in self._sound

    def keep_mask(self, mask: Mask) -> str:
        """Write a mask; returns the digest of its file."""
        digest = self._put_object(packing.mask_bytes(mask))
        if self._link(mask.digest) is None:
            write_json(self.root / "masks" / f"{mask.digest}.json", {"object": digest})
        return digest

    def has_mask(self, mask: Mask | None) -> bool:
        """Whether states packed under this mask can be read; None, which packs nothing, always."""
        link = self._link(mask.digest) if mask is not None else None
        return mask is None or (link is not None and self.has(link["object"]))

    def mask(self, digest: str) -> Mask:
        """A mask by the digest of its file. Raises `Damaged` where it is gone or altered."""
        return packing.mask_from(self._object(digest))

    def _link(self, mask_digest: str) -> dict[str, Any] | None:
        path = self.root / "masks" / f"{mask_digest}.json"
        try:
            return read_json(path)
        except ValueError as error:
            self._set_aside(path, str(error))
        return None

    def _mask_by_content(self, mask_digest: str) -> Mask:
        link = self._link(mask_digest)
        if link is None:
            raise Damaged(f"The store has lost the mask {mask_digest}.")
        return self.mask(link["object"])

    # --- unfinished requests

    def _checkpoint_path(self, request: str) -> Path:
        return self.root / "checkpoints" / f"{request}.safetensors"

    def save_checkpoint(self, request: str, checkpoint: Checkpoint, states: Mapping[int, str]) -> None:
        """Replace the checkpoint of a request; a checksum guards it as its last 32 bytes."""
        data = packing.checkpoint_bytes(checkpoint, states)
        write(self._checkpoint_path(request), data + hashlib.sha256(data).digest())

    def checkpoint(self, request: str) -> tuple[Checkpoint, dict[int, str]] | None:
        """The last checkpoint of a request and the states kept until then; a damaged one is reported and left out."""
        path = self._checkpoint_path(request)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refusal("read", path, error) from error
        if hashlib.sha256(data[:-32]).digest() != data[-32:]:
            self._set_aside(path, "its checksum does not fit")
            return None
        return packing.checkpoint_from(data[:-32])

    def drop_checkpoint(self, request: str) -> None:
        """Remove the checkpoint of a finished request."""
        self._checkpoint_path(request).unlink(missing_ok=True)

    def lock(self, request: str) -> contextlib.AbstractContextManager[bool]:
        """The lock of a request; yields whether it was got, without waiting."""
        return locked(self.root / "locks" / request)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Use the store beside other runs; garbage collection keeps away meanwhile."""
        with shared(self.root / "format.json", exclusive=False):
            with contextlib.suppress(StoreError):  # a store that may only be read keeps its litter
                sweep(self.root / "locks")
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Use the store while no run does.

        Raises:
            StoreError: a run is using it.
        """
        with shared(self.root / "format.json", exclusive=True) as got:
            if not got:
                raise StoreError(f"A run is using the store {self.root}; wait until it has ended.")
            yield

    # --- experiments

    def put_experiment(self, digest: str, content: Mapping[str, Any]) -> None:
        """Write or replace what an experiment is made of."""
        write_json(self.root / "experiments" / f"{digest}.json", dict(content))

    def noted(self, digest: str) -> dict[str, Any]:
        """What is noted about one experiment; empty where there is nothing, or only damage (which is reported)."""
        path = self.root / "experiments" / f"{digest}.json"
        try:
            return read_json(path) or {}
        except ValueError as error:
            self._set_aside(path, str(error))
            return {}

    def experiments(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(digest, content) of every experiment, oldest first; damaged ones are reported and left out."""
        names = [path.stem for path in (self.root / "experiments").glob("[0-9a-f]*.json")]
        found = [(name, content) for name in names if (content := self.noted(name))]
        yield from sorted(found, key=lambda row: (row[1].get("begun", 0), row[0]))

    def experiment(self, prefix: str) -> tuple[str, dict[str, Any]]:
        """The one experiment whose digest begins with `prefix`.

        Raises:
            UsageError: none or several do.
        """
        every = dict(self.experiments())
        found = [digest for digest in every if digest.startswith(prefix)] if prefix else []
        if len(found) != 1:
            names = suggest(prefix, [digest[:12] for digest in found or every]) if every else "The store has none yet."
            what = "No experiment" if not found else f"{len(found)} experiments"
            raise UsageError(f"{what} in {self.root} begin{'s' * (not found)} with {prefix!r}. {names}")
        return found[0], every[found[0]]


def _without_request(answer: Interpolated) -> dict[str, Any]:
    plain = dataclasses.asdict(answer)
    del plain["request"]
    return plain


def _interpolated(request: str, plain: dict[str, Any]) -> Interpolated:
    lines = {name: tuple(Mixed(**point) for point in plain[name]) for name in ("own", "recomputed")}
    return Interpolated(**{**plain, **lines, "ways": tuple(plain["ways"]), "request": request})


def _plain(answer: Trained) -> dict[str, Any]:
    plain = dataclasses.asdict(dataclasses.replace(answer, mask=None))
    for elsewhere in ("request", "mask"):
        plain.pop(elsewhere)
    if answer.curve.settled:
        plain["settled"] = answer.curve.settled
    plain["curve"] = [dataclasses.astuple(point) for point in answer.curve.points]
    plain["states"] = sorted(answer.states.items())
    return plain


def _trained(request: str, plain: dict[str, Any]) -> Trained:
    names = [field.name for field in dataclasses.fields(Point)]
    points = tuple(Point(**dict(zip(names, row, strict=True))) for row in plain["curve"])
    states = {int(step): digest for step, digest in plain["states"]}
    curve = Curve(points, plain.get("settled", 0))
    rest = {name: value for name, value in plain.items() if name != "settled"}
    return Trained(**{**rest, "request": request, "curve": curve, "states": states})
