"""What users name by an import path: `package.module:name`."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tombola.errors import UsageError, suggest

__all__ = ["import_path", "where", "working_directory_importable"]


@contextmanager
def working_directory_importable() -> Iterator[None]:
    """Modules beside the working directory can be imported."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def import_path(path: str, what: str = "model", form: str = "factory") -> Any:
    """The object at `package.module:name`; modules beside the working directory are found too.

    Args:
        what, form: how errors name it.

    Raises:
        UsageError: the path has no colon, the module cannot be imported, or the name is missing.

    >>> import_path("math:sqrt")(9)
    3.0
    """
    module_name, colon, name = path.partition(":")
    if not (colon and module_name and name):
        raise UsageError(f"The {what} path {path!r} is not of the form package.module:{form}.")
    try:
        with working_directory_importable():
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises while it is imported
        raise UsageError(f"The {what} {path!r} cannot be imported: {where(error)}{_meant(path)}") from error
    if not hasattr(module, name):
        raise UsageError(f"{module_name!r} has no {name!r}. {suggest(name, [n for n in dir(module) if n[0] != '_'])}")
    return getattr(module, name)


def _meant(path: str) -> str:
    """The module in the working directory that a mistyped path may mean."""
    module, _, name = path.partition(":")
    stem = module.removesuffix(".py").replace("/", ".")
    near = difflib.get_close_matches(stem, [file.stem for file in Path.cwd().glob("*.py")], n=1)
    meant = f"{near[0] if near else stem}:{name}"
    return f". Did you mean {meant!r}?" if (near or stem != module) and meant != path else ""


def where(error: BaseException) -> str:
    """What was raised, and the line of the user's code where it was."""
    ours = (str(Path(__file__).parent), str(importlib.__file__), "<")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
