"""Images as a network with a normalization takes them: uint8 pixels, channels first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array

if TYPE_CHECKING:
    from icsnn_deploy.data import Normalization


def channels_first(images: Array, axis: int = 1) -> Array:
    """Move the channels from the last axis to `axis`: [N, H, W, C] -> [N, C, H, W]."""
    if images.ndim <= axis + 1:
        return images  # [N, C] has no other axis
    return np.ascontiguousarray(np.moveaxis(images, -1, axis))


def as_network_samples(spec: str, samples: Array, normalization: Normalization | None) -> Array:
    """Samples as a network takes them: floats with a normalization as pixels (as_pixels)."""
    array = np.asarray(samples)
    if normalization is None or array.dtype.kind != "f":
        return array
    return as_pixels(spec, array)


def as_pixels(spec: str, images: Array) -> Array:
    """Pixels of 8 bits: round(255 x) of floats in 0..1; uint8 stays as it is.

    A network with a normalization takes uint8 pixels, as a camera gives them. Floats are rounded to
    them before anything is measured, so the figures are those of the network that is deployed. What
    was a pixel divided by 255 is that pixel again.

    Raises:
        DataError: floats that are not in 0..1, or integers other than uint8.
    """
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise DataError(
            f"{spec} of type {images.dtype}: with a mean and a std, a normalization, uint8 pixels "
            "or floats in 0..1 are needed"
        )
    pixels = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), 256):  # no copy of all in floats
        part = images[start : start + 256]
        scaled = np.rint(part.astype(np.float32, copy=False) * np.float32(255))
        if not ((scaled >= 0) & (scaled <= 255)).all():  # NaN is neither
            raise DataError(
                f"{spec}: values {part.min():g} to {part.max():g}; with a mean and a std, floats "
                "must be in 0..1, before any normalization. Floats in 0..255 are given as uint8; "
                "of normalized floats leave --mean and --std out when converting"
            )
        pixels[start : start + 256] = scaled
    return pixels
