"""Which version wrote golden spikes, as their README tells."""

from __future__ import annotations

import re
from pathlib import Path

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.options import WrittenAs

_VERSION = re.compile(r"^Written by icsnn-deploy (\S+):", re.MULTILINE)
_HEAD = 2**10  # characters


def written_as(path: Path) -> WrittenAs:
    """The version that wrote a folder of golden spikes.

    Raises:
        ExportError: README.md can't be read.
    """
    page = path / "README.md"
    try:
        with page.open(errors="replace") as file:
            version = _VERSION.search(file.read(_HEAD))
    except OSError as error:
        raise ExportError(f"{page}: can't be read ({error}); export it again") from error
    return WrittenAs(version=None if version is None else version[1])
