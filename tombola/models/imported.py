"""A user's own network: a factory named by its import path."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

from torch import nn

from tombola.errors import UsageError
from tombola.importing import import_path, where, working_directory_importable
from tombola.streams import seeded

__all__ = ["build_imported", "import_factory", "source_digest"]

Factory = Callable[[], nn.Module]


def import_factory(path: str) -> Factory:
    """The callable at `package.module:name`; modules beside the working directory are found too.

    Raises:
        UsageError: the path has no colon, the module cannot be imported, or the name is missing or not callable.

    >>> import_factory("torch.nn:Identity")().training
    True
    """
    factory = import_path(path)
    if not callable(factory):
        raise UsageError(f"{path!r} is a {type(factory).__name__}; expected a function or class that returns a module.")
    return factory  # type: ignore[no-any-return]


def build_imported(path: str, factory: Factory, seed: int) -> nn.Module:
    """Call a user's factory with torch's, numpy's and Python's generators set from `seed`, and put back afterwards.

    Models of Transformers put out an object of several tensors; a forward hook makes that its `logits`.

    Raises:
        UsageError: the factory raises, or returns something that is no module.
    """
    try:
        with seeded(seed), working_directory_importable():
            model = factory()
    except (Exception, SystemExit) as error:  # whatever the user's factory raises
        raise UsageError(f"The model {path!r} failed when it was called without arguments: {where(error)}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"The model {path!r} returned a {type(model).__name__}; expected a torch.nn.Module.")
    if any(kind.__module__.startswith("transformers.") for kind in type(model).__mro__):
        model.register_forward_hook(_logits)
    return model


def _logits(_: nn.Module, __: object, output: object) -> object:
    """What Transformers' models for classes put out, of all that they return; None leaves an output as it is."""
    return getattr(output, "logits", None)


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
