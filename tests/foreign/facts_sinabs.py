"""What sinabs and the executor of nirtorch do by themselves, as JSON; run in their environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nir
import numpy as np
import sinabs.nir
import torch
from sinabs.nir import _import_sinabs_module

NEURON = nir.IF(r=np.ones(1, np.float32), v_threshold=np.full(1, 4, np.float32))
POOL = nir.AvgPool2d(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.zeros(2))


def neuron() -> dict[str, Any]:
    layer = _import_sinabs_module(NEURON, batch_size=1, num_timesteps=4)
    currents = torch.tensor([4.0, 9.0, -9.0, 6.0]).reshape(4, 1)
    with torch.no_grad():
        spikes = layer(currents).flatten().tolist()
    return {
        "layer": type(layer).__name__,
        "spike_fn": layer.spike_fn.__name__,
        "min_v_mem": float(layer.min_v_mem),
        "spikes": [int(spike) for spike in spikes],
    }


def dropped() -> list[str]:
    """Types of nodes that it makes no module of."""
    nodes = (POOL, nir.Linear(weight=np.ones((1, 1))), nir.Affine(np.ones((1, 1)), np.ones(1)))
    return [type(node).__name__ for node in nodes if _import_sinabs_module(node, 1, 1) is None]


def order() -> list[str]:
    """How a sum of a main path and a shortcut, each with a connection, is run."""
    one = np.ones((1, 1), np.float32)
    nodes = {
        "input": nir.Input(np.array([1])),
        "main": nir.Affine(one, np.zeros(1)),
        "shortcut": nir.Affine(one, np.zeros(1)),
        "join": NEURON,
        "output": nir.Output(np.array([1])),
    }
    edges = [
        ("input", "main"),
        ("main", "join"),
        ("input", "shortcut"),
        ("shortcut", "join"),
        ("join", "output"),
    ]
    module = sinabs.nir.from_nir(nir.NIRGraph(nodes, edges), num_timesteps=1)
    return [node.name for node in module.execution_order]


def main() -> None:
    facts = {"neuron": neuron(), "dropped": dropped(), "order": order()}
    Path(sys.argv[1]).write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
