"""The network as instances of the modules in rtl/, connected by streams, and their memories.

A stream is a map per step, value after value in the order [channel][y][x]. The plan of the C
program has the sums of the network already; here each of its connections becomes an instance:

    if1 ---> conv ---> sum ---> if2              current of a constant source: conv ---> hold
       `---> scale ---'
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from icsnn_deploy.exporters.c.parameters import vectors_of
from icsnn_deploy.exporters.c.plan import Accumulator, Connection, plan_program
from icsnn_deploy.exporters.c.widths import ranges_of
from icsnn_deploy.exporters.systemverilog.limits import check_network
from icsnn_deploy.graph.certificate import certify, signed_bits
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import ChannelAffine, Conv, Linear, Shape


@dataclass(frozen=True)
class TopParameter:
    """A parameter of the top module, in the place of a number."""

    name: str


Value = int | str | TopParameter
STEPS = TopParameter("STEPS")
"""The number of time steps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """A file of $readmemh.

    Args:
        file: its name.
        values: integers, in the order of the addresses.
    """

    file: str
    values: Array

    @property
    def bits(self) -> int:
        """Width of a word in two's complement, the narrowest."""
        return signed_bits(int(self.values.min()), int(self.values.max()))


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Values that move in a clock in which NAME_valid and NAME_ready are high.

    Args:
        name: beginning of its signals' names.
        bits: of a value.
        signed: two's complement.
    """

    name: str
    bits: int
    signed: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Instance:
    """An instance of a module with one stream out.

    Args:
        module: its name.
        name: of the instance.
        sources: streams in; several only for a sum.
        out: stream out.
        parameters: of the module; text becomes a string.
        memories: files that it reads.
        about: one line for a comment.
    """

    module: str
    name: str
    sources: tuple[Stream, ...]
    out: Stream
    parameters: dict[str, Value]
    memories: tuple[Memory, ...] = ()
    about: str = ""

    @property
    def sizes(self) -> dict[str, int]:
        """The parameters that are numbers."""
        return {name: value for name, value in self.parameters.items() if isinstance(value, int)}


@dataclass(kw_only=True, eq=False)
class Design:
    """All instances of a network.

    Args:
        graph: the network.
        input: stream of the input: one map per sample, or one per step of spikes.
        instances: in the order in which the data passes.
        populations: stream of spikes of each population, by the name of its node.
        readers: streams that read a stream, by its name: more than one takes a fork.
    """

    graph: Graph
    input: Stream
    instances: list[Instance] = field(default_factory=list)
    populations: dict[str, Stream] = field(default_factory=dict)
    readers: dict[str, list[str]] = field(default_factory=dict)

    @property
    def output(self) -> Stream:
        """The logits."""
        return self.instances[-1].out

    @property
    def memories(self) -> tuple[Memory, ...]:
        """All files of parameters."""
        return tuple(memory for instance in self.instances for memory in instance.memories)

    def read(self, stream: Stream, reader: str) -> Stream:
        """The stream as one of its readers gets it."""
        self.readers.setdefault(stream.name, []).append(reader)
        return Stream(name=reader, bits=stream.bits, signed=stream.signed)


def plan_design(graph: Graph) -> Design:
    """Plan the instances of an integer network.

    Raises:
        ExportError: lists everything that the format can't hold.
    """
    check_network(graph)
    return _Planner(graph).plan()


class _Planner:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.program = plan_program(graph, windows=False)
        self.ranges = ranges_of(graph)
        self.bounds = {bound.layer: bound for bound in certify(graph).bounds}
        node = graph.input
        limits = np.iinfo(node.dtype)
        stream = Stream(
            name=f"map_{self.program.input.name}",
            bits=1 if node.is_timed else limits.bits,
            signed=not node.is_timed and limits.min < 0,
        )
        self.design = Design(graph=graph, input=stream)
        self.sources = {self.program.input.name: stream}
        self.depth = {self.program.input.name: 0}  # maps on the way from the input

    def plan(self) -> Design:
        for target in self.program.accumulators:
            self._accumulator(target)
        return self.design

    def _accumulator(self, target: Accumulator) -> None:
        bits, shape = self._sum_bits(target), target.shape
        neurons, name = math.prod(shape), target.name
        vectors = {
            what: Memory(file=f"{name}.{what}.hex", values=_channels_first(values))
            for what, values in vectors_of(target).items()
        }
        parts = [*target.constant_connections, *target.connections]
        held = len(target.constant_connections)
        self.depth[name] = 1 + max(self.depth[part.source.name] for part in parts)
        currents = tuple(
            self._connection(target, number, part, bits, hold=number < held)
            for number, part in enumerate(parts)
        )
        bias = vectors["bias"]
        total = Stream(
            name=f"{'map' if target.role == 'values' else 'current'}_{name}",
            bits=bits,
            signed=True,
        )
        self._add(
            "icsnn_sum",
            f"sum_{name}",
            currents,
            total,
            {
                "INPUTS": len(currents),
                "NEURONS": neurons,
                "BITS": bits,
                "BIAS_BITS": bias.bits,
                "BIASES": bias.values.size,
                "BIAS_FILE": bias.file,
            },
            (bias,),
        )
        if target.role == "population":
            total = self._population(target, total, vectors)
        if target.role == "output":
            self._readout(target, total)
        else:
            self.sources[name] = total

    def _population(
        self, target: Accumulator, current: Stream, vectors: dict[str, Memory]
    ) -> Stream:
        spikes = Stream(name=f"map_{target.name}", bits=1, signed=False)
        parameters: dict[str, Value] = {
            "NEURONS": math.prod(target.shape),
            "STEPS": STEPS,
            "CURRENT_BITS": current.bits,
            "V_BITS": self.bounds[target.node.name].bits,
            "HARD_RESET": int("v_reset" in vectors),
        }
        words = {"threshold": "THRESHOLD", "v_init": "INIT", "v_reset": "RESET"}
        memories = [vectors[role] for role in words if role in vectors]
        for role, word in words.items():
            if role in vectors:
                parameters[f"{word}_BITS"] = vectors[role].bits
                parameters[f"{word}S"] = vectors[role].values.size
                parameters[f"{word}_FILE"] = vectors[role].file
        self._add("icsnn_if", f"if_{target.name}", (current,), spikes, parameters, tuple(memories))
        self.design.populations[target.node.name] = spikes
        return spikes

    def _readout(self, target: Accumulator, current: Stream) -> None:
        bits = self.bounds[target.node.name].bits
        parameters: dict[str, Value] = {
            "NEURONS": math.prod(target.shape),
            "STEPS": STEPS,
            "START": self.graph.readout_start,
            "CURRENT_BITS": current.bits,
            "SUM_BITS": bits,
        }
        out = Stream(name=f"logits_{target.name}", bits=bits, signed=True)
        self._add("icsnn_readout", f"readout_{target.name}", (current,), out, parameters)

    def _sum_bits(self, target: Accumulator) -> int:
        """Bits of the sum of a step; sums on the way may wrap around."""
        if target.role != "values":
            return signed_bits(*self.bounds[target.node.name].current)
        reach = self.ranges[target.node.name]
        return signed_bits(int(reach.low.min()), int(reach.high.max()))

    def _connection(
        self, target: Accumulator, number: int, part: Connection, bits: int, *, hold: bool
    ) -> Stream:
        """The stream of currents that a connection gives."""
        name = f"{target.name}_{number}"
        source = self.sources[part.source.name]
        shape = self.graph.shape(part.node.inputs[0]) if part.node else target.shape
        module, parameters, values = _module_of(part, shape, target.shape)
        weight = Memory(file=f"{name}.weight.hex", values=values)
        parameters |= {
            "X_BITS": source.bits,
            "X_SIGNED": int(source.signed),
            "WEIGHT_BITS": weight.bits,
            "OUT_BITS": bits,
            "WEIGHT_FILE": weight.file,
        }
        taken = self.design.read(source, f"in_{name}")
        if not (hold or target.constant):
            taken = self._buffered(target, name, part, taken)
        out = Stream(name=f"part_{name}", bits=bits, signed=True)
        about = part.node.name if part.node else f"{part.source.name}, as it is"
        self._add(module, f"{module[6:]}_{name}", (taken,), out, parameters, (weight,), about)
        if not hold:
            return out
        kept = Stream(name=f"held_{name}", bits=bits, signed=True)
        neurons = math.prod(target.shape)
        sizes: dict[str, Value] = {
            "NEURONS": neurons,
            "BITS": bits,
            "STEPS": STEPS,
        }
        self._add("icsnn_hold", f"hold_{name}", (out,), kept, sizes)
        return kept

    def _buffered(self, target: Accumulator, name: str, part: Connection, source: Stream) -> Stream:
        """The stream of a shortcut, with room for the maps that the longer branch works on."""
        for number in range(self.depth[target.name] - self.depth[part.source.name] - 1):
            out = Stream(name=f"wait{number}_{name}", bits=source.bits, signed=source.signed)
            sizes: dict[str, Value] = {
                "NEURONS": part.source.size.neurons,
                "BITS": source.bits,
                "STEPS": 1,
            }
            self._add("icsnn_hold", f"{out.name}_map", (source,), out, sizes)
            source = out
        return source

    def _add(
        self,
        module: str,
        name: str,
        sources: tuple[Stream, ...],
        out: Stream,
        parameters: dict[str, Value],
        memories: tuple[Memory, ...] = (),
        about: str = "",
    ) -> None:
        self.design.instances.append(
            Instance(
                module=module,
                name=name,
                sources=sources,
                out=out,
                parameters=parameters,
                memories=memories,
                about=about,
            )
        )


def _channels_first(values: Array) -> Array:
    """[C] or [P, C], channels last -> the order of the neurons."""
    return np.ascontiguousarray(values.T).reshape(-1)


def _module_of(
    part: Connection, source: Shape, target: Shape
) -> tuple[str, dict[str, Value], Array]:
    """Module, sizes and weights of a connection between maps of these shapes."""
    match part.node:
        case Conv():
            return "icsnn_conv", _conv_sizes(part.node, source, target), part.node.weight
        case Linear():
            outputs, inputs = part.node.weight.shape
            return "icsnn_linear", {"INPUTS": inputs, "OUTPUTS": outputs}, part.node.weight
        case ChannelAffine():
            scale = part.node.scale
        case None:
            scale = np.ones(1, np.int64)
    if scale.size == math.prod(source):
        channels = scale.size
    else:
        channels = source[0]
        scale = np.broadcast_to(scale.reshape(-1), (channels,))
    sizes: dict[str, Value] = {
        "CHANNELS": channels,
        "PIXELS": math.prod(source) // channels,
    }
    return "icsnn_scale", sizes, scale


def _conv_sizes(node: Conv, source: Shape, target: Shape) -> dict[str, Value]:
    pads = tuple(before for before, _ in node.padding)
    sizes: dict[str, Value] = {"C_IN": source[0], "C_OUT": target[0], "GROUPS": node.groups}
    for names, values, usual in (
        (("H_IN", "W_IN"), source[1:], 1),
        (("H_OUT", "W_OUT"), target[1:], 1),
        (("KERNEL_Y", "KERNEL_X"), node.kernel, 1),
        (("STRIDE_Y", "STRIDE_X"), node.stride, 1),
        (("DILATION_Y", "DILATION_X"), node.dilation, 1),
        (("PAD_TOP", "PAD_LEFT"), pads, 0),
    ):
        both = (usual,) * (2 - len(values)) + tuple(values)  # one axis: a map of height 1
        sizes |= dict(zip(names, both, strict=True))
    return sizes
