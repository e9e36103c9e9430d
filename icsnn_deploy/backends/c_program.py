"""The backend c: the C program that was exported, compiled on this machine and run in this process.

The files of the export are compiled with a runner that feeds them a batch. They are code that runs
in this process, so that they have to be what the exporter writes for the network.
"""

from __future__ import annotations

import ctypes
import math
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from icsnn_deploy import native
from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import BackendUnavailableError, ExportError
from icsnn_deploy.exporters.c.parameters import Parameter
from icsnn_deploy.exporters.c.prefix import prefix_of, renamed
from icsnn_deploy.exporters.c.write import program_of
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Population
from icsnn_deploy.native.build import compile_library, find_compiler, missing_compiler
from icsnn_deploy.native.threads import in_reported_threads, usual_threads

_COMPILE_LIMIT_S = 600.0
_FLAGS = ("-DICSNN_HOST", "-O2", "-ftree-vectorize")  # gcc's -O3 unrolls, and is 15 % slower
_CACHE_LINE = 64
_WEIGHTS = "weights.c"
MOST_COUNTED = 255
"""Steps: the runner counts spikes in bytes, and with more it needs all spikes."""


def open_c(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Compile and open the bundle's C program; see backends.Opener."""
    return CSimulator(bundle.network(), backend.file_in(bundle))


class _Job(ctypes.Structure):
    """icsnn_job of native/c_runner.c."""

    _fields_ = (
        ("batch", ctypes.c_int64),
        ("inputs", ctypes.c_void_p),
        ("spikes", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("potentials", ctypes.c_void_p),
        ("logits", ctypes.c_void_p),
    )


class CSimulator:
    """Runs an exported C program, sample by sample.

    Args:
        graph: the network that it was exported from.
        folder: of the program; None: what the exporter would write is compiled.
        threads: samples that are run at once; None: OMP_NUM_THREADS, or the cores of this process.

    Raises:
        BackendUnavailableError: no C compiler, or it fails.
        ExportError: the files are not what this version writes for the network.
    """

    name = "c"
    gives_logits_t = True
    cuts_batches = True

    def __init__(
        self, graph: Graph, folder: Path | None = None, *, threads: int | None = None
    ) -> None:
        self.graph = graph
        self.threads = threads or usual_threads()
        texts, arrays = program_of(graph)
        if folder is not None:
            _check_files(texts, arrays, folder)
        self._library = _compiled(texts, arrays, "the network" if folder is None else str(folder))
        self._library.icsnn_state_bytes.restype = ctypes.c_int64
        self._library.icsnn_events_size.restype = ctypes.c_int64
        self._free: list[tuple[Array, Array]] = []  # states that no thread uses
        self._run = self._library.icsnn_run_samples
        self._run.restype = None

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        graph = self.graph
        x = _channels_last(check_inputs(graph, inputs), len(graph.input.shape))
        if graph.input.is_timed:
            x = x.astype(np.uint8, copy=False)  # spikes; the runner reads bytes
        batch = x.shape[graph.input.batch_axis]
        lead = (graph.steps, batch)
        populations = graph.nodes_of(Population)
        shapes = [graph.shape(node.name) for node in populations]
        counted = record.counts and graph.steps <= MOST_COUNTED
        needed = record.spikes or record.first_spikes or (record.counts and not counted)
        # Potentials before the reset are computed from those after it and the spikes.
        known = [
            isinstance(node, IF) and node.v_reset is None and node.name in record.potentials
            for node in populations
        ]
        needed = needed or any(known)
        spikes = [np.zeros((*lead, *s), np.uint8) for s in shapes] if needed else []
        counts = [np.zeros((batch, *s), np.uint8) for s in shapes] if counted else []
        v = [
            np.zeros((*lead, *s), np.int32) if wanted else None
            for s, wanted in zip(shapes, known, strict=True)
        ]
        out = graph.shape(graph.output.name)
        sums = np.zeros((*lead, int(np.prod(out[1:])), out[0]), np.int32)
        self._record(x, batch, spikes, counts, v if any(known) else [], sums)
        names = [node.name for node in populations]
        logits_t = self._logits(sums)
        potentials = {
            node.name: after + node.v_threshold.astype(np.int64) * fired + 0.5
            for node, after, fired in zip(populations, v, spikes, strict=bool(needed))
            if after is not None
        }
        return Recording(
            backend=self.name,
            logits=logits_t[-1],
            spikes=dict(zip(names, spikes, strict=False)),
            counts={n: c.astype(np.int32) for n, c in zip(names, counts, strict=False)},
            logits_t=logits_t,
            potentials=potentials,
        ).only(record)

    def _record(
        self,
        x: Array,
        batch: int,
        spikes: Sequence[Array],
        counts: Sequence[Array],
        v: Sequence[Array | None],
        sums: Array,
    ) -> None:
        """Run all samples; fills the arrays, each [T, B, ...] or, of counts, [B, ...]."""
        tables = [_pointers(arrays) for arrays in (spikes, counts, v)]
        pointers = [None if table is None else ctypes.addressof(table) for table in tables]
        job = _Job(batch, x.ctypes.data, *pointers, sums.ctypes.data)
        size = int(self._library.icsnn_state_bytes())
        events_size = int(self._library.icsnn_events_size())

        def run(first: int, last: int) -> None:
            state, events = (
                self._free.pop()
                if self._free
                else (
                    _aligned(size),
                    np.empty(events_size, np.uint32),
                )
            )
            self._run(
                ctypes.c_void_p(state.ctypes.data),
                ctypes.byref(job),
                ctypes.c_void_p(events.ctypes.data),
                ctypes.c_int64(first),
                ctypes.c_int64(last),
            )
            self._free.append((state, events))

        keep = (x, spikes, counts, v, sums, tables)
        in_reported_threads(run, batch, self.threads, "samples on c", keep=keep)

    def _logits(self, sums: Array) -> Array:
        """Running means [T, B, *output shape] of sums [T, B, P, C]."""
        steps, batch = sums.shape[:2]
        shape = self.graph.shape(self.graph.output.name)
        first = np.ascontiguousarray(np.moveaxis(sums, -1, 2)).reshape(steps, batch, *shape)
        count = np.maximum(np.arange(1, steps + 1) - self.graph.readout_start, 1)
        means: Array = first.astype(np.int64) / count.reshape(-1, *(1,) * (first.ndim - 1))
        return means


def _check_files(texts: Mapping[str, str], arrays: Sequence[Parameter], folder: Path) -> None:
    """Raise ExportError for any other code than that of the texts, under whatever prefix."""
    files = {}
    for name in texts:
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise ExportError(f"{folder / name}: can't be read ({error})") from error
    prefix = prefix_of(files["network.h"].decode(errors="replace"))
    for name, text in renamed(texts, arrays, prefix).items():
        if files[name] != text.encode():
            raise ExportError(
                f"{folder / name}: not what this version of icsnn-deploy writes for the network; "
                "it is not run. Export the program again"
            )


def _compiled(texts: Mapping[str, str], arrays: Sequence[Parameter], what: str) -> ctypes.CDLL:
    """The library of a program.

    Compilers take seconds for a large weights.c, so that it is replaced by the same arrays without
    values, which are copied into the library.
    """
    compiler = find_compiler()
    if compiler is None:
        raise BackendUnavailableError(f"backend c: {missing_compiler()}")
    try:
        runner = Path(native.__file__).with_name("c_runner.c")
        files = {name: text.encode() for name, text in texts.items()}
        sources = {**files, runner.name: runner.read_bytes(), _WEIGHTS: _room_for(arrays)}
        flags = (*_FLAGS, "-fno-common")
        library = compile_library(
            "program", sources, compiler, flags=flags, limit_s=_COMPILE_LIMIT_S
        )
        for each in arrays:
            values = np.ascontiguousarray(each.host_values)
            place = (ctypes.c_char * values.nbytes).in_dll(library, each.name)
            ctypes.memmove(place, values.ctypes.data, values.nbytes)
        return library
    except subprocess.CalledProcessError as error:
        text = error.stderr.decode(errors="replace").strip()[:500]
        text = text or f"it ended with {error.returncode} and said nothing"
        raise BackendUnavailableError(
            f"backend c: {' '.join(compiler)} can't compile {what}: {text}"
        ) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise BackendUnavailableError(f"backend c: {what}: {error}") from error


def _room_for(arrays: Sequence[Parameter]) -> bytes:
    """C code that defines the arrays of weights.c without their values."""
    lines = [f"{each.host_values.dtype}_t {each.name}[{each.values.size}];" for each in arrays]
    return "\n".join(["#include <stdint.h>", *lines, ""]).encode()


def _aligned(size: int) -> Array:
    """Bytes that start at a cache line, uint8 [size]."""
    room = np.empty(size + _CACHE_LINE, np.uint8)
    start = -room.ctypes.data % _CACHE_LINE
    return room[start : start + size]


def _channels_last(x: Array, rank: int) -> Array:
    """[..., C, *rest] -> [..., P, C], contiguous; rank is that of one sample."""
    lead = x.shape[: x.ndim - rank]
    channels, *rest = x.shape[len(lead) :]
    split = x.reshape(*lead, channels, math.prod(rest))
    return np.ascontiguousarray(np.moveaxis(split, -2, -1))


def _pointers(arrays: Sequence[Array | None]) -> ctypes.Array[ctypes.c_void_p] | None:
    if not arrays:
        return None
    addresses = [None if array is None else array.ctypes.data for array in arrays]
    return (ctypes.c_void_p * len(addresses))(*addresses)
