"""Connections as this package's own Lava process, which runs a connection's nodes on a batch."""

from __future__ import annotations

from typing import Any

from icsnn_deploy.graph.certificate import FLOAT32_INTEGER
from icsnn_deploy.graph.graph import describe_node
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Node
from icsnn_deploy.lava.netlist import Process, Tag
from icsnn_deploy.lava.plan import Connection

_GEOMETRY = ("kernel", "stride", "padding", "dilation", "groups")


def batched(connection: Connection, copies: int, tag: Tag, *, steady: bool) -> Process:
    """Build the process of a connection.

    Args:
        connection: of the plan.
        copies: images that run at the same time.
        tag: of the run; fixed point is computed in float32 if that is exact.
        steady: the source sends the same numbers at every step.
    """
    small = tag == "fixed_pt" and connection.reach < FLOAT32_INTEGER
    return Process(
        kind="batch-connection",
        name=connection.name,
        options={
            "shape_in": [copies, *connection.shape_in],
            "shape_out": [copies, *connection.shape_out],
            "source": connection.source,
            "layers": [_layer(node) for node in connection.nodes],
            "dtype": "float32" if small else "float64",
            "steady": steady,
        },
        arrays=_weights(connection),
    )


def _layer(node: Node) -> dict[str, Any]:
    described = {**describe_node(node), "kernel": getattr(node, "kernel", None)}
    return {
        "name": node.name,
        "kind": node.kind,
        "inputs": list(node.inputs),
        "geometry": {k: described[k] for k in _GEOMETRY if described.get(k) is not None},
    }


def _weights(connection: Connection) -> dict[str, Array]:
    return {
        f"layer{number}": value
        for number, node in enumerate(connection.nodes)
        for field, value in node.arrays().items()
        if field in ("weight", "scale")
    }
