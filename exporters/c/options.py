"""Options of the C program."""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.c.prefix import ALLOWED, USUAL
from icsnn_deploy.exporters.options import ExportOptions

LARGEST_LIMIT = 2**40


@dataclass(frozen=True, kw_only=True)
class COptions(ExportOptions):
    """Options of format c.

    Args:
        ram_limit: bytes of RAM that the state may take; None: any.
        flash_limit: bytes of constants in flash; None: any.
        prefix: what names begin with, in upper case those of macros.
        golden: samples in the program's own test, at most.
    """

    ram_limit: int | None = None
    flash_limit: int | None = None
    golden: int = 4
    prefix: str = USUAL

    def __post_init__(self) -> None:
        for name, value in (("ram_limit", self.ram_limit), ("flash_limit", self.flash_limit)):
            if value is not None and not 0 < value <= LARGEST_LIMIT:
                raise ExportError(f"{name} {value}: a number of bytes > 0 is needed")
        if not ALLOWED.fullmatch(self.prefix):
            raise ExportError(
                f"prefix {self.prefix!r}: a lower-case letter, then up to 30 lower-case letters, "
                "digits and underscores are needed"
            )
        if self.golden < 1:
            raise ExportError(f"golden {self.golden}: at least 1 sample is needed")
