"""Run an exported ONNX file: the file that is deployed, not the graph that it was written from.

The runtimes differ only in how a serialized model becomes a session; each is in its own file.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

import numpy as np

from icsnn_deploy.backends.onnx.extra_outputs import Tap, taps_of, with_taps
from icsnn_deploy.backends.onnx.proof import is_certified, is_cheap, prove_session
from icsnn_deploy.backends.onnx.session import OpenSession, Session
from icsnn_deploy.backends.onnx.step_loop import run_steps
from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.errors import DataError, ExportError
from icsnn_deploy.exporters.onnx.contract import LOGITS, LOGITS_T
from icsnn_deploy.exporters.onnx.read import OnnxFile, read
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Output
from icsnn_deploy.progress import report_inner

MAX_TENSOR_BYTES = 1 << 30  # of one tensor of a batch


class OnnxFileSimulator:
    """Runs a file that exporters.onnx wrote, in any layout, on a runtime.

    The logits are computed from the file's own bytes. Spikes and potentials, which are not outputs
    of every file, are computed by a second session over the same model with added outputs; for
    float networks a runtime may fuse that one differently.

    Args:
        path: the file.
        runtime: name of the backend; "-step" is added for a one-step file.
        open_session: loads a serialized model of the file.
        batch_size: largest number of samples that are run at a time; fewer if a tensor would take
            more than 1 GiB.
        prove: compare each session with onnx's reference evaluator when it is opened, if the
            file's certificate says that they must be equal (see proof.py); None: only if that takes
            about a second at most.

    Raises:
        DataError: a batch_size below 1.
        ExportError: the file is damaged, hostile, or was not written by this package; or the
            runtime computes it wrongly.
        BackendUnavailableError: the runtime is missing.
    """

    cuts_batches = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        runtime: str,
        open_session: OpenSession,
        *,
        batch_size: int = 32,
        prove: bool | None = None,
    ) -> None:
        if batch_size < 1:
            raise DataError(f"batch_size {batch_size}: at least 1 is needed")
        self.file = read(path)
        self._refuse()
        self.batch_size = max(1, min(batch_size, MAX_TENSOR_BYTES // self.file.sample_bytes))
        self._open_session = open_session
        step = self.file.metadata.layout == "step"
        self.name = f"{runtime}-step" if step else runtime
        self._prove = self._is_proven(prove)
        self._session = self._open(self.file.data, sorted(self.file.outputs))
        self._tapped: dict[frozenset[Tap], Session] = {}
        self._input_graph = _input_graph(self.file)
        self.gives_logits_t = step or LOGITS_T in self.file.outputs

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        """Run a batch from v_init and record it.

        Args:
            inputs: [B, *shape], or [T, B, *shape] for rate and event input.
            record: what to record.

        Raises:
            DataError: inputs that do not fit the network.
            ExportError: logits_t of a file that was exported without it.
        """
        x = check_inputs(self._input_graph, inputs)
        if record.logits_t and not self.gives_logits_t:
            raise ExportError(
                f"{self.file.path}: holds no logits_t; export it with OnnxOptions(logits_t=True)"
            )
        known = self.file.metadata.populations
        whole = _empty_recording(self.name, self.file, record, x.shape[self._batch_axis])
        potentials = [name for name in known if name in record.potentials]
        run = self._run_steps if self.file.metadata.layout == "step" else self._run_all
        batch = x.shape[self._batch_axis]
        for rows, part in self._parts(x):
            report_inner(f"samples on {self.name}", rows.start, batch)
            recording = _recording(self.name, run(part, record, potentials))
            _store(recording.only(record), whole, rows)
        report_inner(f"samples on {self.name}", batch, batch)
        return whole

    def _refuse(self) -> None:
        """Raise ExportError for a file that the runtime is known to run wrongly."""

    @property
    def _batch_axis(self) -> int:
        return self.file.metadata.batch_axis

    def _parts(self, x: Array) -> Iterator[tuple[slice, Array]]:
        """Split the batch into parts of batch_size; yields the rows and the part."""
        for start in range(0, x.shape[self._batch_axis], self.batch_size):
            rows = slice(start, start + self.batch_size)
            part = x[rows] if self._batch_axis == 0 else x[:, rows]
            yield rows, np.ascontiguousarray(part)

    def _run_all(
        self, x: Array, record: Record, potentials: list[str]
    ) -> dict[tuple[str, str], Array]:
        outputs = [LOGITS, *([LOGITS_T] if record.logits_t else [])]
        feed = self.file.feed(x)
        results = self._session.run(outputs, feed)
        values = {(name, ""): value for name, value in zip(outputs, results, strict=True)}
        taps = self._taps(record, potentials)
        if taps:
            flat = [tap for row in taps.values() for tap in row]
            session = self._session_with(frozenset(flat))
            recorded = iter(session.run([tap.output for tap in flat], feed))
            for (role, name), row in taps.items():
                parts = [next(recorded) for _ in row]
                shape = (self.file.metadata.time_steps, -1, *self.file.metadata.populations[name])
                values[role, name] = np.stack(parts).reshape(shape)  # [T, B, *shape]
        return values

    def _run_steps(
        self, x: Array, record: Record, potentials: list[str]
    ) -> dict[tuple[str, str], Array]:
        taps = {key: tap for key, (tap,) in self._taps(record, potentials).items()}
        session = self._session_with(frozenset(taps.values())) if taps else None
        return run_steps(self.file, self._session, session, x, taps)

    def _taps(self, record: Record, potentials: list[str]) -> dict[tuple[str, str], list[Tap]]:
        """The taps for the spikes and potentials that are recorded, by (role, population)."""
        metadata = self.file.metadata
        spiking = list(metadata.populations) if record.needs_spikes else []
        keys = [*(("s", name) for name in spiking), *(("u", name) for name in potentials)]
        return {(role, name): taps_of(metadata, name, role) for role, name in keys}

    def _session_with(self, taps: frozenset[Tap]) -> Session:
        if taps not in self._tapped:
            data = with_taps(self.file.data, taps)
            self._tapped[taps] = self._open(data, sorted(tap.output for tap in taps))
        return self._tapped[taps]

    def _open(self, data: bytes, outputs: list[str]) -> Session:
        """Open a session of the file's model, or of one with added outputs, and prove it."""
        session = self._open_session(self.file, data)
        if self._prove:
            prove_session(self.file, data, session, outputs, self.name)
        return session

    def _is_proven(self, wanted: bool | None) -> bool:
        """Whether sessions are proven."""
        if wanted is False or not is_certified(self.file):
            return False
        return wanted is True or is_cheap(self.file)


def _recording(backend: str, values: dict[tuple[str, str], Array]) -> Recording:
    """The results of a session, by (role, population), as a recording."""
    return Recording(
        backend=backend,
        logits=values[LOGITS, ""],
        spikes={name: value for (role, name), value in values.items() if role == "s"},
        logits_t=values.get((LOGITS_T, "")),
        potentials={name: value for (role, name), value in values.items() if role == "u"},
    )


def _empty_recording(backend: str, file: OnnxFile, record: Record, batch: int) -> Recording:
    """A recording of a whole batch, of zeros, to be filled."""
    steps, shapes = file.metadata.time_steps, file.metadata.populations

    def zeros(names: Collection[str], dtype: type, *first: int) -> dict[str, Array]:
        return {n: np.zeros((*first, *s), dtype) for n, s in shapes.items() if n in names}

    timed = (steps, batch, *file.output_shape)
    return Recording(
        backend=backend,
        logits=np.zeros((batch, *file.output_shape), np.float32),
        spikes=zeros(shapes if record.spikes else (), np.uint8, steps, batch),
        counts=zeros(shapes if record.counts else (), np.int32, batch),
        first_spikes=zeros(shapes if record.first_spikes else (), np.int32, batch),
        logits_t=np.zeros(timed, np.float32) if record.logits_t else None,
        potentials=zeros(record.potentials, np.float32, steps, batch),
    )


def _store(part: Recording, whole: Recording, rows: slice) -> None:
    """Copy the recording of some rows into the recording of the whole batch."""
    whole.logits[rows] = part.logits
    if whole.logits_t is not None:
        whole.logits_t[:, rows] = part.logits_t
    for target, source in ((whole.spikes, part.spikes), (whole.potentials, part.potentials)):
        for name, value in source.items():
            target[name][:, rows] = value
    for target, source in ((whole.counts, part.counts), (whole.first_spikes, part.first_spikes)):
        for name, value in source.items():
            target[name][rows] = value


def _input_graph(file: OnnxFile) -> Graph:
    """A graph of the file's input alone, so that check_inputs can check inputs against it."""
    nodes = (file.input, Output(name="output", inputs=(file.input.name,)))
    return Graph(nodes=nodes, time_steps=file.metadata.time_steps)
