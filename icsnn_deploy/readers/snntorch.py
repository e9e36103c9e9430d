"""snnTorch: its `import_from_nir` with the neuron that the file means.

What is corrected of snnTorch 1.0.0:

- nir.IF becomes Leaky with beta = 0.9, a leak that IF does not have: beta = 1 (snntorch #416;
  #395 made it 0, #452 makes it 1, neither is released).
- The Leaky returns spikes and potential, which the next module can't take, so that a forward pass
  ends in an error: init_hidden = True keeps the potential inside.
- reset_delay = False goes wrong where a potential stays above the threshold after a reset (of its
  kind: snntorch #364): reset_delay = True, with which every step is exact. It takes what lies above
  the threshold for the last step's spike, so that an initial potential there is raised by one.
- It prints as it imports: that goes to standard error.
- Initial potentials are 0 and have to be of the batch's size: `start` sets them.

It fires at u > v_threshold. A portable file of an integer network has its potentials between the
integers, where this is the same as u >= v_threshold; of a float network, ties may differ.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from typing import Any

import torch

from icsnn_deploy.readers.nir_file import read_file
from icsnn_deploy.readers.step_runner import attach, initial, populations_of, step_by_step
from icsnn_deploy.readers.versions import require


def load(path: str | os.PathLike[str]) -> torch.nn.Module:
    """snnTorch's module of a NIR file, called as `module(x, state)` once a step.

    Args:
        path: of a file of profile portable.

    Raises:
        BackendUnavailableError: snnTorch is not here, or in a version that was not tested.
        ExportError: a file that can't be read, or that snnTorch can't hold.
    """
    require("snntorch")
    file = read_file(path, "snntorch")
    from snntorch.import_nir import import_from_nir

    with redirect_stdout(sys.stderr):
        module = attach(import_from_nir(file.network), file)
    for _, leaky in populations_of(module).values():
        leaky.init_hidden = True
        leaky.beta = torch.ones_like(leaky.beta)
        leaky.reset_delay = True
    return module


def start(module: torch.nn.Module, batch: int) -> Any:
    """Set the initial potentials for so many samples; returns the state for the first step."""
    for population, leaky in populations_of(module).values():
        v_init = initial(population, batch)
        spent = leaky.threshold * (v_init > leaky.threshold)
        leaky.mem = v_init + spent
    return None


run = step_by_step(start)
