"""A user's own network: a factory named by its import path."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from tombola.errors import UsageError, suggest
from tombola.streams import seeded

__all__ = ["build_imported", "import_factory", "source_digest"]

Factory = Callable[[], nn.Module]


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def import_factory(path: str) -> Factory:
    """The callable at `package.module:name`; modules beside the working directory are found too.

    Raises:
        UsageError: the path has no colon, the module cannot be imported, or the name is missing or not callable.

    >>> import_factory("torch.nn:Identity")().training
    True
    """
    module_name, colon, name = path.partition(":")
    if not (colon and module_name and name):
        raise UsageError(f"The model path {path!r} is not of the form package.module:factory.")
    try:
        with _working_directory_importable():
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises while it is imported
        raise UsageError(f"The model {path!r} cannot be imported: {_where(error)}{_meant(path)}") from error
    factory = getattr(module, name, None)
    if factory is None:
        raise UsageError(f"{module_name!r} has no {name!r}. {suggest(name, [n for n in dir(module) if n[0] != '_'])}")
    if not callable(factory):
        raise UsageError(f"{path!r} is a {type(factory).__name__}; expected a function or class that returns a module.")
    return factory  # type: ignore[no-any-return]


def build_imported(path: str, factory: Factory, seed: int) -> nn.Module:
    """Call a user's factory with torch's, numpy's and Python's generators set from `seed`, and put back afterwards.

    Raises:
        UsageError: the factory raises, or returns something that is no module.
    """
    try:
        with seeded(seed), _working_directory_importable():
            model = factory()
    except (Exception, SystemExit) as error:  # whatever the user's factory raises
        raise UsageError(f"The model {path!r} failed when it was called without arguments: {_where(error)}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"The model {path!r} returned a {type(model).__name__}; expected a torch.nn.Module.")
    return model


def source_digest(factory: Factory) -> str:
    """SHA-256 of the file in which `factory` is defined, so that edited code is another network.

    Files that it imports in turn are not looked at.
    """
    try:
        file = inspect.getsourcefile(factory)
    except TypeError:  # a callable object: its class has the source
        file = inspect.getsourcefile(type(factory))
    if file is None or not Path(file).is_file():
        raise UsageError(f"The source of {factory!r} cannot be found, so its results could not be told apart.")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _meant(path: str) -> str:
    """The module in the working directory that a mistyped path may mean."""
    module, _, name = path.partition(":")
    stem = module.removesuffix(".py").replace("/", ".")
    near = difflib.get_close_matches(stem, [file.stem for file in Path.cwd().glob("*.py")], n=1)
    meant = f"{near[0] if near else stem}:{name}"
    return f". Did you mean {meant!r}?" if (near or stem != module) and meant != path else ""


def _where(error: BaseException) -> str:
    """What was raised, and the line of the user's code where it was."""
    ours = {__file__, importlib.__file__}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename not in ours and f.filename[0] != "<"]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
