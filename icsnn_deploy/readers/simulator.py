"""A reader as a backend: in this process where it is installed, else in its environment."""

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
from icsnn_deploy.readers.environment import environment_of, find_environment
from icsnn_deploy.readers.launch import Request, run_requests
from icsnn_deploy.readers.versions import is_here


def open_reader(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's portable NIR file in the reader of the variant; see backends.Opener."""
    return ReaderSimulator(backend.file_in(bundle), backend.variant)


class ReaderSimulator:
    """Runs a NIR file in another framework, through its helper.

    Args:
        path: of a file of profile portable, looked through before the reader gets it.
        reader: name of the helper.

    Raises:
        BackendUnavailableError: the reader is neither here nor set up; names the command.
        ExportError: a file that can't be read, or that the reader can't hold.
    """

    gives_logits_t = False
    cuts_batches = False

    def __init__(self, path: str | os.PathLike[str], reader: str) -> None:
        self.name = f"nir:{reader}"
        self._reader = reader
        self._file = Path(path)
        self._python: Path | None = None
        self._module: Any = None
        read_graph(self._file)
        if is_here(reader):
            self._helper = importlib.import_module(f"icsnn_deploy.readers.{reader}")
            self._module = self._helper.load(self._file)
        else:
            self._python = find_environment(environment_of(reader)).python

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        """Run a batch; readers give logits and spikes, nothing else.

        Args:
            inputs: [B, *shape], or [T, B, *shape] for rate and event input.
            record: what to write down.
        """
        if self._python is None:
            found: Recording = self._helper.run(self._module, inputs)
        else:
            request = Request(reader=self._reader, file=self._file, inputs=inputs)
            (found,) = run_requests(self._python, [request])
        return found.only(record)
