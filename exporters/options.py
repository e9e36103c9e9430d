"""The base class of the options of an export format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of one format, or of a family of formats: subclassed in the format's folder.

    An entry of `FORMATS` names the class that its writer takes. Every field needs a default: the
    format is written with them where no options are given.
    """


@dataclass(frozen=True, kw_only=True)
class WrittenAs:
    """How an existing export was written, as the file itself tells.

    Args:
        version: of this package; None where the file does not tell.
        options: that the file was written with; None: the format's defaults.
    """

    version: str | None
    options: ExportOptions | None = None
