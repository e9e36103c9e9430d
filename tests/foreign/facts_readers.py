"""What the readers do by themselves, as JSON; run in their environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from nirtorch import nir_interpreter
from norse.torch.functional.reset import reset_subtract
from norse.torch.utils.import_nir import _import_norse_module
from snntorch.import_nir import _nir_to_snntorch_module
from spikingjelly.activation_based.nir_exchange import import_from_nir

from icsnn_deploy.readers.simulator import ReaderSimulator

NEURON = nir.IF(r=np.ones(1), v_threshold=np.full(1, 4.0), v_reset=np.zeros(1))
POOL = nir.AvgPool2d(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.zeros(2))
CURRENTS = [4.0, 8.0, 2.0, 0.0]  # a tie; two thresholds at once; what is left of them


def sent(step: Any) -> list[int]:
    """The spikes of one neuron that gets CURRENTS; `step` takes a current and gives a spike."""
    with torch.no_grad():
        return [int(step(torch.full((1, 1), current))) for current in CURRENTS]


def snntorch() -> dict[str, Any]:
    leaky = _nir_to_snntorch_module(NEURON)
    result = leaky(torch.zeros(1, 1))
    soft = _nir_to_snntorch_module(NEURON)
    soft.beta, soft.init_hidden = torch.ones(()), True
    delayed = _nir_to_snntorch_module(NEURON)
    delayed.beta, delayed.init_hidden, delayed.reset_delay = torch.ones(()), True, True
    return {
        "beta": round(float(leaky.beta), 6),
        "returns_a_tuple": isinstance(result, tuple),
        "reset_delay": leaky.reset_delay,
        "without_reset_delay": sent(soft),
        "with_reset_delay": sent(delayed),
    }


def spikingjelly() -> dict[str, Any]:
    nodes = {
        "input": nir.Input(np.array([1])),
        "neuron": NEURON,
        "output": nir.Output(np.array([1])),
    }
    graph = nir.NIRGraph(nodes, [("input", "neuron"), ("neuron", "output")])
    try:
        import_from_nir(graph)
        refused = ""
    except ValueError as error:
        refused = str(error)
    node = import_from_nir(graph, dt=1.0).neuron.module
    return {"refused": refused, "v_reset": node.v_reset, "hard": sent(node)}


def norse() -> dict[str, Any]:
    def spikes(cell: Any) -> list[int]:
        state = None

        def step(current: torch.Tensor) -> torch.Tensor:
            nonlocal state
            spike: torch.Tensor
            spike, state = cell(current, state)
            return spike

        return sent(step)

    return {
        "hard": spikes(_import_norse_module(NEURON)),
        "asked_to_subtract": spikes(_import_norse_module(NEURON, reset_method=reset_subtract)),
        "pool": str(_import_norse_module(POOL)),
    }


def nirtorch() -> dict[str, Any]:
    affine = nir.Affine(weight=np.ones((2, 3)), bias=np.array([7.0, -9.0]))
    conv = nir.Conv2d(
        input_shape=(4, 4),
        weight=np.ones((5, 3, 1, 1)),
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=np.zeros(5),
    )
    bias = nir_interpreter._default_map_affine(affine).bias.data
    return {
        "keeps_the_bias": bool(np.allclose(bias, affine.bias)),
        "conv_inputs": nir_interpreter._default_map_conv2d(conv).in_channels,
        "has_a_neuron": nir.IF in nir_interpreter.DEFAULT_MAP,
    }


def in_this_process(file: Path, inputs: Path) -> dict[str, Any]:
    """The backend where the reader is installed: no worker."""
    simulator = ReaderSimulator(file, "nirtorch")
    recording = simulator.run(np.load(inputs))
    return {
        "worker": simulator._python is not None,
        "spikes": {name: int(spikes.sum()) for name, spikes in recording.spikes.items()},
    }


def main() -> None:
    facts = {f.__name__: f() for f in (snntorch, spikingjelly, norse, nirtorch)}
    facts["here"] = in_this_process(Path(sys.argv[1]), Path(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
