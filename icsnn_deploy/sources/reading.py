"""How samples are read: what the user says of them, and which of them are used."""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.sources.options import ImageSize, SourceOptions
from icsnn_deploy.sources.selection import Selection
from icsnn_deploy.sources.source import ALL

_NOTHING_SAID = SourceOptions()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How, and which, samples are read.

    Args:
        options: what the user says of the samples.
        image_size: that images get where the options do not say.
        selection: which samples are used; their order is changed in images and items alone.
        keep_labels: whether labels are wanted.
        progress: called as samples are read.
    """

    options: SourceOptions = _NOTHING_SAID
    image_size: ImageSize | None = None
    selection: Selection = ALL
    keep_labels: bool = False
    progress: Progress = silent

    @property
    def of_images(self) -> SourceOptions:
        """The options of images: those of the user, otherwise the size that is kept."""
        return self.options.or_size(self.image_size)
