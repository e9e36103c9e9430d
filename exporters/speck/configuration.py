"""The two descriptions of the cores: as sinabs takes them, and as it writes them for the chip.

network.json   kernels, parameters and routes by layer, from which program.py makes sinabs' layers
speck.json     the values of samna's configuration, core by core: weights [out][in][x][y],
               neurons_initial_value [out][x][y]; and feature_shift, which sinabs leaves at 0
"""

from __future__ import annotations

from typing import Any

from icsnn_deploy.exporters.speck.connections import bias_into, connections_into
from icsnn_deploy.exporters.speck.cores import Core, Route, cores_of
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.version import __version__

CHIP = "speck2f"
V_MIN = -(2**15)
"""What sinabs writes where a potential has no lower bound."""


def describe(graph: Graph) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of network.json and of speck.json.

    Raises:
        ExportError: the network has no kernels that a core holds.
    """
    cores, inputs = cores_of(graph)
    numbers = {core.layer: core.number for core in cores}
    head = {
        "producer": f"icsnn-deploy {__version__}",
        "graph_hash": graph.hash(),
        "chip": CHIP,
        "time_steps": graph.steps,
    }
    network = {
        **head,
        "input": [_route(route, numbers) for route in inputs],
        "layers": [_layer(core, numbers) for core in cores],
        "readout": _readout(graph),
    }
    return network, {**head, "cores": [_core(core, numbers) for core in cores]}


def _route(route: Route, numbers: dict[str, int]) -> dict[str, Any]:
    return {
        "layer": route.layer,
        "core": numbers[route.layer],
        "pooling": route.pool,
        "feature_shift": route.first_channel,
    }


def _layer(core: Core, numbers: dict[str, int]) -> dict[str, Any]:
    return {
        "layer": core.layer,
        "core": core.number,
        "input_shape": list(core.input_shape),
        "weight": core.weight.tolist(),
        "bias": core.bias.tolist(),
        "stride": list(core.stride),
        "padding": list(core.padding),
        "v_threshold": core.v_threshold,
        "v_init": core.v_init.tolist(),
        "hard_reset": core.hard_reset,
        "routes": [_route(route, numbers) for route in core.routes],
        "is_read": core.is_read,
    }


def _core(core: Core, numbers: dict[str, int]) -> dict[str, Any]:
    channels, height, width = core.input_shape
    features, rows, columns = core.v_init.shape
    return {
        "core": core.number,
        "layer": core.layer,
        "dimensions": {
            "input_shape": {"size": {"x": width, "y": height}, "feature_count": channels},
            "output_shape": {"size": {"x": columns, "y": rows}, "feature_count": features},
            "padding": {"x": core.padding[1], "y": core.padding[0]},
            "stride": {"x": core.stride[1], "y": core.stride[0]},
            "kernel_size": core.weight.shape[2],
        },
        "weights": core.weight.transpose(0, 1, 3, 2).tolist(),
        "biases": core.bias.tolist(),
        "leak_enable": bool(core.bias.any()),
        "return_to_zero": core.hard_reset,
        "threshold_high": core.v_threshold,
        "threshold_low": V_MIN,
        "neurons_initial_value": core.v_init.transpose(0, 2, 1).tolist(),
        "monitor_enable": core.is_read,
        "destinations": [
            {
                "layer": numbers[route.layer],
                "enable": True,
                "pooling": route.pool,
                "feature_shift": route.first_channel,
            }
            for route in core.routes
        ],
    }


def _readout(graph: Graph) -> dict[str, Any]:
    """What the host applies to spike counts: logits = (sum of connections + steps bias) / steps."""
    return {
        "steps": graph.steps - graph.readout_start,
        "after_step": graph.readout_start,
        "bias": bias_into(graph, graph.output).tolist(),
        "connections": [
            {
                "layer": each.source,
                "pooling": each.pool,
                "weight": each.weight.tolist(),
                "stride": list(each.stride),
                "padding": list(each.padding),
            }
            for each in connections_into(graph, graph.output)
        ],
    }
