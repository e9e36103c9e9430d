"""How a .net file was written, as its description tells."""

from __future__ import annotations

import json
from pathlib import Path

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.netx.write import KEY
from icsnn_deploy.exporters.nir.read.hdf5_contents import read_string
from icsnn_deploy.exporters.options import WrittenAs


def written_as(path: Path) -> WrittenAs:
    """The version that wrote a file; the format has no options.

    Raises:
        ExportError: it can't be read, or this package did not write it.
    """
    try:
        header = json.loads(read_string(path, (KEY,)) or "")
        version = header["version"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ExportError(f"{path}: no {KEY} entry ({error}); export it again") from error
    return WrittenAs(version=version if isinstance(version, str) else None)
