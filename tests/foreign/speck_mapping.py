"""In sinabs' environment: sequential networks through DynapcnnNetwork, and mappings of layers.

python speck_mapping.py NETWORK_JSON... prints, for each, the configuration of a torch Sequential of
the same layers; with --mappings FILE the cores that sinabs chooses for lists of core numbers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from icsnn_deploy.readers.speck_worker import recorded, replace_samna

replace_samna()

import torch  # noqa: E402 - sinabs is imported after samna is replaced
from sinabs.backend.dynapcnn import DynapcnnNetwork  # noqa: E402
from sinabs.backend.dynapcnn.chips import Speck2FConfigBuilder  # noqa: E402
from sinabs.backend.dynapcnn.mapping import (  # noqa: E402
    edmonds,
    make_flow_graph,
    recover_mapping,
)
from sinabs.layers import IAFSqueeze, SumPool2d  # noqa: E402

Speck2FConfigBuilder.validate_configuration = classmethod(lambda cls, config: True)


def sequential(network: dict[str, Any]) -> torch.nn.Sequential:
    modules: list[torch.nn.Module] = []
    for layer in network["layers"]:
        weight = torch.tensor(layer["weight"], dtype=torch.float32)
        conv = torch.nn.Conv2d(
            weight.shape[1],
            weight.shape[0],
            weight.shape[2],
            stride=tuple(layer["stride"]),
            padding=tuple(layer["padding"]),
        )
        conv.weight = torch.nn.Parameter(weight)
        conv.bias = torch.nn.Parameter(torch.tensor(layer["bias"], dtype=torch.float32))
        spiking = IAFSqueeze(batch_size=1, spike_threshold=layer["v_threshold"], min_v_mem=None)
        spiking.v_mem = torch.tensor([layer["v_init"]], dtype=torch.float32)
        modules += [conv, spiking]
        modules += [SumPool2d(r["pooling"]) for r in layer["routes"] if r["pooling"] > 1]
    return torch.nn.Sequential(*modules)


def configured(network: dict[str, Any]) -> list[dict[str, Any]]:
    chip = DynapcnnNetwork(
        sequential(network),
        input_shape=tuple(network["layers"][0]["input_shape"]),
        batch_size=1,
        discretize=False,
        dvs_input=False,
    )
    cores = {number: layer["core"] for number, layer in enumerate(network["layers"])}
    config, _ = chip._make_config(layer2core_map=cores, device="speck2fdevkit:0")
    return recorded(network, config)


def mapped(fits: list[list[int]]) -> list[int] | None:
    graph = make_flow_graph(fits, 9)
    try:
        cores: list[int] = recover_mapping(edmonds(graph, 0, len(graph) - 1), len(fits))
        return cores
    except ValueError:
        return None


if __name__ == "__main__":
    if sys.argv[1] == "--mappings":
        print(json.dumps([mapped(each) for each in json.loads(Path(sys.argv[2]).read_text())]))
    else:
        print(json.dumps([configured(json.loads(Path(f).read_text())) for f in sys.argv[1:]]))
