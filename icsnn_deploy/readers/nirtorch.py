"""nirtorch: `nir_to_torch`, with modules where nirtorch's own are missing or wrong.

Corrections of nirtorch 2.6:

- It has no neuron model: IF is one step with soft reset here, starting at the initial potentials.
- Its module for nir.Affine stores the bias under another name and keeps a random one (NIRTorch #55
  corrects it, but is not released).
- Its module for nir.Conv2d swaps input and output channels, which is visible in its repr only.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.readers.nir_file import NirFile, read_file
from icsnn_deploy.readers.step_runner import attach, step_by_step
from icsnn_deploy.readers.versions import require


class SoftIF(torch.nn.Module):
    """Integrate and fire: u = v + I, a spike where u >= v_threshold, v = u - v_threshold s.

    Args:
        v_threshold: [*shape].
        v_init: [*shape].
    """

    v_threshold: torch.Tensor
    v_init: torch.Tensor

    def __init__(self, v_threshold: Array, v_init: Array) -> None:
        super().__init__()
        self.register_buffer("v_threshold", torch.from_numpy(v_threshold))
        self.register_buffer("v_init", torch.from_numpy(v_init))

    def forward(
        self, current: torch.Tensor, state: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        u = (self.v_init if state is None else state) + current  # [B, *shape]
        spikes = (u >= self.v_threshold).to(u.dtype)
        return spikes, u - self.v_threshold * spikes


def load(path: str | os.PathLike[str]) -> torch.nn.Module:
    """Load a NIR file as nirtorch's module, which is called once per step as `module(x, state)`.

    Args:
        path: of a file of profile portable.

    Raises:
        BackendUnavailableError: nirtorch is not installed, or in an untested version.
        ExportError: the file can't be read, or holds a node that has no module.
    """
    require("nirtorch")
    file = read_file(path, "nirtorch")
    import nirtorch

    return attach(nirtorch.nir_to_torch(file.network, _node_map(file)), file)


def start(module: torch.nn.Module, batch: int) -> Any:
    """The state for the first step."""
    return None


run = step_by_step(start)


def _node_map(file: NirFile) -> dict[type, Any]:
    """A module for each type of node whose default is wrong or missing."""
    import nir

    v_init = {id(file.network.nodes[p.key]): p.v_init for p in file.populations}
    return {
        nir.IF: lambda node: SoftIF(node.v_threshold, v_init[id(node)]),
        nir.Affine: _affine,
        nir.Conv2d: _conv,
    }


def _affine(node: Any) -> torch.nn.Linear:
    module = torch.nn.Linear(node.weight.shape[1], node.weight.shape[0])
    module.weight.data = torch.from_numpy(node.weight)
    module.bias.data = torch.from_numpy(node.bias)
    return module


def _conv(node: Any) -> torch.nn.Conv2d:
    outputs, inputs = node.weight.shape[:2]
    module = torch.nn.Conv2d(
        inputs * int(node.groups),
        outputs,
        kernel_size=node.weight.shape[2:],
        stride=_sizes(node.stride),
        padding=_sizes(node.padding),
        dilation=_sizes(node.dilation),
        groups=int(node.groups),
    )
    module.weight = torch.nn.Parameter(torch.from_numpy(node.weight))
    module.bias = torch.nn.Parameter(torch.from_numpy(node.bias))
    return module


def _sizes(value: Any) -> tuple[int, int]:
    height, width = np.broadcast_to(value, 2)
    return int(height), int(width)
