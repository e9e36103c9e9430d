"""How test vectors were written, as their description tells."""

from __future__ import annotations

import json
from pathlib import Path

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.options import WrittenAs
from icsnn_deploy.exporters.testvectors.options import VectorOptions

_PRODUCER = "icsnn-deploy "
_MOST_SAMPLES = 1000
_MOST_BYTES = 2**26


def written_as(path: Path) -> WrittenAs:
    """The version that wrote a folder, and what of the samples it holds.

    Raises:
        ExportError: network.json can't be read.
    """
    file = path / "network.json"
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ExportError(f"{file}: more than {_MOST_BYTES} bytes; export it again")
        index = json.loads(file.read_bytes())
        producer, samples = index["producer"], index["samples"]
        roles = {entry["role"] for entry in index["files"].values()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ExportError(f"{file}: can't be read ({error}); export it again") from error
    known = isinstance(samples, int) and 1 <= samples <= _MOST_SAMPLES
    return WrittenAs(
        version=str(producer).removeprefix(_PRODUCER),
        options=VectorOptions(
            samples=samples if known else VectorOptions().samples,
            spikes_only="v" not in roles,
        ),
    )
