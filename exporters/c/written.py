"""How a C program was written, as its files tell."""

from __future__ import annotations

import re
from pathlib import Path

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.c.options import COptions
from icsnn_deploy.exporters.c.prefix import prefix_of
from icsnn_deploy.exporters.options import WrittenAs

_VERSION = re.compile(r"written by icsnn-deploy (\S+)\.\n")
_SAMPLES = re.compile(r"^#define GOLDEN_SAMPLES ([1-9][0-9]{0,2})$", re.MULTILINE)
_HEAD = 2**12  # characters


def written_as(path: Path) -> WrittenAs:
    """The version that wrote a program, and the samples in its test.

    Raises:
        ExportError: a file can't be read.
    """
    header = _head(path / "network.h")
    version, prefix = _VERSION.search(header), prefix_of(header)
    samples = _SAMPLES.search(_head(path / "golden.h"))
    return WrittenAs(
        version=None if version is None else version[1],
        options=None if samples is None else COptions(golden=int(samples[1]), prefix=prefix),
    )


def _head(path: Path) -> str:
    try:
        with path.open(errors="replace") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise ExportError(f"{path}: can't be read ({error}); export it again") from error
