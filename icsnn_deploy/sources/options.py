"""How samples are read from a source."""

from __future__ import annotations

from dataclasses import dataclass, replace

from icsnn_deploy.errors import DataError

_FLAGS = {
    "resize": "--resize",
    "crop": "--crop",
    "input_key": "--input-key",
    "label_key": "--label-key",
    "channels_last": "--channels-last",
}


LARGEST_IMAGE = 2**14
"""Largest height and width that images are resized or cropped to."""


@dataclass(frozen=True, kw_only=True)
class ImageSize:
    """What size images get, before they become pixels of a network.

    Args:
        resize: length of the shorter side, or (height, width); bilinear, before crop.
        crop: (height, width) of the center that is kept.
    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How samples are read.

    Args:
        resize: of images: length of the shorter side, or (height, width); bilinear, before crop.
        crop: of images: (height, width) of the center that is kept.
        input_key: of dict batches: the entry that holds the samples.
        label_key: of dict batches: the entry that holds the labels.
        channels_last: whether the last axis of arrays is the channel; None: as
            pixels.is_channels_last finds.
    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    input_key: str | None = None
    label_key: str | None = None
    channels_last: bool | None = None

    @classmethod
    def parse(
        cls,
        *,
        resize: str | None = None,
        crop: str | None = None,
        input_key: str | None = None,
        label_key: str | None = None,
        channels_last: bool | None = None,
    ) -> SourceOptions:
        """Read the options from texts such as "256" and "224,224"; raises DataError."""
        sizes = None if resize is None else _sizes("--resize", resize)
        kept = None if crop is None else _sizes("--crop", crop)
        return cls(
            resize=sizes[0] if sizes and len(sizes) == 1 else sizes,  # type: ignore[arg-type]
            crop=(kept[0], kept[-1]) if kept else None,
            input_key=input_key,
            label_key=label_key,
            channels_last=channels_last,
        )

    @property
    def image_size(self) -> ImageSize | None:
        """What size images get; None where the user does not say."""
        if self.resize is None and self.crop is None:
            return None
        return ImageSize(resize=self.resize, crop=self.crop)

    def or_size(self, kept: ImageSize | None) -> SourceOptions:
        """The options with a size of images that was kept, unless the user gives one."""
        if kept is None or self.image_size is not None:
            return self
        return replace(self, resize=kept.resize, crop=kept.crop)

    def require_only(self, spec: str, what: str, *allowed: str) -> None:
        """Raise DataError where an option is given that samples of this kind do not take.

        Args:
            spec: where the samples are.
            what: their kind, as the message names it.
            allowed: names of the fields that they take.
        """
        given = [name for name in _FLAGS if getattr(self, name) is not None]
        wrong = [_FLAGS[name] for name in given if name not in allowed]
        if wrong:
            takes = ", ".join(_FLAGS[name] for name in allowed) or "none of these options"
            raise DataError(f"{spec}: {', '.join(wrong)} with {what}, which takes {takes}")


def _sizes(flag: str, text: str) -> tuple[int, ...]:
    fields = text.split(",")
    if len(fields) > 2 or not all(
        f.strip().isdecimal() and 0 < int(f) <= LARGEST_IMAGE for f in fields
    ):
        raise DataError(f"{flag} {text}: N or H,W is needed, 1 to {LARGEST_IMAGE} pixels each")
    return tuple(int(field) for field in fields)
