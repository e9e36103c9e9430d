"""A graph as one file: arrays as safetensors, structure as JSON in the same header.

No code runs on reading. Every value is checked again when the graph is created. The fields of
PROVENANCE_KEYS are stored among the provenance, under the keys that they have had since version 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.errors import BundleError, GraphError
from icsnn_deploy.graph.checks import PROVENANCE_KEYS
from icsnn_deploy.graph.graph import Graph, describe_node
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import NODE_TYPES, Node
from icsnn_deploy.outside_json import json_text, parse_json

FORMAT = "icsnn-graph"
VERSION = 1
_MESSAGE = 500  # characters: a hostile value can be as long as the file
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


def graph_bytes(graph: Graph) -> bytes:
    """The graph as the bytes of a safetensors file; the same graph gives the same bytes."""
    from safetensors.numpy import save

    header = {
        "format": FORMAT,
        "version": VERSION,
        "time_steps": graph.time_steps,
        "readout_start": graph.readout_start,
        "provenance": provenance_entries(graph),
        "nodes": [describe_node(node) for node in graph.nodes],
    }
    tensors = {
        f"{node.name}/{field}": value
        for node in graph.nodes
        for field, value in node.arrays().items()
    }
    # One metadata entry: safetensors keeps several in no fixed order.
    text = json_text(header, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return save(tensors, metadata={FORMAT: text})


def provenance_entries(graph: Graph) -> dict[str, Any]:
    """The provenance as the file stores it, with the fields that are kept there."""
    typed = {key: getattr(graph, name) for name, key in PROVENANCE_KEYS.items()}
    return {**graph.provenance, **{key: value for key, value in typed.items() if value}}


def _typed_fields(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a graph that a file's provenance stores: the inverse of provenance_entries."""
    for key in PROVENANCE_KEYS.values():
        if key in entries and not entries[key]:
            raise GraphError(f"provenance {key!r}: {entries[key]!r}; leave it out, or give a value")
    typed = {name: entries[key] for name, key in PROVENANCE_KEYS.items() if key in entries}
    keys = PROVENANCE_KEYS.values()
    return {**typed, "provenance": {k: v for k, v in entries.items() if k not in keys}}


def read_graph(path: Path) -> Graph:
    """Read a graph file; raises BundleError for anything but a well-formed graph."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            header = _header(path, (file.metadata() or {}).get(FORMAT))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: not a readable safetensors file ({error})") from error
    try:
        nodes = tuple(_node(description, tensors) for description in header["nodes"])
        if tensors:
            raise GraphError(f"tensors that no node names: {', '.join(sorted(tensors))}")
        return Graph(
            nodes=nodes,
            time_steps=header["time_steps"],
            readout_start=header["readout_start"],
            **_typed_fields(header["provenance"]),
        )
    except (GraphError, RecursionError, *_MALFORMED) as error:
        raise BundleError(f"{path}: not a valid graph ({str(error)[:_MESSAGE]})") from error


def _header(path: Path, text: str | None) -> Mapping[str, Any]:
    if text is None:
        raise BundleError(f"{path}: a safetensors file without a {FORMAT!r} entry; not a graph")
    try:
        header = parse_json(text, parse_int=_int, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: its {FORMAT!r} entry is not JSON ({error})") from error
    if not isinstance(header, dict) or header.get("version") != VERSION:
        got = header.get("version") if isinstance(header, dict) else header
        raise BundleError(f"{path}: graph format version {got!r:.50}; this program reads {VERSION}")
    if not isinstance(header.get("provenance"), dict):
        raise BundleError(f"{path}: its provenance is not a JSON object")
    return header


def _int(digits: str) -> int:
    if len(digits) > 19:  # no field needs more than 64 bits, and floats don't reach as far
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _node(description: Mapping[str, Any], tensors: dict[str, Array]) -> Node:
    """Create a node; its arrays are removed from `tensors`."""
    plain = dict(description)
    kind, name = plain.pop("kind"), plain["name"]
    if kind not in NODE_TYPES:
        raise GraphError(f"{name}: unknown kind {kind!r}; known are {', '.join(NODE_TYPES)}")
    node_type = NODE_TYPES[kind]
    expected = {field.name for field in fields(node_type)}
    arrays = {
        field: tensors.pop(f"{name}/{field}") for field in expected if f"{name}/{field}" in tensors
    }
    given = set(plain) | set(arrays)
    if not expected - node_type.optional <= given <= expected or set(plain) & set(arrays):
        raise GraphError(f"{name} ({kind}): fields {sorted([*plain, *arrays])}, need {expected}")
    if not all(isinstance(value, np.ndarray) for value in arrays.values()):
        raise GraphError(f"{name}: arrays must be tensors")
    values: dict[str, Any] = {**plain, **arrays}
    return node_type(**values)
