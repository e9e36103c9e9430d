"""How a NIR file was written, as its metadata tells."""

from __future__ import annotations

from pathlib import Path

from icsnn_deploy.errors import ExportError, GraphError
from icsnn_deploy.exporters.nir.metadata import KEY, load
from icsnn_deploy.exporters.nir.read.hdf5_contents import read_string
from icsnn_deploy.exporters.options import WrittenAs


def written_as(path: Path) -> WrittenAs:
    """The version that wrote a file; profile and encoding are those of the format.

    Raises:
        ExportError: it can't be read, or this package did not write it.
    """
    text = read_string(path, (f"node/metadata/{KEY}", f"metadata/{KEY}"))
    try:
        header = load({KEY: text}, "the graph")
    except GraphError as error:
        raise ExportError(f"{path}: {error}; export it again") from error
    version = header.get("version")
    return WrittenAs(version=version if isinstance(version, str) else None)
