"""What all commands share: parsing, where the store is, where JSON goes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from tombola.commands.mistakes import mistake
from tombola.errors import StoreError, UsageError
from tombola.store import Store

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "STORE",
    "ExperimentName",
    "JsonFile",
    "StorePath",
    "check_store",
    "check_targets",
    "counted",
    "flag",
    "open_console",
    "open_store",
    "parse",
    "write_out",
    "write_whole",
]

Kind = TypeVar("Kind")


def flag(text: str, *, metavar: str | None = None, default: str | None = None) -> Any:
    """How a flag is shown in the help; `default` takes the place of "(default: ...)"."""
    return tyro.conf.arg(help=text, metavar=metavar, help_behavior_hint=default)


STORE = Path("tombola-store")
StorePath = Annotated[Path, flag("directory of results.", metavar="DIR")]
JsonFile = Annotated[str, flag("write the result as JSON too; - is standard output.", metavar="FILE", default="")]
ExperimentName = Annotated[str, flag("digest, or any unique beginning of it.", metavar="EXPERIMENT")]


def parse(kind: type[Kind], arguments: Sequence[str], *, command: str, default: Kind | None = None) -> Kind:
    """The arguments of a command as its dataclass, read by tyro.

    Raises:
        UsageError: what is wrong with them, in one line.
        SystemExit: the help was asked for and printed.
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    extra: dict[str, Any] = {} if default is None else {"default": default}
    wrong = None if {"-h", "--help"} & set(arguments) else mistake(kind, arguments, command)
    if wrong:
        raise UsageError(wrong)
    boxes = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxes):
            found: Kind = tyro.cli(kind, args=list(arguments), prog=f"tombola {command}", config=config, **extra)
            return found
    except SystemExit as end:
        if not end.code:
            raise
        refused = _refused(end)
        if refused is None:
            sys.stderr.write(boxes.getvalue())
            raise
        raise refused from None


def _refused(end: BaseException) -> UsageError | None:
    """What one of our own dataclasses said about a value, and tyro has put into a box."""
    error: BaseException | None = end
    while error is not None and not isinstance(error, UsageError):
        error = error.__context__
    return error


def counted(number: int, word: str) -> str:
    """A number with its word.

    >>> counted(1, "fit"), counted(2000, "fit")
    ('1 fit', '2,000 fits')
    """
    return f"{number:,} {word}{'s' * (number != 1)}"


def check_store(root: Path) -> None:
    """Refuse a place that is something else, before anything is read or written.

    Raises:
        UsageError: a part of the path is a file, or the directory holds other things.
    """
    for place in (root, *root.parents):
        if place.is_file():
            raise UsageError(f"There can be no store at {root}: {place} is a file; name a directory with --store.")
    with contextlib.suppress(OSError):  # what cannot be read is said by `Store`
        others = [p.name for p in root.iterdir() if p.name[0] != "." and p.name not in {"locks", "format.json"}]
        if others and not (root / "format.json").exists():
            raise UsageError(
                f"{root} holds other files ({others[0]}) and is no store; name another directory with --store."
            )


def open_store(root: Path, *, create: bool = False) -> Store:
    """The store at `root`; damaged files are named on standard error as they are found.

    Raises:
        UsageError: there is none and none may be made, or the place is something else.
        StoreError: it cannot be read or written.
    """
    check_store(root)
    return Store(root, create=create, report=lambda line: print(f"tombola: {line}", file=sys.stderr))


def open_console(target: str, *, quiet: bool = False) -> Console:
    """Where people read: standard output, or standard error when JSON goes to the former."""
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # as `print` does: the caller has seen enough

    return Pipe(file=sys.stderr if target == "-" else sys.stdout, quiet=quiet)


def check_targets(*targets: str) -> None:
    """Refuse files that cannot be written, before long work begins.

    Raises:
        UsageError: a target is a directory, its folder does not exist or may not be written, or two are the same.
    """
    named = [Path(target) for target in targets if target and target != "-"]
    for path in named:
        if path.is_dir():
            raise UsageError(f"{path} is a directory; name a file.")
        if not path.parent.is_dir():
            raise UsageError(f"The folder of {path} does not exist; make it first.")
        if not os.access(path if _special(path) else path.parent, os.W_OK):
            raise UsageError(f"{path} cannot be written: its folder is read-only; name a file elsewhere.")
    if len({path.resolve() for path in named}) < len(named) or list(targets).count("-") > 1:
        raise UsageError("Two results cannot go to the same file; give each its own.")


def _special(path: Path) -> bool:
    """A device or pipe, which is written to and never replaced."""
    return path.exists() and not path.is_file()


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        StoreError: full disk, read-only directory, ...
    """
    real = path.resolve()  # behind a link
    part = real if _special(real) else real.with_name(f".{real.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", newline="\n")
        if part != real:
            part.replace(real)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}; name a file elsewhere.") from error
    finally:
        if part != real:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def write_out(target: str, content: Any) -> None:
    """Write text, or anything else as JSON, to a file (whole or not at all), or to standard output for "-".

    Raises:
        StoreError: full disk, read-only directory, ...
    """
    if not target:
        return
    text = content if isinstance(content, str) else json.dumps(content, indent=1, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        write_whole(Path(target), text)
