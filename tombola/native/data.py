"""A data set as the compiled kernels read it, made once for all trainings on it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tombola.errors import DataError
from tombola.native.layout import Array, CExamples
from tombola.training.sets import Examples, Sets

if TYPE_CHECKING:
    from tombola.native.kernels import Opened

__all__ = ["Source", "View", "source_of", "view"]

_SAMPLE = 4096  # examples whose zeros are counted


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """A structure and the arrays that it points into."""

    structure: CExamples
    arrays: dict[str, Array] = field(default_factory=dict)

    def add(self, arrays: dict[str, Array]) -> None:
        """Let the fields of these names point to the arrays."""
        for name, array in arrays.items():
            setattr(self.structure, name, array.ctypes.data)
        self.arrays.update(arrays)


def view(arrays: dict[str, Array], *, count: int, features: int) -> View:
    """The structure of these arrays, by the names of its fields."""
    made = View(structure=CExamples(count=count, features=features))
    made.add(arrays)
    return made


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Source:
    """Training, validation and test examples for the kernels.

    Args:
        sets: what they are views of.
        order: column of a tile -> feature, those that are most often 0 last; or, for images, as they are.
        ink: share of the inputs that are not 0.
        packed: whether the inputs are bytes under one affine map.
        held, tiles: what is made so far of each set of examples.
    """

    sets: Sets
    order: Array
    ink: float
    packed: bool
    held: dict[int, View] = field(default_factory=dict)
    tiles: dict[int, Array] = field(default_factory=dict)

    @property
    def features(self) -> int:
        """Inputs of an example."""
        return len(self.order)

    def examples(self, examples: Examples, opened: Opened) -> CExamples:
        """The structure of one of the three sets, with all that this network reads.

        Raises:
            DataError: a label that is no class.
        """
        if id(examples) not in self.held:
            self.held[id(examples)] = self.view(examples)
        view = self.held[id(examples)]
        if opened.layout.forms[0].format == "ink" and "ink_start" not in view.arrays:
            view.add(opened.ink(view.structure))
        return view.structure

    def view(self, examples: Examples) -> View:
        """Any examples of this kind, for a call or two."""
        arrays = dict(self._inputs(examples.x))
        if self.sets.classes:
            low, high = (int(examples.y.min()), int(examples.y.max())) if len(examples) else (0, 0)
            if not 0 <= low <= high < self.sets.classes:
                raise DataError(f"The labels run from {low} to {high}; expected 0 to {self.sets.classes - 1}.")
            arrays["labels"] = examples.y.to(torch.int32).numpy()
        else:
            arrays["targets"] = np.ascontiguousarray(examples.y.reshape(len(examples), -1).to(torch.float32).numpy())
        return view(arrays, count=len(examples), features=self.features)

    def _inputs(self, x: Tensor) -> Iterator[tuple[str, Array]]:
        flat = x.flatten(1)
        if flat.dtype == torch.uint8:
            yield "bytes", np.ascontiguousarray(flat.numpy())
        else:
            yield "numbers", np.ascontiguousarray(flat.to(torch.float32).numpy())
        if not self.packed:
            affine = self.sets.affine
            for name, values in (("scale", affine.scale), ("shift", affine.shift)):
                yield name, np.repeat(np.array(values, np.float32), self.features // len(values))

    def tiled(self, examples: Examples, opened: Opened) -> Array | None:
        """The examples transposed, for networks that read bytes tile by tile; None where that saves nothing."""
        if not self.packed or opened.layout.forms[0].format == "ink":
            return None
        if id(examples) not in self.tiles:
            self.tiles[id(examples)] = opened.pack(self.examples(examples, opened))
        return self.tiles[id(examples)]

    def index(self, index: Tensor) -> Array:
        """Places of examples as the kernels take them."""
        return index.to(torch.int32).numpy()


@functools.lru_cache(maxsize=4)
def source_of(sets: Sets, *, images: bool = False) -> Source:
    """The source of a prepared data set, for networks that begin with a convolution or with none; the last are kept."""
    sample = sets.train.x[sets.train_index[:_SAMPLE]].flatten(1) != 0
    often = sample.sum(0).numpy()
    order: npt.NDArray[np.int32] = np.argsort(-often, kind="stable").astype(np.int32)
    packed = sets.train.x.dtype == torch.uint8 and len(sets.affine.scale) == 1
    ink = float(often.sum()) / max(1, sample.numel())
    if images:
        order, ink = np.arange(len(order), dtype=np.int32), 1.0
    return Source(sets=sets, order=order, ink=ink, packed=packed)
