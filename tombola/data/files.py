"""Where data files are looked for, how they are verified, and how missing ones are downloaded."""

from __future__ import annotations

import hashlib
import os
import queue
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from tombola.errors import DataError

__all__ = ["PublicFile", "data_folder", "fetch", "open_url", "unreadable", "verify"]

ENVIRONMENT = "TOMBOLA_DATA"
DEFAULT = "data"
WAIT_SECONDS = 8.0  # in all, for a first answer of the servers that have one file

_BLOCK = 1 << 18


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicFile:
    """A file as its publishers made it: its name, md5 (hex) and size in bytes."""

    name: str
    md5: str
    size: int


class _FetchError(Exception):
    """A server that could not be reached, or that sent something else than the file."""


def data_folder(data_dir: str | Path | None = None) -> Path:
    """The absolute folder with all data sets: `data_dir`, else the variable TOMBOLA_DATA, else ./data.

    Raises DataError where a folder that was named does not exist; ./data is made when something is downloaded.
    """
    named = data_dir if data_dir is not None else os.environ.get(ENVIRONMENT) or None
    if named is None:
        return Path(DEFAULT).absolute()
    folder = Path(named).expanduser().absolute()
    if not folder.is_dir():
        what = "is not a directory" if folder.exists() else "does not exist"
        how = "the data directory" if data_dir is not None else f"the data directory named by {ENVIRONMENT}"
        raise DataError(f"{how} {folder} {what}. Make it, or name the directory that holds the data sets.")
    return folder


def verify(path: Path, public: PublicFile) -> bool:
    """True if `path` is the public file, False if there is no such file.

    Raises DataError where it is truncated, altered or unreadable.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unreadable(path, error) from None
    if (size, md5) != (public.size, public.md5):
        raise DataError(
            f"{path} has {size:,} bytes and md5 {md5}; expected {public.size:,} bytes and md5 {public.md5}. "
            "It is truncated or altered: delete it to have it downloaded again, or put the original there."
        )
    return True


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for a file that exists and cannot be read or decoded."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return DataError(f"{path} cannot be read: {reason}. Check its rights, or replace it by the original file.")


def fetch(
    label: str,
    folder: Path,
    files: Sequence[PublicFile],
    urls: Sequence[str],
    *,
    quiet: bool = False,
    instead: str = "",
) -> None:
    """Download `files` into `folder`; each appears there whole and verified, or not at all.

    `urls` are base addresses that end in "/", tried in turn; `instead` is one more way out for the error message.

    Raises DataError where a file cannot be had or written; files that were finished before stay.
    """
    for done, public in enumerate(files):
        reasons = []
        for base in urls:
            try:
                _fetch_one(base + public.name, folder, public, WAIT_SECONDS / len(urls), quiet)
                break
            except _FetchError as error:
                reasons.append(f"{base}{public.name}: {error}")
        else:
            missing = [file.name for file in files[done:]]
            raise DataError(
                f"{label}: {', '.join(missing)} not found in {folder}, and the download failed "
                f"({'; '.join(reasons)}). Put {'it' if len(missing) == 1 else 'them'} into that folder{instead}, "
                f"or name another data directory (--data-dir or {ENVIRONMENT})."
            )


def open_url(url: str, seconds: float) -> IO[bytes]:
    """Open `url` for reading, or raise OSError within `seconds`, the look-up of the server's name included."""
    from urllib.request import Request, urlopen

    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urlopen(Request(url, headers={"User-Agent": "tombola"}), timeout=seconds))
        except Exception as error:
            answers.put(error)

    # urllib's own timeout holds for each address of a server and leaves the name look-up out
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if isinstance(answer, Exception):
        if hasattr(answer, "close"):
            answer.close()
        raise answer
    response: IO[bytes] = answer
    return response


def _fetch_one(url: str, folder: Path, public: PublicFile, seconds: float, quiet: bool) -> None:
    """Download one file to a temporary name, verify it and rename it."""
    try:
        response = open_url(url, seconds)
    except (OSError, HTTPException, ValueError) as error:
        raise _FetchError(str(getattr(error, "reason", error))) from None
    temporary = folder / f".{public.name}.{os.getpid()}.{secrets.token_hex(4)}.part"
    try:
        with response, _progress(public, quiet) as advance:
            folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                md5 = _copy(response, file, public.size, advance)
        if md5 != public.md5:
            raise _FetchError(f"what came has md5 {md5}, expected {public.md5}; it was not kept")
        temporary.replace(folder / public.name)
    except OSError as error:
        raise DataError(
            f"{public.name} was not found, and {folder} cannot be written to: {error.strerror or error}. "
            f"Change its rights, or name another data directory (--data-dir or {ENVIRONMENT})."
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _copy(response: IO[bytes], file: IO[bytes], size: int, advance: Callable[[int], None]) -> str:
    """Copy a response into a file, at most one block more than `size` bytes; returns the md5 of what came."""
    digest = hashlib.md5(usedforsecurity=False)
    count = 0
    while count <= size:
        try:
            block = response.read(_BLOCK)
        except (OSError, HTTPException) as error:
            raise _FetchError(f"the connection broke after {count:,} of {size:,} bytes ({error})") from None
        if not block:
            break
        file.write(block)
        digest.update(block)
        count += len(block)
        advance(len(block))
    return digest.hexdigest()


@contextmanager
def _progress(public: PublicFile, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr where somebody looks at it; yields the function that moves it by a number of bytes."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(public.name, total=public.size)
        yield lambda count: bar.update(task, advance=count)
