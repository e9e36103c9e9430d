"""Turn a plan into the processes and wires of one Lava run.

`copies` images run at the same time (the first axis of every port), and `periods` such groups one
after the other. Ports have the network's shapes, or are flat if Lava's own connections are used.
The input, populations and output keep their names; the names of all other processes hold a slash,
which no node's name does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Population
from icsnn_deploy.lava.batched import batched
from icsnn_deploy.lava.netlist import Netlist, Process, Tag, Transforms, Wire
from icsnn_deploy.lava.plan import Connection, LavaPlan
from icsnn_deploy.lava.stock import MESSAGE_BITS, Entries, diagonal, sparse_parts, stock_parts

_GATE = "bias gate/"

READOUT_FILE = "readout"

LIF_UNIT = 64
"""Lava's fixed-point LIF shifts its input by six bits."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """The arithmetic of a run, and whether its processes are this package's or Lava's."""

    tag: Tag
    neurons: Literal["soft-reset", "lif"]  # this package's (hard reset included), or Lava's LIF
    connections: Literal["batched", "stock"]  # this package's, or Lava's Dense, Conv and Sparse


def assemble(
    plan: LavaPlan,
    style: Style,
    inputs: Array,
    copies: int,
    potentials: frozenset[str] = frozenset(),
) -> Netlist:
    """Build the netlist that runs the inputs.

    Args:
        plan: of the network.
        style: of the run. Lava's LIF can't be reset to v_init: with it B is at most `copies`.
        inputs: [B, *shape], or [T, B, *shape] for rate and event input.
        copies: images that run at the same time; the last group is padded with zeros.
        potentials: populations whose u is recorded.
    """
    timed = plan.graph.input.is_timed
    images = inputs.shape[1] if timed else inputs.shape[0]
    assembly = _Assembly(plan, style, copies, -(-images // copies))
    assembly.add_source(inputs, timed)
    for target in plan.offsets:
        if target != plan.graph.input.name:
            assembly.add_target(target)
    for number, population in enumerate(plan.graph.nodes_of(Population)):
        assembly.record(population.name, number, population.name in potentials)
    return assembly.netlist()


class _Assembly:
    """Collects the processes and wires of a netlist."""

    def __init__(self, plan: LavaPlan, style: Style, copies: int, periods: int) -> None:
        self._plan, self._graph, self._style = plan, plan.graph, style
        self._copies, self._periods = copies, periods
        self._kind = np.int32 if style.tag == "fixed_pt" else np.float64
        self._processes: dict[str, Process] = {}
        self._wires: list[Wire] = []
        self._spikes: dict[str, str] = {}
        self._potentials: dict[str, str] = {}

    def netlist(self) -> Netlist:
        return Netlist(
            tag=self._style.tag,
            steps=self._periods * self._graph.steps + self._plan.latency,
            copies=self._copies,
            processes=tuple(self._processes.values()),
            wires=tuple(self._wires),
            readout=READOUT_FILE,
            spikes=self._spikes,
            potentials=self._potentials,
        )

    def add_source(self, inputs: Array, timed: bool) -> None:
        """Add the input, padded with zeros and split into periods."""
        axis = 1 if timed else 0
        missing = self._copies * self._periods - inputs.shape[axis]
        widths = [(0, missing if number == axis else 0) for number in range(inputs.ndim)]
        data = np.pad(inputs, widths)
        shape = self._graph.input.shape
        if timed:  # [T, P B, ...] -> [P, T, B, ...]
            steps = self._graph.steps
            data = data.reshape(steps, self._periods, self._copies, *shape).swapaxes(0, 1)
        name = self._graph.input.name
        data = data.reshape(-1, *self._shape(name)).astype(self._kind)
        hold = 1 if timed else self._graph.steps
        self._add("source", name, {"hold": hold}, {"data": data})

    def add_target(self, name: str) -> None:
        """Add a population or the output, with its incoming connections."""
        node = self._graph.node(name)
        if not isinstance(node, IF):  # check_range refuses other populations
            self._add_readout(name)
        elif self._style.neurons == "soft-reset":
            self._add_population(node)
        else:
            self._add_lif(node)
        for connection in self._plan.incoming(name):
            self._connect(connection)

    def record(self, population: str, number: int, potentials: bool) -> None:
        """Record the spikes of a population, and its u if `potentials`."""
        offset = self._plan.offsets[population]
        shape = list(self._shape(population))
        file = self._spikes[population] = f"spikes-{number}"
        recorder = f"spikes/{population}"
        options = {"shape": shape, "offset": offset, "file": file}
        self._add("spike-recorder", recorder, options)
        self._wire(population, recorder)
        if potentials:
            file = self._potentials[population] = f"potentials-{number}"
            options = {"process": population, "var": "u", "offset": offset, "file": file}
            self._add("var-recorder", f"u/{population}", options)

    def _shape(self, name: str) -> tuple[int, ...]:
        """Shape of the port of an input, population or output."""
        shape = (self._copies, *self._graph.shape(name))
        return (int(np.prod(shape)),) if self._style.connections == "stock" else shape

    def _spread(self, name: str, values: Array) -> Array:
        """Values of a population's neurons in the shape of its port, or broadcastable to it."""
        if self._style.connections == "batched":
            return values.astype(self._kind)
        one = np.broadcast_to(values, self._graph.shape(name)).ravel()
        return np.tile(one, self._copies).astype(self._kind)

    def _add(
        self,
        kind: str,
        name: str,
        options: dict[str, Any] | None = None,
        arrays: dict[str, Array] | None = None,
    ) -> None:
        self._processes[name] = Process(
            kind=kind, name=name, options=options or {}, arrays=arrays or {}
        )

    def _wire(self, source: str, target: str, transforms: Transforms = ()) -> None:
        self._wires.append(Wire(source=source, target=target, transforms=transforms))

    def _add_readout(self, name: str) -> None:
        options = {
            "shape": list(self._shape(name)),
            "offset": self._plan.offsets[name],
            "file": READOUT_FILE,
        }
        self._add("readout", name, options, {"bias": self._spread(name, self._plan.bias[name])})

    def _add_population(self, node: IF) -> None:
        down = np.floor if self._style.tag == "fixed_pt" else np.asarray
        options = {
            "shape": list(self._shape(node.name)),
            "offset": self._plan.offsets[node.name],
            "period": self._graph.steps,
        }
        arrays = {
            "v_threshold": self._spread(node.name, node.v_threshold),
            "v_init": self._spread(node.name, down(node.v_init)),
            "bias": self._spread(node.name, self._plan.bias[node.name]),
        }
        kind = "soft-reset-if"
        if node.v_reset is not None:
            kind = "hard-reset-if"
            arrays["v_reset"] = self._spread(node.name, down(node.v_reset))
        self._add(kind, node.name, options, arrays)

    def _add_lif(self, node: IF) -> None:
        """Add a population as Lava's LIF, with u as the potential: u has no decay, and v is u.

        A connection to itself of weight -v_threshold resets it one step after the spike, before u
        is compared again. LIF has one threshold for all neurons, so potentials are shifted by the
        difference v_max - v_threshold. It fires above its threshold, so for integers that is one
        less. The bias arrives through its own connection, from a gate that is 1 while images run.
        """
        fixed = self._style.tag == "fixed_pt"
        shape = self._graph.shape(node.name)
        v_threshold = np.broadcast_to(node.v_threshold, shape).astype(np.float64)
        highest = float(v_threshold.max())
        u = np.broadcast_to(node.v_init, shape) + (highest - v_threshold)
        options: dict[str, Any] = {"shape": list(self._shape(node.name))}
        if fixed:  # LIF's potentials are in units of 1/64 of its input; du + 1 and dv are of 4096
            u = LIF_UNIT * np.floor(u)
            options |= {"vth": int(highest) - 1, "du": -1, "dv": 4096}
        else:
            options |= {"vth": highest, "du": 0.0, "dv": 1.0}
        self._add("lif", node.name, options, {"u": self._spread(node.name, u)})
        reset = diagonal(-v_threshold.ravel())
        self._add_parts(f"reset/{node.name}", node.name, node.name, reset, self._copies)
        bias = self._plan.bias[node.name]
        if bias.any():
            self._open_gate(node.name, np.tile(bias.ravel(), self._copies))

    def _open_gate(self, target: str, bias: Array) -> None:
        """Send a constant into a target during the steps in which its images run."""
        if _GATE not in self._processes:
            lines = np.zeros((self._graph.steps + self._plan.latency, len(self._plan.offsets)))
            for line, offset in enumerate(self._plan.offsets.values()):
                lines[max(offset - 1, 0) : offset - 1 + self._graph.steps, line] = 1
            self._add("source", _GATE, {"hold": 1}, {"data": lines.astype(self._kind)})
        matrix = Entries(
            shape=(len(bias), len(self._plan.offsets)),
            row=np.arange(len(bias)),
            column=np.full(len(bias), list(self._plan.offsets).index(target)),
            value=bias,
        )
        self._add_parts(f"bias/{target}", _GATE, target, matrix, 1)

    def _add_parts(self, name: str, source: str, target: str, matrix: Entries, copies: int) -> None:
        for part in sparse_parts(name, matrix, copies, self._style.tag):
            self._processes[part.process.name] = part.process
            self._wire(source, part.process.name)
            self._wire(part.process.name, target)

    def _connect(self, connection: Connection) -> None:
        source = self._delayed(connection)
        graded = self._is_graded(connection)
        if self._style.connections == "batched":
            process = batched(connection, self._copies, self._style.tag, steady=graded)
            self._processes[process.name] = process
            self._wire(source, process.name)
            self._wire(process.name, connection.target)
            return
        for part in stock_parts(connection, self._copies, self._style.tag, graded):
            self._processes[part.process.name] = part.process
            self._wire(source, part.process.name, part.before)
            self._wire(part.process.name, connection.target, part.after)

    def _delayed(self, connection: Connection) -> str:
        """Name of the process that sends a connection's source, delayed as the plan says."""
        if connection.delay == 0:
            return connection.source
        if self._style.neurons == "lif":
            return self._delayed_by_lava(connection)
        name = f"delay/{connection.source}/{connection.delay}"
        if name not in self._processes:
            options = {"shape": list(self._shape(connection.source)), "delay": connection.delay}
            self._add("delay-line", name, options)
            self._wire(connection.source, name)
        return name

    def _delayed_by_lava(self, connection: Connection) -> str:
        """The same by Sparse connections of weight one, each of which delays by one step."""
        bits = MESSAGE_BITS if self._is_graded(connection) else 0
        identity = diagonal(np.ones(int(np.prod(connection.shape_in))))
        last = connection.source
        for step in range(1, connection.delay + 1):
            name = f"delay/{connection.source}/{step}"
            (part,) = sparse_parts(name, identity, self._copies, self._style.tag, bits)
            if part.process.name not in self._processes:
                self._processes[part.process.name] = part.process
                self._wire(last, part.process.name)
            last = part.process.name
        return last

    def _is_graded(self, connection: Connection) -> bool:
        """Whether the source sends numbers that are the same at every step, not spikes."""
        source = self._graph.input
        return connection.source == source.name and not source.is_timed
