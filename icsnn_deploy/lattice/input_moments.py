"""Second moments of the inputs of affine nodes, over calibration samples."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Linear, Node
from icsnn_deploy.progress import tracked

_ROWS = 8192  # positions taken from all samples; neighbors are much alike
_ROWS_PER_BATCH = 4096
_EXACT = 1024  # inputs up to which products are summed in double precision
WHOLE = 8192  # inputs up to which all correlations are kept: a matrix of 512 MiB


def input_moments(network: Graph, context: CalibrationContext) -> dict[str, Array]:
    """Mean of x x^T over samples and positions, x the mean over time of a node's input patch.

    Returns:
        float64 [groups, K, K] for each Conv and Linear that is to be rounded, by name, K the row
        length of its weights.
        For K > WHOLE, [blocks, K / blocks, K / blocks] without correlations between blocks.
    """
    simulator = TorchSimulator(network, device=context.device)
    constant = network.constant_nodes()
    sums: dict[str, Array] = {}
    rows: dict[str, int] = {}

    batches = context.batch_count

    def collect(node: Node, sources: list[Tensor]) -> None:
        if not isinstance(node, (Conv, Linear)) or node.weight.dtype.kind == "i":
            return  # integers are not rounded
        x = sources[0]
        if node.inputs[0] not in constant:
            x = x.reshape(network.steps, -1, *x.shape[1:]).mean(dim=0)  # [B, *shape]
        patches = _patches(node, x, min(_ROWS_PER_BATCH, max(1, _ROWS // batches)))
        count = patches.shape[1]
        patches = _in_blocks(patches)  # [groups or blocks, M, K]
        patches = patches.double() if patches.shape[2] <= _EXACT else patches
        part = (patches.transpose(1, 2) @ patches).double().cpu().numpy()
        sums[node.name] = sums.get(node.name, 0.0) + part
        rows[node.name] = rows.get(node.name, 0) + count

    samples = context.samples.batches(context.batch_size)
    for batch in tracked(samples, "input moments", batches, context.progress):
        simulator.observe(context.encoder.inputs(batch), sources=collect)
    return {name: total / rows[name] for name, total in sums.items()}


def _patches(node: Conv | Linear, x: Tensor, most: int) -> Tensor:
    """At most `most` of the rows that the weights are multiplied with, [groups, M, K]."""
    if isinstance(node, Linear):
        return x.unsqueeze(0)
    kernel, stride, padding, dilation = node.kernel, node.stride, node.padding, node.dilation
    if len(kernel) == 1:  # treat a signal as an image of height 1
        x = x.unsqueeze(2)
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
        padding = ((0, 0), *padding)
    x = functional.pad(x, [n for pair in reversed(padding) for n in pair])
    windows = x
    for axis in (0, 1):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        windows = windows.unfold(axis + 2, reach, stride[axis])  # [B, C, H, W, *reach], a view
    windows = windows[..., :: dilation[0], :: dilation[1]]
    batch, _, height, width = windows.shape[:4]
    positions = batch * height * width
    picked = np.linspace(0, positions - 1, min(most, positions)).astype(np.int64)
    sample, row, column = np.unravel_index(picked, (batch, height, width))
    rows = windows[sample, :, row, column]  # [M, C, *kernel]
    return rows.reshape(len(picked), node.groups, -1).transpose(0, 1)


def _in_blocks(patches: Tensor) -> Tensor:
    """Long rows as blocks of one length, [groups * blocks, M, K / blocks]."""
    groups, count, length = patches.shape
    if length <= WHOLE:
        return patches
    blocks = next(n for n in range(-(-length // WHOLE * 8), length + 1) if length % n == 0)
    split = patches.reshape(groups, count, blocks, length // blocks)
    return split.transpose(1, 2).reshape(groups * blocks, count, -1)
