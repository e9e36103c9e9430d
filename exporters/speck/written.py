"""How a configuration of Speck was written, as its description tells."""

from __future__ import annotations

from pathlib import Path

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.options import WrittenAs
from icsnn_deploy.outside_json import parse_json

_PRODUCER = "icsnn-deploy "
_MOST_BYTES = 2**27


def written_as(path: Path) -> WrittenAs:
    """The version that wrote a folder; raises ExportError if network.json can't be read."""
    return WrittenAs(version=str(read(path / "network.json")["producer"]).removeprefix(_PRODUCER))


def read(file: Path) -> dict[str, object]:
    """The object in a JSON file of the export; raises ExportError if it can't be read."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ExportError(f"{file}: more than {_MOST_BYTES} bytes; export it again")
        content = parse_json(file.read_bytes())
        producer = content["producer"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ExportError(f"{file}: can't be read ({error}); export it again") from error
    if not isinstance(content, dict) or not isinstance(producer, str):
        raise ExportError(f"{file}: no description of a network; export it again")
    return content
