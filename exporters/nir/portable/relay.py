"""Relay: initial potentials for any reader, set by one spike that travels with the first step.

    input   channels -------- conv --+-- IF -- conv --+-- IF -- linear -- output
                                     |                |
                                   v_init           v_init
                                     |                |
            relay 1 0 0 0 ... -------+-- IF ----------+-- IF
                                  1.5 th           1.5 th

The input has one more channel, which is 1 in the first step and 0 after. Each population has one
more channel, too: a current of 1.5 v_threshold makes it fire in that step, and half a threshold is
left, so it never fires again. Its weight into a channel of the next population is that channel's
v_init:

    u[1] = 0 + (I[1] + v_init)    instead of    u[1] = v_init + I[1]

Padding has no relay, so the weight is at a kernel tap that is inside the image at every position.
The output gets no relay, and a sum gets it by one of its connections only; most sums are removed
first (inline_shortcuts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from typing_extensions import assert_never

from icsnn_deploy.errors import ExportError, Rejection, rejection_table
from icsnn_deploy.exporters.nir.metadata import CHANNELS, JOINS
from icsnn_deploy.exporters.nir.portable.inline_shortcuts import inline_shortcuts
from icsnn_deploy.exporters.nir.portable.portable import Portable
from icsnn_deploy.exporters.nir.portable.private_connections import add_private_connections
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    Add,
    AvgPool,
    BaseNode,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Population,
    Relu,
    Shape,
)
from icsnn_deploy.passes.affine import is_per_channel

FIRES = 1.5
"""Current of a relay in the first step, in thresholds."""


def relay_inputs(inputs: Array, time_steps: int, *, timed: bool = False) -> Array:
    """The inputs of a network with a relay.

    Args:
        inputs: [B, *shape], or [T, B, *shape] if `timed` (rate and event input).
        time_steps: T.
        timed: whether the inputs have a time axis already.

    Returns:
        float32 [T, B, C + 1, ...]: the last channel is 1 in the first step and 0 after.

    Raises:
        ExportError: the inputs have another number of steps.
    """
    x = np.asarray(inputs, np.float32)
    if not timed:
        x = np.broadcast_to(x, (time_steps, *x.shape))
    if len(x) != time_steps:
        raise ExportError(f"inputs of {len(x)} steps: the network runs {time_steps}")
    relay = np.zeros((*x.shape[:2], 1, *x.shape[3:]), np.float32)
    relay[:1] = 1
    return np.concatenate([x, relay], axis=2)


def relayed(form: Portable) -> Portable:
    """Rewrite a portable network so that v_init is 0 and a relay sets the initial potentials.

    Raises:
        ExportError: lists the populations whose potentials a relay can't set.
    """
    graph = add_private_connections(form.graph)
    inlined, joins = inline_shortcuts(graph)
    new = [node.name for node in graph.nodes if node.name not in form.graph]
    return replace(
        form,
        graph=with_relay(inlined),
        rewritten=(
            *form.rewritten,
            *(f"{name}: a connection of 1, for the relay" for name in new),
            *(f"{join.sum}: spikes of {join.source} go along the main path" for join in joins),
        ),
        header={JOINS: [asdict(join) for join in joins]},
        notes={
            node.name: {CHANNELS: graph.shape(node.name)[0]} for node in graph.nodes_of(Population)
        },
    )


def with_relay(graph: Graph) -> Graph:
    """Add the relay to a portable network with private connections; its input becomes timed float.

    Raises:
        ExportError: lists the populations whose potentials a relay can't set.
    """
    payloads, rejections = plan(graph)
    if rejections:
        raise ExportError(
            rejection_table("a relay can't set the potentials of this network", rejections)
        )
    extra: dict[str, int] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        shapes = graph.source_shapes(node.name)
        before = extra[node.inputs[0]] if node.inputs else 0
        nodes.append(_with_relay(graph, node, shapes, before, payloads.get(node.name)))
        extra[node.name] = relay_size(node, shapes, before)
    return graph.with_nodes(nodes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Payload:
    """The weights from the relay: into each output channel, and into the next relay."""

    channels: Array | None  # [C]; None for zeros
    relay: float | None  # None: the output has no relay


PASS = Payload(channels=None, relay=1.0)
BLOCK = Payload(channels=None, relay=0.0)
END = Payload(channels=None, relay=None)


def plan(graph: Graph) -> tuple[dict[str, Payload], list[Rejection]]:
    """The payload of each connection, and a rejection for each potential that can't be set."""
    payloads: dict[str, Payload] = {}
    rejections: list[Rejection] = []
    for sink in graph.nodes_of(Add, Population, Output):
        sources = connections(graph, sink)
        if isinstance(sink, Output):
            payloads.update(dict.fromkeys(sources, END))
            continue
        if isinstance(sink, Add) and _is_part(graph, sink):
            continue  # planned with the population or output that consumes it
        payloads.update(dict.fromkeys(sources, BLOCK))
        carrier = carrier_of(graph, sources)
        if carrier is None:
            rejections.append(_no_tap(sink, sources))
        elif isinstance(sink, Add):
            payloads[carrier] = PASS
        elif isinstance(sink, Population):
            channels = _per_channel(sink, graph.shape(sink.name))
            if channels is None:
                rejections.append(_per_neuron(sink))
            relay = FIRES * float(sink.v_threshold.max())
            payloads[carrier] = Payload(channels=channels, relay=relay)
    for node in graph.nodes_of(Conv, Linear):
        if node.name not in payloads:
            payloads[node.name] = PASS
            if carrier_of(graph, [node.name]) is None:
                rejections.append(_no_tap(node, [node.name]))
    return payloads, rejections


def connections(graph: Graph, sink: BaseNode) -> tuple[str, ...]:
    """The connections into a sum, population or output, through a sum before it if any."""
    node = graph.node(sink.inputs[0])
    return node.inputs if isinstance(node, Add) and not isinstance(sink, Add) else sink.inputs


def carrier_of(graph: Graph, sources: Sequence[str]) -> str | None:
    """The first of the connections by which a relay can reach every neuron; None if none can."""
    for name in sources:
        node = graph.node(name)
        if isinstance(node, Linear):
            return name
        if isinstance(node, Conv):
            (shape,) = graph.source_shapes(name)
            if find_tap(node, shape[1:], graph.shape(name)[1:]) is not None:
                return name
    return None


def find_tap(conv: Conv, lengths: Shape, positions: Shape) -> Shape | None:
    """A kernel index that reads the image, not its padding, at every position; None if none."""
    tap = []
    for axis, length in enumerate(lengths):
        most = length - 1 - conv.stride[axis] * (positions[axis] - 1)
        offsets = (
            conv.dilation[axis] * k - conv.padding[axis][0] for k in range(conv.kernel[axis])
        )
        inside = [k for k, offset in enumerate(offsets) if 0 <= offset <= most]
        if not inside:
            return None
        tap.append(inside[0])
    return tuple(tap)


def relay_size(node: Node, shapes: Sequence[Shape], before: int) -> int:
    """Number of relay values in a node's result: one channel, or its pixels after a Flatten.

    Args:
        node: of the network without a relay.
        shapes: of its sources.
        before: number of relay values of its first source.
    """
    match node:
        case Flatten():
            return before * int(np.prod(shapes[0][1:]))
        case Add() | Population():
            return before
        case Output():
            return 0
        case Input() | Conv() | Linear() | AvgPool() | ChannelAffine() | Relu():
            return 1
        case _:
            assert_never(node)


def _with_relay(
    graph: Graph, node: Node, shapes: Sequence[Shape], before: int, payload: Payload | None
) -> Node:
    match node:
        case Input():
            shape = (node.shape[0] + 1, *node.shape[1:])
            return replace(node, shape=shape, dtype="float32", encoding="events", unit=1.0)
        case Population():
            one = np.ones((1,) * node.v_threshold.ndim, np.float32)
            return replace(node, v_threshold=one * node.v_threshold.max(), v_init=0 * one)
        case Conv():
            tap = find_tap(node, shapes[0][1:], graph.shape(node.name)[1:])
            return _extended(node, payload or PASS, 1, tap or (0,) * len(node.kernel))
        case Linear():
            return _extended(node, payload or PASS, before, ())
        case Add() | Flatten() | Output() | AvgPool() | ChannelAffine() | Relu():
            return node
        case _:
            assert_never(node)


def _extended(node: Conv | Linear, payload: Payload, columns: int, tap: Shape) -> Node:
    """A connection with relay inputs after the others, and a relay output if there is one."""
    outputs, inputs, *kernel = node.weight.shape
    rows = outputs + (payload.relay is not None)
    weight = np.zeros((rows, inputs + columns, *kernel), np.float32)
    weight[:outputs, :inputs] = node.weight
    if payload.channels is not None:
        weight[(slice(0, outputs), inputs, *tap)] = payload.channels
    bias = np.zeros(rows, np.float32)
    bias[:outputs] = node.bias
    if payload.relay is not None:
        weight[(outputs, inputs, *tap)] = payload.relay
    return replace(node, weight=weight, bias=bias)


def _is_part(graph: Graph, sink: Add) -> bool:
    """Whether the only consumer of a sum is a population or the output."""
    consumers = graph.consumers(sink.name)
    return len(consumers) == 1 and isinstance(consumers[0], (Population, Output))


def _per_channel(population: Population, shape: Shape) -> Array | None:
    """v_init, [C], or None if it differs within a channel."""
    v_init = population.v_init
    if not is_per_channel(v_init):
        first = v_init[(slice(None), *(slice(1),) * (v_init.ndim - 1))]
        if (v_init != first).any():
            return None
        v_init = first
    return np.broadcast_to(v_init.reshape(-1), (shape[0],)).astype(np.float32)


def _per_neuron(population: Population) -> Rejection:
    return Rejection(
        node=population.name,
        got=f"v_init of shape {population.v_init.shape}",
        allowed="one v_init per channel",
        remedy="Export with v_init_encoding metadata, or calibrate one potential per channel.",
    )


def _no_tap(sink: BaseNode, sources: Sequence[str]) -> Rejection:
    return Rejection(
        node=sink.name,
        got=f"padding that widens the image ({', '.join(sources)})",
        allowed="one kernel tap inside the image at every position",
        remedy="Use padding that keeps the size, and kernels that are odd on both axes or even on "
        "both, or export with v_init_encoding metadata.",
    )
