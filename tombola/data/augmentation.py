"""Augmentation of whole batches of images, with noise that can be replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tombola.errors import UsageError
from tombola.registry import Entry, chosen

if TYPE_CHECKING:
    from torch import Tensor

    from tombola.streams import Key

__all__ = ["AUGMENTATIONS", "Augmentation", "FlipCrop", "augmentation_of", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FlipCrop:
    """Each image is moved by up to `pad` pixels in both directions, and half of them are mirrored.

    With u of shape (3, n) from the counter hash of the step: image i is padded by `pad` zeros on each side and cut to
    its size again at row floor(u[0, i] (2 pad + 1)) and column floor(u[1, i] (2 pad + 1)); it is mirrored left to right
    if `flip` and u[2, i] < 1/2. Zeros are raw values, before normalisation. He et al. (2016, arXiv 1512.03385) pad by
    4 and flip too. They draw from a generator, we from a hash of (seed, step, image): every step can be replayed.

    Args:
        pad: pixels, 0 or more; 0: images stay where they are.
        flip: mirror half of the images.

    Raises:
        UsageError: nothing is left to be done, or `pad` is no whole number.
    """

    pad: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.pad, int) or isinstance(self.pad, bool) or self.pad < 0:
            raise UsageError(f"pad is {self.pad!r}; expected a whole number of pixels, 0 or more.")
        if not (self.pad or self.flip):
            raise UsageError("pad is 0 and flip is false, so nothing would be done; use augment none.")

    def __call__(self, x: Tensor, key: Key | Tensor) -> Tensor:
        """A new batch of the shape and dtype of `x`: (n, channels, height, width).

        >>> import torch
        >>> from tombola.streams import key
        >>> images = torch.arange(32, dtype=torch.uint8).view(2, 1, 4, 4)
        >>> FlipCrop(pad=1)(images, key(0, "augment", 7)).shape
        torch.Size([2, 1, 4, 4])
        """
        import torch
        from torch.nn import functional as F

        from tombola.streams import uniform

        down, right, mirror = uniform(key, (3, len(x)), x.device)
        if self.pad:
            places = 2 * self.pad + 1
            windows = F.pad(x, (self.pad,) * 4).unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)
            each = torch.arange(len(x), device=x.device)
            x = windows[each, :, (down * places).long(), (right * places).long()]
        if self.flip:
            x = torch.where((mirror < 0.5).view(-1, 1, 1, 1), x.flip(3), x)
        return x


def none(x: Tensor, key: Key | Tensor) -> Tensor:
    """The images as they are."""
    return x


AUGMENTATIONS: dict[str, Entry] = {
    "none": Entry(home="tombola.data.augmentation:none", summary="examples as they are"),
    "flip-crop": Entry(
        home="tombola.data.augmentation:FlipCrop",
        summary="images moved by up to pad=4 pixels, half of them mirrored (flip=false: none)",
        source="He et al. 2016, arXiv 1512.03385",
    ),
}
"""What `--augment` takes."""

Augmentation = Callable[["Tensor", "Key | Tensor"], "Tensor"]
"""(examples as they are stored, the key of a step's noise) -> as many examples of the same shape and dtype."""


def augmentation_of(text: str, input_shape: tuple[int, ...]) -> Augmentation:
    """The augmentation that a training names.

    Args:
        input_shape: of an example.

    Raises:
        UsageError: an unknown name or option, or examples that are no images.

    >>> augmentation_of("flip-crop:pad=2", (3, 32, 32))
    FlipCrop(pad=2, flip=True)
    """
    made: Augmentation = chosen(text, AUGMENTATIONS, "augment")
    if isinstance(made, FlipCrop) and len(input_shape) != 3:
        raise UsageError(
            f"augment {text!r} moves and mirrors images of shape (channels, height, width), and an example has the "
            f"shape {input_shape}; use augment none."
        )
    return made
