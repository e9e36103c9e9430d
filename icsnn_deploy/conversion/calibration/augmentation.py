"""Random variants of calibration images.

Distillation asks only that the spiking network answers as the ANN does on the same input, so any
image of the kind that the network will see is a sample; its label plays no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.neuron import Array

_SMALLEST = 16  # pixels per side of images that are shifted
_COLOR_CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How images are varied.

    Args:
        shift: largest shift along each axis, as a share of the size; borders are reflected.
        flip: mirror every other image left to right.

    Raises:
        ConversionError: a shift below 0 or above 0.5.
    """

    shift: float = 0.0
    flip: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.shift <= 0.5:
            raise ConversionError(f"shift {self.shift}: 0 to 0.5 is allowed")

    @classmethod
    def suited_to(cls, shape: tuple[int, ...]) -> Augmentation:
        """Shifts of an eighth for images of 16 pixels or more; flips for those of three channels.

        Args:
            shape: of a sample; anything but [C, H, W] is not varied.
        """
        if len(shape) != 3 or min(shape[1:]) < _SMALLEST:
            return cls()
        return cls(shift=0.125, flip=shape[0] == _COLOR_CHANNELS)

    def vary(self, images: Array, generator: np.random.Generator) -> Array:
        """Images [B, C, H, W], each shifted and flipped by chance."""
        if not (self.shift or self.flip):
            return images
        height, width = images.shape[2:]
        rows = _shifted(height, round(self.shift * height), len(images), generator)
        columns = _shifted(width, round(self.shift * width), len(images), generator)
        if self.flip:
            flipped = generator.random(len(images)) < 0.5
            columns = np.where(flipped[:, None], columns[:, ::-1], columns)
        number = np.arange(len(images))[:, None, None, None]
        channel = np.arange(images.shape[1])[None, :, None, None]
        varied: Array = images[number, channel, rows[:, None, :, None], columns[:, None, None, :]]
        return varied


def _shifted(size: int, most: int, count: int, generator: np.random.Generator) -> Array:
    """Indices of `count` shifted rows [count, size]; beyond the border they are reflected."""
    shift = generator.integers(-most, most + 1, count)
    index = np.abs(np.arange(size)[None, :] + shift[:, None])
    last = size - 1
    reflected: Array = last - np.abs(last - index)
    return reflected
