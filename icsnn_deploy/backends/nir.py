"""NIR backend: a NIR file that this package wrote, read back and run by the reference simulator."""

from __future__ import annotations

import os
from dataclasses import replace

from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.exporters.nir.read.file import read_graph
from icsnn_deploy.graph.neuron import Array


def open_nir(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's NIR file; see backends.Opener."""
    return NirSimulator(backend.file_in(bundle))


class NirSimulator:
    """Reads a NIR file that this package wrote, and runs it on the reference simulator."""

    name = "nir"
    gives_logits_t = True
    cuts_batches = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.graph = read_graph(path)

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        return replace(ReferenceSimulator(self.graph).run(inputs, record), backend=self.name)
