"""network.json: nodes and files of the test vectors, for programs."""

from __future__ import annotations

import json
from typing import Any

from icsnn_deploy.exporters.testvectors.memories import Memory, VectorPlan
from icsnn_deploy.graph.certificate import signed_bits
from icsnn_deploy.graph.graph import describe_node
from icsnn_deploy.graph.nodes import IF, Node, Output
from icsnn_deploy.version import __version__

FORMAT = "icsnn-testvectors"
VERSION = 1


def index_text(plan: VectorPlan) -> str:
    """The text of network.json."""
    graph = plan.graph
    head = {
        "format": FORMAT,
        "version": VERSION,
        "producer": f"icsnn-deploy {__version__}",
        "graph_hash": graph.hash(),
        "time_steps": graph.steps,
        "readout_start": graph.readout_start,
        "samples": plan.samples,
        "recorded_steps": plan.steps,
    }
    nodes = ",\n".join(_json(_node_entry(plan, node)) for node in graph.nodes)
    files = ",\n".join(
        f"{_json(memory.file)}: {_json(_file_entry(memory))}" for memory in plan.memories
    )
    return f'{_json(head)[:-1]},\n"nodes": [\n{nodes}\n],\n"files": {{\n{files}\n}}}}\n'


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def registers(plan: VectorPlan, node: Node) -> dict[str, int]:
    """Bits of the signed registers of a population or the output."""
    bound = plan.bounds.get(node.name)
    if bound is None:
        return {}
    total = "sum_bits" if isinstance(node, Output) else "potential_bits"
    return {"current_bits": signed_bits(*bound.current), total: bound.bits}


def _node_entry(plan: VectorPlan, node: Node) -> dict[str, Any]:
    """A node in network.json: its plain fields, shapes, registers and files."""
    fields = {name: value for name, value in describe_node(node).items() if name != "parts"}
    return {
        **fields,
        "result": plan.graph.shape(node.name),
        **({"hard_reset": node.v_reset is not None} if isinstance(node, IF) else {}),
        **registers(plan, node),
        "files": {memory.role: memory.file for memory in plan.memories if memory.node == node.name},
    }


def _file_entry(memory: Memory) -> dict[str, Any]:
    """A file in network.json."""
    return {
        "node": memory.node,
        "role": memory.role,
        "axes": memory.axes,
        "shape": memory.shape,
        "bits": memory.bits,
        "signed": memory.signed,
    }
