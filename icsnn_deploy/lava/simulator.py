"""Lava backends: the network simulated by Intel's Lava, in a worker process."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Literal

import numpy as np

from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.backends.reference import running_mean
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import BackendUnavailableError, DataError, SimulationError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.lava.assemble import LIF_UNIT, Style, assemble
from icsnn_deploy.lava.environment import find_worker
from icsnn_deploy.lava.launch import LavaResult, run_netlists
from icsnn_deploy.lava.netlist import Netlist
from icsnn_deploy.lava.plan import make_plan
from icsnn_deploy.lava.range import POTENTIAL, SMALL_NETWORK, check_range, matrix_entries
from icsnn_deploy.progress import Progress, report_inner

Connections = Literal["batched", "stock"]
Arithmetic = Literal["float", "fixed"]

DEFAULT_MEMORY = 1 << 30  # bytes for the messages and work arrays of all processes
_COPIES = {"batched": 16, "stock": 8}  # images at the same time; more are no faster
_LIF_COPIES = 32  # more, because each further run of LIF has to start Lava again
_BYTES_PER_ENTRY = 12  # of a matrix, per image: Lava's own connections repeat it for each
_BYTES_PER_VALUE = 48  # of a connection: two slots per channel, windows, potentials
_SHARED_MEMORY = "/dev/shm"


def open_lava(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's network in the variant's arithmetic; see backends.Opener."""
    arithmetic: Arithmetic = "fixed" if backend.variant == "fixed" else "float"
    connections = _connections_of(option)
    return LavaSimulator(bundle.network(), arithmetic=arithmetic, connections=connections)


def open_lava_stock(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's network on Lava's own neurons; see backends.Opener."""
    return LavaSimulator(bundle.network(), arithmetic=_arithmetic_of(option), neurons="lif")


class LavaSimulator:
    """Runs an IF network in Lava.

    Args:
        graph: the network.
        arithmetic: "float" (double precision) or "fixed" (24-bit integers, integer networks only).
        neurons: "soft-reset", this package's processes (hard reset if the network has it), or
            "lif", Lava's own (integer networks with soft reset only).
        connections: "stock", Lava's Dense, Conv and Sparse; or "batched", this package's, which
            are faster and need less memory; default: stock for networks of at most SMALL_NETWORK
            pairs of connected neurons, zero weights included. "lif" needs "stock".
        memory: bytes; bounds the number of images that run at the same time.
        step_limit_s: longest time for one step of Lava; default: launch.step_limit.
        progress: called with the number of steps that are done.

    Raises:
        BackendUnavailableError: Lava's environment is missing; names the command that creates it.
        LatticeError, GraphError: the network does not fit; lists every misfit.
    """

    gives_logits_t = True
    cuts_batches = False

    def __init__(
        self,
        graph: Graph,
        *,
        arithmetic: Arithmetic,
        neurons: Literal["soft-reset", "lif"] = "soft-reset",
        connections: Connections | None = None,
        memory: int = DEFAULT_MEMORY,
        step_limit_s: float | None = None,
        progress: Progress = report_inner,
    ) -> None:
        self._python = find_worker().python
        self.plan = make_plan(graph)
        small = matrix_entries(self.plan) <= SMALL_NETWORK
        self.style = Style(
            tag="fixed_pt" if arithmetic == "fixed" else "floating_pt",
            neurons=neurons,
            connections=connections or ("stock" if small or neurons == "lif" else "batched"),
        )
        check_range(self.plan, self.style)
        self.name = "lava-stock" if neurons == "lif" else f"lava-{arithmetic}"
        self.graph = graph
        self._memory, self._step_limit_s, self._progress = memory, step_limit_s, progress

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        x = check_inputs(self.graph, inputs)
        axis = self.graph.input.batch_axis
        if x.shape[axis] == 0:
            raise DataError("no images: Lava needs at least one")
        netlists = self.netlists(x, record.potentials)
        results = run_netlists(
            self._python, netlists, step_limit_s=self._step_limit_s, progress=self._progress
        )
        return self.recording(results, netlists, x.shape[axis], record)

    def netlists(self, x: Array, potentials: frozenset[str] = frozenset()) -> list[Netlist]:
        """The netlists that run a checked batch."""
        axis = self.graph.input.batch_axis
        images = x.shape[axis]
        copies = min(self._copies(), images)
        step = copies if self.style.neurons == "lif" else images
        parts = [x.take(range(i, min(i + step, images)), axis) for i in range(0, images, step)]
        return [assemble(self.plan, self.style, part, copies, potentials) for part in parts]

    def recording(
        self, results: list[LavaResult], netlists: list[Netlist], images: int, record: Record
    ) -> Recording:
        """Join the results of the worker to a recording of the batch."""
        decoders = [
            _Decoder(self, result, netlist)
            for result, netlist in zip(results, netlists, strict=True)
        ]
        for result in results:
            self._check_overflows(result.overflows)
        names = [node.name for node in self.graph.nodes_of(Population)]
        currents = np.concatenate([d.readout() for d in decoders], axis=1)[:, :images]
        logits_t = running_mean(currents, self.graph.readout_start)
        spikes = {
            name: np.concatenate([d.spikes(name) for d in decoders], axis=1)[:, :images]
            for name in names
            if record.needs_spikes
        }
        potentials = {
            name: np.concatenate([d.potentials(name) for d in decoders], axis=1)[:, :images]
            for name in names
            if name in record.potentials
        }
        return Recording(
            backend=self.name,
            logits=logits_t[-1],
            spikes=spikes,
            logits_t=logits_t,
            potentials=potentials,
        ).only(record)

    def _copies(self) -> int:
        """Number of images at the same time, so that messages and work arrays fit the memory."""
        values = sum(math.prod(c.shape_in) + math.prod(c.shape_out) for c in self.plan.connections)
        messages = _BYTES_PER_VALUE * values
        fitting = min(self._memory, _shared_memory() // 2) // messages
        if self.style.connections == "stock":
            per_image = messages + _BYTES_PER_ENTRY * matrix_entries(self.plan)
            fitting = min(fitting, self._memory // per_image)
        lif = self.style.neurons == "lif"
        limit = _LIF_COPIES if lif else _COPIES[self.style.connections]
        return max(1, min(limit, fitting))

    def _saturates_safely(self, population: str) -> bool:
        """Whether saturating potentials at 24 bits can't change a spike of a population.

        That is so if its current I is the same at every step. If I < v_threshold, no potential
        exceeds max(v_init, v_threshold) + I, which is in range if both are at most half of it. So a
        potential that exceeds the range has I >= v_threshold and fires at every later step, or
        I < 0 and never fires again.
        """
        node = self.graph.node(population)
        if not isinstance(node, Population) or node.inputs[0] not in self.graph.constant_nodes():
            return False
        return bool(max(node.v_threshold.max(), node.v_init.max()) <= POTENTIAL // 2)

    def _check_overflows(self, overflows: Mapping[str, int]) -> None:
        """Raise SimulationError if potentials exceeded 24 bits and a spike may have changed."""
        harmful = {
            name: count
            for name, count in overflows.items()
            if count and not self._saturates_safely(name)
        }
        if harmful:
            listed = ", ".join(f"{name} ({count} times)" for name, count in harmful.items())
            raise SimulationError(
                f"potentials exceeded Loihi's 24 bits in {listed}: the spikes are not those of the "
                "network. Run backend lava-float, or quantize to fewer bits"
            )


def _connections_of(option: str | None) -> Connections | None:
    """The option of backends lava-float and lava-fixed; raises BackendUnavailableError."""
    known: dict[str | None, Connections | None] = {"batched": "batched", "stock": "stock"}
    if option is not None and option not in known:
        raise BackendUnavailableError(
            f"lava-float and lava-fixed: option {option!r}; stock or batched is needed"
        )
    return known.get(option)


def _arithmetic_of(option: str | None) -> Arithmetic:
    """The option of backend lava-stock; raises BackendUnavailableError."""
    known: dict[str | None, Arithmetic] = {None: "float", "float": "float", "fixed": "fixed"}
    if option not in known:
        raise BackendUnavailableError(f"lava-stock: option {option!r}; float or fixed is needed")
    return known[option]


class _Decoder:
    """Reads what one run recorded."""

    def __init__(self, simulator: LavaSimulator, result: LavaResult, netlist: Netlist) -> None:
        self._graph, self._style = simulator.graph, simulator.style
        self._result, self._copies = result, netlist.copies
        self._periods = (netlist.steps - simulator.plan.latency) // self._graph.steps
        self._integer = self._style.tag == "fixed_pt"

    def readout(self) -> Array:
        """Current of the output at each step, int64 or float64 [T, B, *shape]."""
        values = np.frombuffer(self._result.readout, np.int32 if self._integer else np.float64)
        wide = values.astype(np.int64 if self._graph.is_integer else np.float64)
        return self._in_time(self._graph.output.name, wide)

    def spikes(self, name: str) -> Array:
        """Spikes of a population, uint8 [T, B, *shape]."""
        count = self._copies * math.prod(self._graph.shape(name))
        packed = np.frombuffer(self._result.spikes[name], np.uint8).reshape(-1, -(-count // 8))
        return self._in_time(name, np.unpackbits(packed, axis=1, count=count))

    def potentials(self, name: str) -> Array:
        """u of a population in the reference's units, float64 [T, B, *shape]."""
        u = self._in_time(name, np.frombuffer(self._result.potentials[name], np.float64))
        node = self._graph.node(name)
        if self._style.neurons == "lif" and isinstance(node, Population):
            u = u / (LIF_UNIT if self._integer else 1) - (node.v_threshold.max() - node.v_threshold)
        return u + 0.5 if self._integer else u  # v_init was rounded down

    def _in_time(self, name: str, values: Array) -> Array:
        """Reshape rows of steps to [T, B, *shape], without the steps after the last image."""
        steps, shape = self._graph.steps, self._graph.shape(name)
        rows = values.reshape(-1, self._copies, *shape)
        count = self._periods * steps
        if len(rows) < count:
            raise SimulationError(f"{name}: Lava recorded {len(rows)} steps, {count} are needed")
        cut = rows[:count].reshape(self._periods, steps, self._copies, *shape)
        return cut.swapaxes(0, 1).reshape(steps, -1, *shape)


def _shared_memory() -> int:
    """Free bytes of the shared memory that holds Lava's messages."""
    try:
        free = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return 2**63
    return free.f_bavail * free.f_frsize
