"""Export to lava-dl's netx, the .net files that lava.lib.dl.netx.hdf5.Network reads.

The format has no soft reset, initial potentials or thresholds per channel. They are stored in
additional datasets, which lava-dl's reader ignores and icsnn_lava.netx reads.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.netx.layers import NetxLayer, plan_layers
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv
from icsnn_deploy.version import __version__

if TYPE_CHECKING:
    import h5py

KEY = "icsnn_deploy"
"""Root dataset: a JSON object for what the format has no field for."""

V_THRESHOLD, V_INIT, NAME = "icsnn_v_threshold", "icsnn_v_init", "icsnn_name"
"""Additional datasets: the first two in layer/<i>/neuron, the last in layer/<i>."""

_MOST_THRESHOLD = 2**17 - 1  # vth of lava's LIF: 17 bits, unsigned


def losses(graph: Graph) -> tuple[str, ...]:
    """What lava-dl's reader does not learn of the network, one sentence each.

    Raises:
        ExportError: the format can't hold the network at all.
    """
    plan_layers(graph)
    populations = graph.nodes_of(IF)
    found = [
        "reset by subtraction (v -= v_threshold): netx's LIF sets v to 0",
        f"initial potentials stand in neuron/{V_INIT} only: netx's LIF starts at 0",
        f"time steps, readout window and zero point of the input stand in {KEY} only",
        "netx's LIF shifts currents by 6 bits: its potentials hold 18 bits, signed, of these units",
    ]
    several = [node.name for node in populations if len(np.unique(node.v_threshold)) > 1]
    if graph.input.parts or graph.output.parts:
        found.append(f"inputs and outputs of the model by name and shape stand in {KEY} only")
    if several:
        found.append(
            f"{len(several)} of {len(populations)} populations have more than one threshold: "
            f"vThMant holds their median, all stand in neuron/{V_THRESHOLD}"
        )
    clipped = [node.name for node in populations if _mantissa(node) == _MOST_THRESHOLD]
    if clipped:
        found.append(f"vThMant ends at {_MOST_THRESHOLD}; the threshold is higher at {clipped[0]}")
    return tuple(found)


def write(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a sequential integer network to a .net file; the same graph gives the same bytes.

    Args:
        graph: an integer IF network.
        path: of the file; an existing one is replaced once the new file is complete.

    Raises:
        ExportError: not an integer network, everything that the format can't hold, or the file
            can't be written.
    """
    plan = plan_layers(graph)
    import h5py

    target = Path(path)
    zero_point = None if plan.zero_point is None else plan.zero_point.ravel().tolist()
    content = io.BytesIO()  # HDF5 crashes the process when the disk is full
    with h5py.File(content, "w") as file:
        file[KEY] = _text(_header(graph, zero_point))
        file["simulation/Ts"] = 1
        file["simulation/tSample"] = graph.steps
        _write_layers(file.create_group("layer"), graph, plan.layers)
    try:
        with atomic_write(target) as draft:
            draft.write_bytes(content.getbuffer())
    except OSError as error:
        raise ExportError(f"{target}: can't be written ({error})") from error


def _header(graph: Graph, zero_point: list[int] | None) -> str:
    header = {
        "producer": "icsnn-deploy",
        "version": __version__,
        "graph_hash": graph.hash(),
        "time_steps": graph.steps,
        "readout_start": graph.readout_start,
        "encoding": graph.input.encoding,
        "input_shape": graph.input.shape,
        "input_dtype": graph.input.dtype,
        "zero_point": zero_point,
        "reset": "subtract",
        "fires": "u >= v_threshold",
        "losses": losses(graph),
        **{name: parts for name, parts in _parts(graph).items() if parts},
    }
    return json.dumps(header, sort_keys=True, allow_nan=False)


def _parts(graph: Graph) -> dict[str, Any]:
    """The model's inputs and outputs, and their index as a list (see graph.nodes)."""
    found: dict[str, Any] = {"inputs": graph.input.parts, "outputs": graph.output.parts}
    for name, index in (("input_index", graph.input.index), ("output_index", graph.output.index)):
        found[name] = None if index is None else index.reshape(-1).tolist()
    return found


def _write_layers(group: h5py.Group, graph: Graph, layers: tuple[NetxLayer, ...]) -> None:
    """layer/0 is the input; a flatten layer precedes the first connection of a vector."""
    entry = group.create_group("0")
    entry["type"], entry["shape"] = _kind("input"), _whole(graph.input.shape)
    shape = graph.input.shape
    for layer in layers:
        if layer.flatten:
            entry = group.create_group(str(len(group)))
            entry["type"], entry["shape"] = _kind("flatten"), _whole((int(np.prod(shape)),))
        _write_layer(group.create_group(str(len(group))), layer)
        shape = layer.shape


def _write_layer(entry: h5py.Group, layer: NetxLayer) -> None:
    """A connection in PyTorch's order, [C_out, C_in, H, W], and its population."""
    connection = layer.connection
    weight = connection.weight.astype(np.int32)
    entry["shape"] = _whole(layer.shape)
    entry[NAME] = _text(layer.name)
    if isinstance(connection, Conv):
        entry["type"] = _kind("conv")
        entry["inChannels"], entry["outChannels"] = weight.shape[1] * connection.groups, len(weight)
        entry["kernelSize"], entry["stride"] = _whole(connection.kernel), _whole(connection.stride)
        entry["padding"], entry["dilation"] = _whole(layer.padding), _whole(connection.dilation)
        entry["groups"] = connection.groups
    else:
        entry["type"] = _kind("dense")
        entry["inFeatures"], entry["outFeatures"] = weight.shape[1], len(weight)
    entry["weight"], entry["bias"] = weight, connection.bias.astype(np.int32)
    if layer.population is not None:
        _write_neuron(entry.create_group("neuron"), layer.population)


def _write_neuron(entry: h5py.Group, population: IF) -> None:
    """Lava's LIF without leak, and the additional datasets for soft reset.

    v_init is an integer and a half, thresholds and currents are integers: u >= v_threshold is the
    same with v_init floored, and the same as v > v_threshold - 1.
    """
    entry["type"] = np.bytes_("CUBA")
    entry["iDecay"], entry["vDecay"] = 4096, 0  # the current fades at once, the potential never
    entry["vThMant"] = _mantissa(population)
    entry["refDelay"], entry["gradedSpike"] = 1, False
    entry[V_THRESHOLD] = population.v_threshold.astype(np.int32)
    entry[V_INIT] = np.floor(population.v_init).astype(np.int32)


def _mantissa(population: IF) -> int:
    median = int(np.median(population.v_threshold))
    return min(median - 1, _MOST_THRESHOLD)


def _kind(name: str) -> Array:
    """A layer's type as lava-dl writes it."""
    return np.array([name], "S10")


def _text(value: str) -> Any:
    """A string of fixed length: bytes of variable-length ones depend on what else is written."""
    return np.bytes_(value.encode())


def _whole(values: tuple[int, ...]) -> Array:
    return np.array(values, np.int64)
