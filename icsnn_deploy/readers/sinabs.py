"""sinabs: `from_nir`, with one spike per step, unbounded and initial potentials, and in order.

Corrections of sinabs 3.1.3:

- nir.IF becomes an IAF that may send several spikes per step: spike_fn = SingleSpike.
- Its potential is clipped at -v_threshold: min_v_mem = None.
- Initial potentials are 0: `run` sets them.
- It loads through nirtorch's older executor, which may sum incompletely: see executor.py.
- nir.AvgPool2d and nir.Linear are silently dropped: refused here; a portable file has none.
- It needs nir <= 1.0.4 (sinabs #102 on NIR's formats), which has no v_reset; a portable file has
  none either.

It fires at u >= v_threshold and subtracts the threshold, as it should. Its module takes all steps
at once, as [B T, *shape]: the steps of the first sample before those of the second.
"""

from __future__ import annotations

import os

import torch

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.readers.executor import put_in_order
from icsnn_deploy.readers.nir_file import read_file
from icsnn_deploy.readers.step_runner import (
    attach,
    file_of,
    initial,
    populations_of,
    recorded,
    recording,
    stepped_inputs,
)
from icsnn_deploy.readers.versions import require


def load(path: str | os.PathLike[str]) -> torch.nn.Module:
    """Load a NIR file as sinabs' module, which is called once with all steps, [B T, *shape].

    Args:
        path: of a file of profile portable.

    Raises:
        BackendUnavailableError: sinabs is not installed, or in an untested version.
        ExportError: the file can't be read, or sinabs does not support it.
    """
    require("sinabs")
    file = read_file(path, "sinabs")
    import sinabs.nir
    from sinabs.activation import SingleSpike

    module: torch.nn.Module = sinabs.nir.from_nir(
        file.network, num_timesteps=file.header.time_steps
    )
    attach(module, file)
    put_in_order(module, file)
    for _, layer in populations_of(module).values():
        layer.spike_fn = SingleSpike
        layer.min_v_mem = None
    return module


def start(module: torch.nn.Module, batch: int) -> None:
    """Set the initial potentials of `batch` samples."""
    for population, layer in populations_of(module).values():
        layer.v_mem = initial(population, batch)


def run(module: torch.nn.Module, inputs: Array) -> Recording:
    """Run a batch from the initial potentials; records the logits and all spikes.

    Args:
        module: made by `load`.
        inputs: [B, *shape], or [T, B, *shape] for rate and event input.
    """
    x = stepped_inputs(file_of(module), inputs)
    steps, batch = x.shape[:2]
    with torch.no_grad(), recorded(module) as calls:
        start(module, batch)
        result, _ = module(x.transpose(0, 1).flatten(0, 1))  # [B T, *shape]

    def by_step(flat: torch.Tensor) -> torch.Tensor:
        return flat.reshape(batch, steps, *flat.shape[1:]).transpose(0, 1)  # [T, B, *shape]

    spikes = {name: by_step(call) for name, (call,) in calls.items()}
    return recording(module, by_step(result), spikes)
