"""Files that are whole or not there at all, and locks that the kernel frees."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tombola.errors import StoreError

__all__ = ["checked_json", "locked", "read_json", "refusal", "replace", "shared", "sweep", "write", "write_json"]

_REASONS = {
    errno.ENOSPC: "the disk is full; make room (`tombola gc` may help) and run the same command again",
    errno.EDQUOT: "the disk quota is used up; make room and run the same command again",
    errno.EROFS: "the file system is read-only; choose another place with --store",
    errno.EACCES: "permission denied; choose another place with --store",
    errno.ENOTDIR: "a part of the path is a file; choose another place with --store",
}


def refusal(action: str, path: Path, error: OSError) -> StoreError:
    """The error that says in one line why the store could not be used."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return StoreError(f"The store cannot {action} {path}: {reason}.")


def replace(path: Path, data: bytes) -> None:
    """Write to a temporary name (process number and random bits), flush to disk, rename: all of it or nothing.

    Raises:
        OSError: full disk, read-only directory, ...
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write(path: Path, data: bytes) -> None:
    """`replace` for a file of the store, whose folder is made where it is not there.

    Raises:
        StoreError: full disk, read-only directory, ...
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data)
    except OSError as error:
        raise refusal("write", path, error) from error


def _checksum(content: dict[str, Any]) -> str:
    body = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with a checksum of itself under `sha256`."""
    write(path, json.dumps({**content, "sha256": _checksum(content)}, sort_keys=True).encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file written by `write_json`; None where there is no file.

    Raises:
        ValueError: truncated or altered.
        StoreError: it cannot be read at all.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refusal("read", path, error) from error
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ValueError("truncated or altered") from error
    return checked_json(content)


def checked_json(content: object) -> dict[str, Any]:
    """The object itself if its checksum is right; else `ValueError`."""
    if not isinstance(content, dict) or content.get("sha256") != _checksum(content):
        raise ValueError("the checksum does not fit the content")
    return content


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the operating system's lock on `path`, without waiting; yields whether it was got.

    The kernel frees it when the process ends, however it ends. The file is removed by the holder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise refusal("lock", path, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # Another process may have removed the name between our open and our lock: then this lock guards nothing.
        try:
            held = path.stat().st_ino == os.fstat(handle).st_ino
        except FileNotFoundError:
            held = False
        try:
            yield held
        finally:
            if held:
                path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove lock files that nobody holds: a process that is killed leaves its own behind, no harm, but litter."""
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        with locked(path):
            pass


@contextlib.contextmanager
def shared(path: Path, *, exclusive: bool) -> Iterator[bool]:
    """Hold a shared or exclusive lock on an existing file; yields whether it was got (a shared one is waited for)."""
    while True:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, (fcntl.LOCK_EX | fcntl.LOCK_NB) if exclusive else fcntl.LOCK_SH)
            except BlockingIOError:
                yield False
                return
            # Two processes that make a store at the same time replace each other's file: lock the one that stayed.
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield True
                return
