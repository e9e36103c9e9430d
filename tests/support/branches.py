"""Random networks whose analog input feeds one, two or three populations, joined later."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import (
    Add,
    AvgPool,
    ChannelAffine,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
)
from icsnn_deploy.lattice.prepare import is_exact, prepare
from icsnn_deploy.lattice.round_network import round_to_lattice
from tests.support.graphs import conv, dyadic, samples, spiking

ROUTES = ("conv", "depthwise", "scale", "pool", "direct", "second layer")
"""How the spikes of a first population reach the join."""


def branched_network(
    routes: tuple[str, ...] = ("conv", "depthwise"), seed: int = 0, time_steps: int = 4
) -> Graph:
    """A population of 2 to 4 channels for each route, all driven by the pooled input."""
    rng = np.random.default_rng(seed)
    pads = ((0, 0), (0, 0))
    nodes: list[Node] = [
        Input(name="input", shape=(2, 12, 12)),
        AvgPool(name="shrink", inputs=("input",), kernel=(2, 2), stride=(2, 2), padding=pads),
    ]
    ends = []
    for number, route in enumerate(routes):
        name, channels = f"branch{number}", int(rng.integers(2, 5))
        shape = (channels, 6, 6)
        if route == "direct" or "direct" in routes:
            shape = (3, 6, 6)  # a sum takes the spikes themselves
        nodes.append(conv(f"{name}.conv", "shrink", rng, (2, shape[0])))
        nodes.append(spiking(f"{name}.if", f"{name}.conv", rng, shape))
        ends.append(_route(nodes, route, name, rng, shape))
    nodes += [Add(name="join", inputs=tuple(ends))] if len(ends) > 1 else []
    shape = (3, 6, 6)
    nodes += [
        spiking("join.if", "join" if len(ends) > 1 else ends[0], rng, shape),
        Flatten(name="flatten", inputs=("join.if",)),
        Linear(name="head", inputs=("flatten",), weight=dyadic(rng, 4, 108), bias=dyadic(rng, 4)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=time_steps, readout_start=time_steps // 2)


def _route(
    nodes: list[Node], route: str, name: str, rng: np.random.Generator, shape: tuple[int, ...]
) -> str:
    """Append what leads from a population to the join, [3, 6, 6]; returns its last node."""
    source, channels = f"{name}.if", shape[0]
    if route == "direct":
        return source
    if route == "depthwise":
        nodes.append(conv(f"{name}.deep", source, rng, (channels,) * 2, groups=channels))
        source = f"{name}.deep"
    if route == "scale":
        one = np.ones((1, 1, 1), np.float32)
        scaled = ChannelAffine(
            name=f"{name}.scale", inputs=(source,), scale=one * 0.5, shift=one * 0.25
        )
        nodes.append(scaled)
        source = scaled.name
    if route == "pool":
        pads = ((1, 1), (1, 1))
        pool = AvgPool(
            name=f"{name}.pool", inputs=(source,), kernel=(3, 3), stride=(1, 1), padding=pads
        )
        nodes.append(pool)
        source = pool.name
    if route == "second layer":
        nodes.append(conv(f"{name}.second", source, rng, (channels,) * 2))
        nodes.append(spiking(f"{name}.second.if", f"{name}.second", rng, shape))
        source = f"{name}.second.if"
    nodes.append(conv(f"{name}.end", source, rng, (channels, 3)))
    return f"{name}.end"


@st.composite
def branched_networks(draw: st.DrawFn) -> Graph:
    """A branched network of one to three random routes."""
    routes = draw(st.lists(st.sampled_from(ROUTES), min_size=1, max_size=3))
    return branched_network(tuple(routes), draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 6)))


def rounded(graph: Graph, bits: int = 8) -> Graph:
    """The network on the integer lattice, its weights rounded to `bits`."""
    prepared = prepare(graph, samples(graph, 4), per_layer=False, input_bits=8)
    weighted = [node.name for node in prepared.nodes if _has_weights(node)]
    return round_to_lattice(prepared, {}, dict.fromkeys(weighted, bits), per_layer=False).graph


def _has_weights(node: Node) -> bool:
    return node.kind in ("conv", "linear") and not is_exact(node)
