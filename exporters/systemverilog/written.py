"""How a folder of SystemVerilog was written, as its files tell."""

from __future__ import annotations

import re
from pathlib import Path

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.options import WrittenAs
from icsnn_deploy.exporters.testvectors.options import VectorOptions

_VERSION = re.compile(r"written by icsnn-deploy (\S+)\.\n")
_SAMPLES = re.compile(r"^    localparam int SAMPLES = ([1-9][0-9]{0,2});$", re.MULTILINE)
_HEAD = 2**12  # characters


def written_as(path: Path) -> WrittenAs:
    """The version that wrote a folder, and the samples of its test bench.

    Raises:
        ExportError: a file can't be read.
    """
    version = _VERSION.search(_head(path / "network.sv"))
    samples = _SAMPLES.search(_head(path / "network_tb.sv"))
    return WrittenAs(
        version=None if version is None else version[1],
        options=None if samples is None else VectorOptions(samples=int(samples[1])),
    )


def _head(path: Path) -> str:
    try:
        with path.open(errors="replace") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise ExportError(f"{path}: can't be read ({error}); export it again") from error
