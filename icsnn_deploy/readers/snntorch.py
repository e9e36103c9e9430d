"""snnTorch: `import_from_nir`, with the neuron that the file describes.

Corrections of snnTorch 1.0.0:

- nir.IF becomes Leaky with beta = 0.9, a leak that IF does not have: beta = 1 (snntorch #416;
  #395 made it 0, #452 makes it 1, neither is released).
- Leaky returns spikes and potential, which the next module can't take, so that a forward pass
  raises: init_hidden = True keeps the potential inside.
- reset_delay = False is wrong if a potential stays above the threshold after a reset (snntorch #364
  is related): reset_delay = True, with which every step is exact. It takes a potential above the
  threshold for a spike of the last step, so such an initial potential is raised by one threshold.
- It prints while it imports: that is redirected to standard error.
- Initial potentials are 0 and must have the batch's size: `start` sets them.

snnTorch fires at u > v_threshold. In a portable file of an integer network no potential is an
integer, so that this is the same as u >= v_threshold; for a float network, ties may differ.
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
    """Load a NIR file as snnTorch's module, which is called once per step as `module(x, state)`.

    Args:
        path: of a file of profile portable.

    Raises:
        BackendUnavailableError: snnTorch is not installed, or in an untested version.
        ExportError: the file can't be read, or snnTorch does not support it.
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
    """Set the initial potentials of `batch` samples; returns the state for the first step."""
    for population, leaky in populations_of(module).values():
        v_init = initial(population, batch)
        subtracted = leaky.threshold * (v_init > leaky.threshold)  # by snnTorch in the first step
        leaky.mem = v_init + subtracted
    return None


run = step_by_step(start)
