"""norse: `from_nir`, with soft reset, initial potentials and a topological execution order.

Corrections of norse 1.1.0:

- nir.IF becomes an IAFCell that resets to 0, whatever `reset_method` is (neuromorphs/NIR #63, #129,
  #137 discuss which reset NIR means): its step is replaced.
- It loads through nirtorch's older executor, which may sum incompletely: see executor.py.
- nir.AvgPool2d is silently dropped (norse #418, #438 discuss what is mapped): refused here; a
  portable file has none.
- Initial potentials are 0: `start` sets them.

norse fires at u > v_threshold. In a portable file of an integer network no potential is an integer,
so that this is the same as u >= v_threshold; for a float network, ties may differ.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from icsnn_deploy.readers.executor import put_in_order
from icsnn_deploy.readers.nir_file import read_file
from icsnn_deploy.readers.step_runner import attach, initial, populations_of, step_by_step
from icsnn_deploy.readers.versions import require


def load(path: str | os.PathLike[str]) -> torch.nn.Module:
    """Load a NIR file as norse's module, which is called once per step as `module(x, state)`.

    Args:
        path: of a file of profile portable.

    Raises:
        BackendUnavailableError: norse is not installed, or in an untested version.
        ExportError: the file can't be read, or norse does not support it.
    """
    require("norse")
    file = read_file(path, "norse")
    import norse.torch

    module = attach(norse.torch.from_nir(file.network), file)
    put_in_order(module, file)
    for _, cell in populations_of(module).values():
        cell.activation = _soft_step
    return module


def start(module: torch.nn.Module, batch: int) -> Any:
    """The state for the first step, with the initial potentials of `batch` samples."""
    from nirtorch.graph_executor import GraphExecutorState
    from norse.torch.functional.iaf import IAFFeedForwardState

    return GraphExecutorState(
        state={
            population.key: (IAFFeedForwardState(v=initial(population, batch)),)
            for population, _ in populations_of(module).values()
        }
    )


run = step_by_step(start)


def _soft_step(current: torch.Tensor, state: Any, p: Any, dt: float) -> tuple[torch.Tensor, Any]:
    """norse's step of an IAF neuron, but a spike subtracts the threshold."""
    from norse.torch.functional.iaf import IAFFeedForwardState
    from norse.torch.functional.threshold import threshold

    u = state.v + current
    spikes = threshold(u - p.v_th, p.method, p.alpha)
    return spikes, IAFFeedForwardState(v=u - spikes * p.v_th)
