"""What all commands share: parsing, where the store is, where JSON goes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from tombola.errors import StoreError, UsageError
from tombola.store import Store

__all__ = ["STORE", "ExperimentName", "JsonFile", "StorePath", "check_target", "open_store", "parse", "write_out"]

Kind = TypeVar("Kind")

STORE = Path("tombola-store")
StorePath = Annotated[Path, tyro.conf.arg(metavar="DIR", help="Directory of results.")]
JsonFile = Annotated[str, tyro.conf.arg(metavar="FILE", help="Write the result as JSON too; - is standard output.")]
ExperimentName = Annotated[str, tyro.conf.arg(metavar="EXPERIMENT", help="Digest, or any unique beginning of it.")]


def parse(kind: Callable[..., Kind], arguments: Sequence[str], *, command: str, default: Any = None) -> Kind:
    """The arguments of a command as its dataclass; a mistake ends the process with a message and exit code 2."""
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes)
    extra = {} if default is None else {"default": default}
    found: Kind = tyro.cli(kind, args=list(arguments), prog=f"tombola {command}", config=config, **extra)
    return found


def open_store(root: Path, *, create: bool = False) -> Store:
    """The store at `root`; damaged files are named on standard error as they are found."""
    return Store(root, create=create, report=lambda line: print(f"tombola: {line}", file=sys.stderr))


def check_target(target: str) -> None:
    """Refuse a file that cannot be written, before long work begins.

    Raises:
        UsageError: the target is a directory, or its folder does not exist or may not be written.
    """
    if not target or target == "-":
        return
    path = Path(target)
    if path.is_dir():
        raise UsageError(f"{target} is a directory; name a file.")
    if not path.parent.is_dir():
        raise UsageError(f"The folder of {target} does not exist; make it first.")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"The folder of {target} may not be written.")


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
        return
    path = Path(target)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{target} cannot be written: {error.strerror}.") from error
