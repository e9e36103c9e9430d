"""Second moments of what the affine nodes of a network receive, over calibration samples."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.conversion.calibration import CalibrationSet
from icsnn_deploy.graph import Graph
from icsnn_deploy.neuron import Array
from icsnn_deploy.nodes import Conv, Linear, Node
from icsnn_deploy.progress import Progress, silent, tracked
from icsnn_deploy.simulate.torch import TorchSimulator

_ROWS = 4096  # positions taken of one batch; neighbors say much the same


def input_moments(
    network: Graph,
    calibration: CalibrationSet,
    *,
    batch_size: int,
    device: str = "cpu",
    progress: Progress = silent,
) -> dict[str, Array]:
    """Mean of x x^T over samples and positions, x the mean over time of a node's input patch.

    Returns:
        float64 [groups, K, K] for each Conv and Linear, K the row length of its weights.
    """
    simulator = TorchSimulator(network, device=device)
    steady = network.steady()
    sums: dict[str, Array] = {}
    rows: dict[str, int] = {}

    def collect(node: Node, sources: list[Tensor]) -> None:
        if not isinstance(node, (Conv, Linear)):
            return
        x = sources[0]
        if node.inputs[0] not in steady:
            x = x.reshape(network.steps, -1, *x.shape[1:]).mean(dim=0)  # [B, *shape]
        patches = _patches(node, x).double()  # [groups, M, K]
        part = (patches.transpose(1, 2) @ patches).cpu().numpy()
        sums[node.name] = sums.get(node.name, 0.0) + part
        rows[node.name] = rows.get(node.name, 0) + patches.shape[1]

    batches = -(-len(calibration) // batch_size)
    for batch in tracked(calibration.batches(batch_size), "input moments", batches, progress):
        simulator.observe(batch, sources=collect)
    return {name: total / rows[name] for name, total in sums.items()}


def _patches(node: Conv | Linear, x: Tensor) -> Tensor:
    """The rows that the weights are multiplied with, [groups, M, K]."""
    if isinstance(node, Linear):
        return x.unsqueeze(0)
    kernel, stride, padding, dilation = node.kernel, node.stride, node.padding, node.dilation
    if len(kernel) == 1:  # a signal is an image of height 1
        x = x.unsqueeze(2)
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
        padding = ((0, 0), *padding)
    x = functional.pad(x, [n for pair in reversed(padding) for n in pair])
    columns = functional.unfold(x, kernel, dilation=dilation, stride=stride)  # [B, C K, P]
    batch, _, positions = columns.shape
    flat = columns.reshape(batch, node.groups, -1, positions).permute(1, 0, 3, 2)  # [g, B, P, K]
    flat = flat.reshape(node.groups, batch * positions, -1)
    picked = np.linspace(0, flat.shape[1] - 1, min(_ROWS, flat.shape[1])).astype(np.int64)
    return flat[:, torch.from_numpy(picked).to(flat.device)]
