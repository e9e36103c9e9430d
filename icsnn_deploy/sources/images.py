"""One image as pixels: opened, resized and cropped as torchvision's transforms do."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from icsnn_deploy.errors import BackendUnavailableError, DataError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.sources.options import SourceOptions

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 89_478_485
"""Largest image that is decoded, in pixels: Pillow's own limit, 256 MiB of RGB."""

_TOO_LARGE = f"an image of more than {MAX_PIXELS:,} pixels is not decoded; save a smaller one"

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")
_MODES = {1: "L", 3: "RGB"}
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


def require_pillow(spec: str) -> None:
    """Raise BackendUnavailableError unless Pillow is installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise BackendUnavailableError(
            f"{spec}: images are read with Pillow; run: pip install icsnn-deploy[images]"
        ) from error


def read_image(path: Path, options: SourceOptions, channels: int) -> Array:
    """Read an image file as pixels, uint8 [channels, H, W].

    Raises:
        DataError: not an image, a damaged or a too large one; names the file.
    """
    from PIL import Image

    if not path.is_file():  # a pipe would be waited for
        raise DataError(f"{path}: not a readable image (no regular file); remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            with Image.open(path, formats=_FORMATS) as image:
                _check_size(image, str(path))
                image.load()
                return to_pixels(image, options, channels, str(path))
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {_TOO_LARGE}") from error
    except Exception as error:  # decoders raise nearly any type on a damaged file
        raise DataError(
            f"{path}: not a readable image ({type(error).__name__}: {error}); remove it, or "
            "save it again as PNG or JPEG"
        ) from error


def to_pixels(image: Image, options: SourceOptions, channels: int, name: str) -> Array:
    """Resize, crop and convert an image.

    Gray images become RGB, and RGB images gray, as the network takes them. Alpha is dropped, and
    the orientation that a camera stored is not applied: torchvision does neither in training.

    Args:
        image: of 8 bits per channel.
        options: resize and crop.
        channels: of the network's input, 1 or 3.
        name: of the image, in messages.

    Returns:
        uint8 [channels, H, W].

    Raises:
        DataError: more than 8 bits per channel, or smaller than the crop.
    """
    from PIL.Image import Resampling

    mode = _MODES.get(channels)
    if mode is None:
        raise DataError(
            f"{name}: images are gray or RGB, but the network takes {channels} channels; give "
            "arrays, or a callable that returns them"
        )
    if image.mode in _DEEP:
        raise DataError(
            f"{name}: pixels of more than 8 bits (mode {image.mode}); save it with 8 bits per "
            "channel, or give a callable that returns arrays"
        )
    _check_size(image, name)
    converted = image.convert(mode)
    if options.resize is not None:
        size = _resized(converted.size, options.resize)
        if size[0] * size[1] > MAX_PIXELS:
            raise DataError(f"{name}: {size[0]} x {size[1]} pixels after --resize are too many")
        converted = converted.resize(size, Resampling.BILINEAR)
    if options.crop is not None:
        (height, width), (across, down) = options.crop, converted.size
        if height > down or width > across:
            raise DataError(
                f"{name}: {across} x {down} pixels, smaller than --crop {height},{width}; give "
                "--resize as well"
            )
        # rounded as torchvision's CenterCrop does
        top, left = round((down - height) / 2.0), round((across - width) / 2.0)
        converted = converted.crop((left, top, left + width, top + height))
    pixels = np.array(converted, np.uint8)  # [H, W] or [H, W, 3]
    return pixels[None] if channels == 1 else np.ascontiguousarray(np.moveaxis(pixels, 2, 0))


def _resized(size: tuple[int, int], wanted: int | tuple[int, int]) -> tuple[int, int]:
    """Width and height after resizing."""
    if not isinstance(wanted, int):
        return wanted[1], wanted[0]
    short, long = sorted(size)
    other = max(1, int(wanted * long / short))
    return (wanted, other) if size[0] <= size[1] else (other, wanted)


def _check_size(image: Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{name}: {width} x {height} pixels; {_TOO_LARGE}")
