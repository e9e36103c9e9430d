"""Images as a network with a normalization takes them: uint8 pixels, channels first.

The order of axes is told here, by one rule, for files and arrays: is_channels_last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array

if TYPE_CHECKING:
    from icsnn_deploy.data import Normalization


_IMAGES = 4  # axes of images, [N, C, H, W] or [N, H, W, C]


def channels_first(images: Array, axis: int = 1) -> Array:
    """Move the channels from the last axis to `axis`: [N, H, W, C] -> [N, C, H, W]."""
    if images.ndim <= axis + 1:
        return images  # [N, C] has no other axis
    return np.ascontiguousarray(np.moveaxis(images, -1, axis))


def is_channels_last(
    spec: str,
    shape: tuple[int, ...],
    normalization: Normalization | None,
    channels_last: bool | None,
    own: Sequence[int] | None = None,
) -> bool:
    """Whether the channels of samples are their last axis: the one rule for files and arrays.

    1. What the user says (--channels-last, --channels-first, channels_last=) counts.
    2. Of a network's samples, the order counts in which they have the shape that it takes, if only
       one of the two has it. What was said when the model was converted need not be said again.
    3. Of images [N, ., ., .] with a normalization, the axis is the channel that has as many entries
       as the normalization has values: the second or the last.
    4. All others are as the model takes them, [N, C, *positions].

    Args:
        spec: what the samples are, the beginning of messages.
        shape: of the samples.
        normalization: of pixels; None where the network takes other numbers.
        channels_last: what the user says; None where nothing is said.
        own: shape of one sample that the network takes, [C, *positions]; None before there is one.

    Raises:
        DataError: both axes of images fit, and nothing is said.
    """
    if channels_last is not None:
        return channels_last
    sample = tuple(shape[1:])
    if own is not None and sample:
        as_it_is, moved = (each == tuple(own) for each in (sample, (sample[-1], *sample[:-1])))
        if as_it_is != moved:
            return moved
    if normalization is None or len(shape) != _IMAGES:
        return False
    channels = len(normalization.mean)
    second, last = shape[1] == channels, shape[3] == channels
    if second and last and shape[1:] != (1, 1, 1):
        raise DataError(
            f"{spec}: images {list(shape)} of {channels} channels, which may be the second axis or "
            "the last; say which with --channels-first or --channels-last (channels_last=False or "
            "True)"
        )
    return last and not second


def check_images(
    spec: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    normalization: Normalization | None,
    channels_last: bool,
) -> None:
    """Raise DataError unless an array of this shape and dtype can hold images for as_samples."""
    if normalization is None:
        if dtype.kind != "f":
            raise DataError(
                f"{spec}: dtype {dtype}; float samples in the form that the model takes are "
                "needed. For uint8 images give --mean and --std when converting; integers in the "
                "units of a network are read from the samples.safetensors of its bundle alone"
            )
        return
    if (dtype != np.uint8 and dtype.kind != "f") or len(shape) != _IMAGES:
        raise DataError(
            f"{spec}: {dtype} {list(shape)}; with a mean and a std, images [N, C, H, W] or "
            "[N, H, W, C] are needed, uint8 or floats in 0..1"
        )
    channels = len(normalization.mean)
    own, other = (shape[3], shape[1]) if channels_last else (shape[1], shape[3])
    if own != channels:
        said = "--channels-last" if channels_last else "--channels-first"
        remedy = f"; leave {said} out, which names the other axis" if other == channels else ""
        raise DataError(
            f"{spec}: {dtype} {list(shape)}; images [N, C, H, W] or [N, H, W, C] are needed, with "
            f"C = {channels} channels as mean and std have{remedy}"
        )


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
