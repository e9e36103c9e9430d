"""A reader as a backend: in this process if it is installed here, else in its environment."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.exporters.nir.read.file import read_graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import report_inner
from icsnn_deploy.readers.environment import environment_of, find_environment
from icsnn_deploy.readers.launch import Request, run_requests
from icsnn_deploy.readers.versions import is_installed


def open_reader(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's NIR file in the reader that the variant names; see backends.Opener."""
    return ReaderSimulator(backend.file_in(bundle), backend.variant)


class ReaderSimulator:
    """Runs a NIR file in another framework, through its module in icsnn_deploy.readers.

    Args:
        path: of a file of profile portable; it is checked before the reader gets it.
        reader: name of the module.

    Raises:
        BackendUnavailableError: the reader is not installed; names the command to run.
        ExportError: the file can't be read, or the reader does not support it.
    """

    gives_logits_t = False
    cuts_batches = False

    def __init__(self, path: str | os.PathLike[str], reader: str) -> None:
        self.name = f"nir:{reader}"
        self._reader = reader
        self._file = Path(path)
        self._python: Path | None = None
        self._loaded: Any = None
        read_graph(self._file)
        if is_installed(reader):
            self._module = importlib.import_module(f"icsnn_deploy.readers.{reader}")
            self._loaded = self._module.load(self._file)
        else:
            self._python = find_environment(environment_of(reader)).python

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        """Run a batch; readers record logits and spikes, no potentials.

        Args:
            inputs: [B, *shape], or [T, B, *shape] for rate and event input.
            record: what to record.
        """
        if self._python is None:
            recording: Recording = self._module.run(self._loaded, inputs)
        else:
            request = Request(reader=self._reader, file=self._file, inputs=inputs)
            (recording,) = run_requests(self._python, [request], progress=report_inner)
        return recording.only(record)
