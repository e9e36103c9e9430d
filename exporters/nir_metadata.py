"""What NIR has no field for: one JSON string in the graph's metadata, and one in each node's.

Strings survive every NIR writer and reader; None, lists of dicts and 0-d arrays do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph import Graph
from icsnn_deploy.nodes import IF, Encoding, InputDtype
from icsnn_deploy.version import __version__

KEY = "icsnn_deploy"
"""Under this key the string stands, in the metadata of the graph and of each node."""

V_INIT = "v_init"
"""Under this key an IF node's metadata holds its initial potentials: float32, full shape."""

PROFILE = "spec"
MOST_STEPS = 2**16
_MOST_CHARACTERS = 2**20


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the graph's metadata says about running it."""

    time_steps: int
    readout_start: int = 0
    encoding: Encoding = "direct"
    input_dtype: InputDtype = "float32"
    graph_hash: str | None = None


def dump(value: Mapping[str, Any]) -> str:
    """The value as JSON in ASCII, the same text every time."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)


def load(metadata: Any, where: str) -> dict[str, Any]:
    """The JSON object of this package in a node's or graph's metadata; empty if there is none.

    Raises:
        GraphError: it is there, but not a JSON object in a string.
    """
    text = metadata.get(KEY) if isinstance(metadata, Mapping) else None
    if text is None:
        return {}
    if not isinstance(text, str) or len(text) > _MOST_CHARACTERS:
        raise GraphError(f"{where}: metadata {KEY!r} is not a string below 1 MiB")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GraphError(f"{where}: metadata {KEY!r} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise GraphError(f"{where}: metadata {KEY!r} is not a JSON object")
    return value


def describe(graph: Graph, losses: Sequence[str], rewritten: Sequence[str]) -> str:
    """The JSON string for the graph's metadata."""
    return dump(
        {
            "producer": "icsnn-deploy",
            "version": __version__,
            "profile": PROFILE,
            "graph_hash": graph.hash(),
            "time_steps": graph.steps,
            "readout_start": graph.readout_start,
            "encoding": graph.input.encoding,
            "input_dtype": graph.input.dtype,
            "reset": "subtract",
            "fires": "u >= v_threshold",
            "dt": 1,
            "losses": [*_losses(graph), *losses],
            "rewritten": list(rewritten),
        }
    )


def read_header(metadata: Any, time_steps: int | None) -> Header:
    """The header of a file; `time_steps` stands in where the file has none.

    Raises:
        GraphError: no header and no time_steps, the two disagree, or a value that can't be.
    """
    said = load(metadata, "graph")
    if not said:
        if time_steps is None:
            raise GraphError(
                "the file does not say how many time steps the network runs (it was not written "
                "by icsnn-deploy); pass time_steps to read it as a network with soft reset"
            )
        return Header(time_steps=_integer("time_steps", time_steps, 1, MOST_STEPS))
    if said.get("reset") != "subtract" or said.get("fires") != "u >= v_threshold":
        raise GraphError(
            f"reset {_short(said.get('reset'))}, fires {_short(said.get('fires'))}: only reset "
            "'subtract' and fires 'u >= v_threshold' can be run"
        )
    if said.get("dt") != 1:
        raise GraphError(f"dt {_short(said.get('dt'))}: only 1 can be run")
    steps = _integer("time_steps", said.get("time_steps"), 1, MOST_STEPS)
    if time_steps is not None and time_steps != steps:
        raise GraphError(f"the file says {steps} time steps, asked for {time_steps}; leave it out")
    graph_hash = said.get("graph_hash")
    return Header(
        time_steps=steps,
        readout_start=_integer("readout_start", said.get("readout_start", 0), 0, steps - 1),
        encoding=_one_of("encoding", said.get("encoding", "direct"), get_args(Encoding)),
        input_dtype=_one_of("input_dtype", said.get("input_dtype"), get_args(InputDtype)),
        graph_hash=graph_hash if isinstance(graph_hash, str) else None,
    )


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


def _losses(graph: Graph) -> list[str]:
    """Where this network goes beyond the letter of the NIR text, one sentence each."""
    said = [
        "discrete time with dt = 1: the NIR text is in continuous time",
        "reset by subtraction (v -= v_threshold): the NIR text from 1.0.5 on sets v to v_reset",
        "fires at u >= v_threshold: the NIR text fires at v > v_threshold; they differ at ties",
        "time steps, readout window and input encoding stand in this string only",
    ]
    if any(population.v_init.any() for population in graph.nodes_of(IF)):
        said.append(f"initial potentials stand in the metadata of the IF nodes ({V_INIT!r}) only")
    integer = {v.dtype.name for node in graph.nodes for v in node.arrays().values()} - {"float32"}
    if integer:
        said.append(f"parameters of type {', '.join(sorted(integer))} are written as float32")
    return said
