"""Run the ONNX files of a host part as a program on the host does: their own inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from icsnn_deploy.backends.onnx.extra_outputs import Tap
from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.onnx.onnxruntime_session import RunOptions, RuntimeSession
from icsnn_deploy.backends.onnx.step_loop import run_steps
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.exporters.onnx.contract import LOGITS, raw_spikes_name, tensor_name
from icsnn_deploy.exporters.onnx.read import read
from icsnn_deploy.graph.arrangement import pack_inputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array


class HostFileSimulator:
    """Runs a file that was written with raw_spikes, on ONNX Runtime.

    Spikes and rates are the file's own outputs. Potentials, which it does not have, are computed
    by OnnxRuntimeSimulator.

    Args:
        path: the file, of any layout.

    Raises:
        ExportError: the file is damaged, or the runtime can't run it.
        BackendUnavailableError: ONNX Runtime is missing.
    """

    gives_logits_t = False
    cuts_batches = False

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        self._file = read(path)
        self._session = RuntimeSession(self._file, self._file.data, RunOptions())

    @property
    def populations(self) -> tuple[str, ...]:
        """Names of the populations in the file."""
        return tuple(self._file.metadata.populations)

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        """Run a batch [B, *shape] and record it."""
        names = self.populations
        potentials = {}
        if record.potentials:
            wanted = Record(spikes=False, potentials=record.potentials)
            potentials = dict(OnnxRuntimeSimulator(self._path).run(inputs, wanted).potentials)
        if self._file.metadata.layout == "step":
            taps = {("s", name): _own_spikes(name) for name in names}
            found = run_steps(self._file, self._session, self._session, inputs, taps)
            logits, spikes = found[LOGITS, ""], [found["s", name] for name in names]
        else:
            outputs = [LOGITS, *(raw_spikes_name(name) for name in names)]
            logits, *spikes = self._session.run(outputs, self._file.feed(inputs))
        return Recording(
            backend=self.name,
            logits=logits,
            spikes=dict(zip(names, spikes, strict=True)),
            potentials=potentials,
        ).only(record)


class JoinedSimulator:
    """Runs a host part, then the chip part on its spikes: together the whole network.

    Args:
        name: of the recordings.
        host: runs the host part.
        populations: names of the host's populations.
        chip: runs the chip part.
    """

    gives_logits_t = True
    cuts_batches = False

    def __init__(
        self, name: str, host: Simulator, populations: Sequence[str], chip: ChipSimulator
    ) -> None:
        self.name = name
        self._host, self._populations, self._chip = host, frozenset(populations), chip

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        """Run a batch [B, *shape] and record every population of the whole network."""
        of_host = record.potentials & self._populations
        host = self._host.run(inputs, Record(potentials=of_host))
        wanted = Record(logits_t=record.logits_t, potentials=record.potentials - of_host)
        rest = self._chip.run(pack_inputs(self._chip.graph, host.spikes), wanted)
        return Recording(
            backend=self.name,
            logits=rest.logits,
            spikes={**host.spikes, **rest.spikes},
            logits_t=rest.logits_t,
            potentials={**host.potentials, **rest.potentials},
        ).only(record)


class ChipSimulator:
    """Runs a chip part on the reference simulator; the same spikes again are not run again."""

    def __init__(self, chip: Graph) -> None:
        self.graph = chip
        self._simulator = ReferenceSimulator(chip)
        self._last: tuple[Array, Record, Recording] | None = None

    def run(self, spikes: Array, record: Record) -> Recording:
        """Run a batch [T, B, *shape]; see ReferenceSimulator."""
        if self._last is not None:
            known, wanted, recording = self._last
            if wanted == record and np.array_equal(known, spikes):
                return recording
        recording = self._simulator.run(spikes, record)
        self._last = (spikes, record, recording)
        return recording


def _own_spikes(population: str) -> Tap:
    """An output that a step file with raw_spikes has itself."""
    return Tap(tensor=tensor_name(population, "spikes"), role="spikes")
