"""The network that a ticket file belongs to, and the shape of what it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from tombola.commands.arguments import flag
from tombola.errors import UsageError
from tombola.tickets.plain import printable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tombola.tickets.reading import Sealed

__all__ = ["InputShape", "ModelPath", "builder", "example_of", "shape_of", "sizes_in"]

ModelPath = Annotated[
    str,
    flag("a network of your own, package.module:factory.", metavar="MODEL", default="(default: the one in the file)"),
]
InputShape = Annotated[str, flag("of one example: 1,28,28.", metavar="SHAPE", default="(default: the one in the file)")]

_LARGEST = 1 << 26  # numbers in one example that a file may ask for


def builder(file: str, path: str, sealed: Sealed) -> Callable[[int], nn.Module]:
    """What makes the network from a seed: the user's factory at `path`, or a registered network that the file names.

    Raises:
        UsageError: neither is there, or it cannot be built.
    """
    if path:
        from tombola.models.imported import build_imported, import_factory

        factory = import_factory(path)
        return lambda seed: build_imported(path, factory, seed)
    from tombola.tickets.seed import NamedModel

    note = sealed.start.model or sealed.metadata.get("network")
    if not isinstance(note, Mapping):
        recipe: Any = sealed.metadata.get("recipe")
        name = recipe.get("model") if isinstance(recipe, Mapping) else sealed.start.build
        of = f" It was found with {printable(str(name), 60)}." if name else ""
        raise UsageError(
            f"{printable(file)} does not say how its network is built; name what builds it: "
            f"--model package.module:factory.{of}"
        )
    with sealed.named():
        build = NamedModel.from_note(note, sum(entry.count for entry in sealed.entries), len(sealed.entries))

    def named(seed: int) -> nn.Module:
        with sealed.named():
            return build(seed)

    return named


def example_of(shape: tuple[int, ...], batch: int, *, normal: bool = False) -> Tensor:
    """A batch of made-up examples: uniform in [0, 1), or normal.

    Raises:
        UsageError: there is no memory for it.
    """
    import torch

    make = torch.randn if normal else torch.rand
    try:
        return make(batch, *shape, generator=torch.Generator().manual_seed(0))
    except (RuntimeError, MemoryError) as error:
        raise UsageError(f"No memory for {batch:,} examples of shape {shape}; use a smaller --batch.") from error


def sizes_in(text: str) -> tuple[int, ...]:
    """`1,28,28` as numbers; empty where nothing is given.

    Raises:
        UsageError: it is something else.
    """
    parts = text.split(",") if text else []
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise UsageError(f"--input-shape is {text!r}; expected the sizes of one example with commas between: 1,28,28.")
    return tuple(map(int, parts))


def shape_of(file: str, text: str, sealed: Sealed) -> tuple[int, ...]:
    """The shape of one example: `1,28,28` as given, else what the file tells.

    Raises:
        UsageError: neither makes sense.
    """
    network = sealed.start.model or sealed.metadata.get("network")
    note = network if isinstance(network, Mapping) else sealed.metadata
    sizes = note.get("input_shape")
    good = isinstance(sizes, list) and bool(sizes) and all(type(size) is int and size > 0 for size in sizes)
    told = tuple(sizes) if isinstance(sizes, list) and good and math.prod(sizes) <= _LARGEST else ()
    shape = sizes_in(text) or told
    if not shape:
        raise UsageError(
            f"{printable(file)} does not say what its network is given; name the shape of one example: "
            f"--input-shape 1,28,28."
        )
    return shape
