"""SpikingJelly: `import_from_nir`, with soft reset and initial potentials.

Corrections of SpikingJelly 2.0.0:

- nir.IF becomes an IFNode that resets to v_reset, like newer NIR specifications (neuromorphs/NIR
  #63, #129, #137; spikingjelly #728 refuses to export soft reset): v_reset = None subtracts.
- Its default dt is 1e-4 and it refuses r other than 1 / dt: dt = 1.
- Initial potentials are v_reset: `start` sets them.

It fires at u >= v_threshold, as it should.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from icsnn_deploy.readers.nir_file import read_file
from icsnn_deploy.readers.step_runner import attach, initial, populations_of, step_by_step
from icsnn_deploy.readers.versions import require


def load(path: str | os.PathLike[str]) -> torch.nn.Module:
    """Load a NIR file as SpikingJelly's module, called once per step as `module(x, state)`.

    Args:
        path: of a file of profile portable.

    Raises:
        BackendUnavailableError: SpikingJelly is not installed, or in an untested version.
        ExportError: the file can't be read, or SpikingJelly does not support it.
    """
    require("spikingjelly")
    file = read_file(path, "spikingjelly")
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    module = attach(import_from_nir(file.network, dt=1.0), file)
    for _, node in populations_of(module).values():
        node.module.v_reset = None
    return module


def start(module: torch.nn.Module, batch: int) -> Any:
    """Set the initial potentials of `batch` samples; returns the state for the first step."""
    for population, node in populations_of(module).values():
        node.module.v = initial(population, batch)
    return None


run = step_by_step(start)
