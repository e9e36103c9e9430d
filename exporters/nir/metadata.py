"""Metadata of a NIR file: a JSON string for the graph, and one for each node.

It holds what NIR has no field for. Strings survive every NIR writer and reader; None, lists of
dicts and 0-d arrays do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from icsnn_deploy.errors import GraphError
from icsnn_deploy.exporters.nir.parts import NirParts, part_entries, read_parts
from icsnn_deploy.graph.graph import Graph, hard_resets
from icsnn_deploy.graph.limits import MAX_TIME_STEPS
from icsnn_deploy.graph.node import is_positive
from icsnn_deploy.graph.nodes import Add, Encoding, InputDtype, Population
from icsnn_deploy.outside_json import parse_json
from icsnn_deploy.version import __version__

KEY = "icsnn_deploy"
"""Key of the JSON string in the metadata of the graph and of each node."""

V_INIT = "v_init"
"""Key of the initial potentials in an IF node's metadata: float32, full shape."""

JOINS, CHANNELS = "joins", "channels"
"""Keys in files with a relay: the shortcuts that were inlined, and how many channels of an IF node
belong to its population. Those come first."""

Reset = Literal["subtract", "v_reset"]

FIRES: dict[Reset, str] = {"subtract": "u >= v_threshold", "v_reset": "u > v_threshold"}
"""For each reset, the comparison that the numbers of an exported file are written for."""

NirProfile = Literal["spec", "portable"]
VInitEncoding = Literal["metadata", "relay"]
_MOST_CHARACTERS = 2**20


@dataclass(frozen=True, kw_only=True)
class NirHeader:
    """How the network of a file is run, from the metadata of the graph."""

    time_steps: int
    reset: Reset = "subtract"
    readout_start: int = 0
    encoding: Encoding = "direct"
    input_dtype: InputDtype = "float32"
    input_unit: float = 1.0
    graph_hash: str | None = None
    order: tuple[str, ...] = ()  # of the graph's nodes, where edges do not determine it
    v_init_encoding: VInitEncoding = "metadata"
    notes: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # by NIR node
    joins: tuple[Any, ...] = ()  # of a file with a relay, unchecked
    parts: NirParts = field(default_factory=NirParts)


def dump(value: Mapping[str, Any]) -> str:
    """The value as JSON in ASCII; equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)


def load(metadata: Any, where: str) -> dict[str, Any]:
    """Load this package's JSON object from the metadata of a node or graph.

    Args:
        metadata: of a NIR node or graph.
        where: what it belongs to, for messages.

    Returns:
        the object; empty where there is none.

    Raises:
        GraphError: the entry is not a string that holds a JSON object.
    """
    text = metadata.get(KEY) if isinstance(metadata, Mapping) else None
    if text is None:
        return {}
    if not isinstance(text, str) or len(text) > _MOST_CHARACTERS:
        raise GraphError(f"{where}: metadata {KEY!r} is not a string below 1 MiB")
    try:
        value = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise GraphError(f"{where}: metadata {KEY!r} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise GraphError(f"{where}: metadata {KEY!r} is not a JSON object")
    return value


def describe(
    graph: Graph,
    losses: Sequence[str],
    rewritten: Sequence[str],
    *,
    written: Graph,
    profile: NirProfile = "spec",
    v_init_encoding: VInitEncoding = "metadata",
    notes: Mapping[str, Mapping[str, Any]] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """The JSON string for the metadata of the graph.

    Args:
        graph: the network to export.
        losses: values that float32 rounds, one sentence each.
        rewritten: nodes that are written as something else, one sentence each.
        written: the network that the file's nodes stand for; the profile may have rewritten it.
        profile: of the file.
        v_init_encoding: where initial potentials are stored.
        notes: on the nodes, by NIR name; only where the nodes have no metadata of their own.
        extra: further entries, for v_init_encoding "relay".
    """
    reset: Reset = "v_reset" if hard_resets(graph) else "subtract"
    unit, sums = graph.input.unit, written.nodes_of(Add)
    return dump(
        {
            "producer": "icsnn-deploy",
            "version": __version__,
            "profile": profile,
            "v_init_encoding": v_init_encoding,
            "graph_hash": graph.hash(),
            "time_steps": graph.steps,
            "readout_start": graph.readout_start,
            "encoding": graph.input.encoding,
            "input_dtype": graph.input.dtype,
            "reset": reset,
            "fires": FIRES[reset],
            "dt": 1,
            **({"input_unit": unit} if unit != 1 else {}),
            **part_entries(graph),
            **({"order": [node.name for node in written.nodes]} if sums else {}),
            "losses": [*_losses(written, v_init_encoding), *losses],
            "rewritten": list(rewritten),
            **({"nodes": dict(notes)} if notes else {}),
            **(extra or {}),
        }
    )


def foreign_header(given: Mapping[str, Any]) -> NirHeader:
    """The header of a file written by another program, from the arguments of from_nir.

    Raises:
        GraphError: an argument is missing or has a wrong value.
    """
    missing = [name for name in ("reset", "time_steps") if given.get(name) is None]
    if missing:
        raise GraphError(
            f"{' and '.join(missing)} needed: the file was not written by icsnn-deploy, and does "
            "not say how its neurons reset ('subtract' or 'v_reset') and how many time steps it "
            "runs"
        )
    return NirHeader(
        time_steps=_integer("time_steps", given["time_steps"], 1, MAX_TIME_STEPS),
        reset=_one_of("reset", given["reset"], get_args(Reset)),
        encoding=_one_of("encoding", given.get("encoding", "direct"), get_args(Encoding)),
        input_dtype=_one_of(
            "input_dtype", given.get("input_dtype", "float32"), get_args(InputDtype)
        ),
    )


def read_header(metadata: Any) -> NirHeader | None:
    """The header of a file that icsnn-deploy wrote; None for other files.

    Raises:
        GraphError: a value of a wrong type or out of range.
    """
    stated = load(metadata, "graph")
    if not stated:
        return None
    reset: Reset = _one_of("reset", stated.get("reset"), get_args(Reset))
    if stated.get("fires") != FIRES[reset]:
        raise GraphError(f"fires {_short(stated.get('fires'))}: {FIRES[reset]!r} is needed")
    if stated.get("dt") != 1:
        raise GraphError(f"dt {_short(stated.get('dt'))}: only 1 can be run")
    steps = _integer("time_steps", stated.get("time_steps"), 1, MAX_TIME_STEPS)
    unit = stated.get("input_unit", 1.0)
    if not is_positive(unit) or unit > 1e30:
        raise GraphError(f"input_unit {_short(unit)}: a finite number > 0 is needed")
    graph_hash, order = stated.get("graph_hash"), stated.get("order")
    listed = isinstance(order, list) and all(isinstance(name, str) for name in order)
    return NirHeader(
        time_steps=steps,
        reset=reset,
        readout_start=_integer("readout_start", stated.get("readout_start", 0), 0, steps - 1),
        encoding=_one_of("encoding", stated.get("encoding", "direct"), get_args(Encoding)),
        input_dtype=_one_of("input_dtype", stated.get("input_dtype"), get_args(InputDtype)),
        input_unit=float(unit),
        graph_hash=graph_hash if isinstance(graph_hash, str) else None,
        order=tuple(order or ()) if listed else (),
        v_init_encoding=_one_of(
            "v_init_encoding", stated.get("v_init_encoding", "metadata"), get_args(VInitEncoding)
        ),
        notes=_notes(stated.get("nodes", {})),
        joins=tuple(joins) if isinstance(joins := stated.get(JOINS), list) else (),
        parts=read_parts(stated, metadata),
    )


def _notes(value: Any) -> dict[str, dict[str, Any]]:
    """The notes on nodes that are stored with the graph."""
    if not isinstance(value, dict) or not all(isinstance(note, dict) for note in value.values()):
        raise GraphError(f"nodes {_short(value)}: an object of objects is needed")
    return value


def _integer(field: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise GraphError(f"{field} {_short(value)}: an integer from {least} to {most} is needed")
    return value


def _one_of(field: str, value: Any, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise GraphError(f"{field} {_short(value)}: one of {', '.join(allowed)} is needed")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _losses(graph: Graph, v_init_encoding: VInitEncoding) -> list[str]:
    """What the NIR specification does not express of this network, one sentence each."""
    found = ["discrete time with dt = 1: the NIR text is in continuous time"]
    if not hard_resets(graph):
        found += [
            "reset by subtraction (v -= v_threshold): the NIR text from 1.0.5 on sets v to v_reset",
            "fires at u >= v_threshold: the NIR text fires at v > v_threshold; they differ at ties",
        ]
    found.append("time steps, readout window and input encoding stand in this string only")
    if v_init_encoding == "relay":
        found.append(
            "an extra input channel is 1 in the first step and 0 after: it sets potentials"
        )
    elif any(population.v_init.any() for population in graph.nodes_of(Population)):
        found.append(f"initial potentials stand in the metadata of the IF nodes ({V_INIT!r}) only")
    integer = {v.dtype.name for node in graph.nodes for v in node.parameters().values()} - {
        "float32"
    }
    if integer:
        found.append(f"parameters of type {', '.join(sorted(integer))} are written as float32")
    return found
